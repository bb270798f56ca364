"""Philox4x32-10 on the CPU, compiled by Numba; what it is and its constants are in `ldnn_core.philox`.

Loops over blocks are vectorised: the four numbers of a block lie Q apart, so that blocks write side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, cast, numbers, put

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_SHIFT, _ONE, _CENTRE = np.uint64(9), np.uint64(1), np.int32(1 - 2**23)


@njit(fastmath=FAST_MATH, boundscheck=False, error_model="numpy")
def _round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    first, second = _M0 * c0, _M1 * c2
    return (second >> _HALF) ^ c1 ^ k0, second & _MASK, (first >> _HALF) ^ c3 ^ k1, first & _MASK


@njit(fastmath=FAST_MATH, boundscheck=False, error_model="numpy")
def _number(word, scale):  # type: ignore[no-untyped-def]
    """The number of a word: an odd integer within ± 2²³, scaled."""
    return cast(np.int32((word >> _SHIFT) << _ONE) + _CENTRE, scale) * scale


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def uniform_noise(one, noise, keys, streams, blocks, step, layer, scale):  # type: ignore[no-untyped-def]
    """Set noise (S, 4, Q) from keys (S,) int64; both come as addresses, ``one`` is a 1 of the type of the noise."""
    noise, keys, scale = numbers(noise, one), numbers(keys, np.int64(0)), cast(scale, one)
    step, layer = np.uint64(step), np.uint64(layer)
    for n in range(streams):
        key, start = np.uint64(keys[n]), 4 * n * blocks
        for j in range(blocks):
            c0, c1, c2, c3 = np.uint64(j), step, layer, np.uint64(0)
            k0, k1 = key & _MASK, key >> _HALF
            for _ in range(10):
                c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
                k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
            put(noise, start + j, _number(c0, scale))
            put(noise, start + blocks + j, _number(c1, scale))
            put(noise, start + 2 * blocks + j, _number(c2, scale))
            put(noise, start + 3 * blocks + j, _number(c3, scale))
