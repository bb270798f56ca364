"""RMSprop and its cotangents in one pass over memory, compiled by Numba; the formulas are in `ldnn_core.optimizers`.

Shapes: N networks, Θ parameters of each.  All arrays (N, Θ), contiguous and of one type; ``rate`` (N,).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, get, put


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def rmsprop(p, s, g, rate, decay, epsilon, tiny, new_p, new_s):  # type: ignore[no-untyped-def]
    """Set new_p and new_s to the parameters and the squared-gradient average after a step."""
    real = p.dtype.type
    decay, rest, epsilon, tiny = real(decay), real(1 - decay), real(epsilon), real(tiny)
    networks, size = p.shape
    for n in range(networks):
        lr = rate[n]
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            square = decay * get(s, k) + rest * gradient * gradient
            put(new_s, k, square)
            put(new_p, k, get(p, k) - lr * gradient / (np.sqrt(square + tiny) + epsilon))


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def rmsprop_vjp(s, g, rate, decay, epsilon, tiny, p_bar, new_s_bar, s_bar, g_bar):  # type: ignore[no-untyped-def]
    """Set s_bar and g_bar, given the cotangents of the parameters and the average after a step."""
    real = s.dtype.type
    decay, rest, epsilon, tiny = real(decay), real(1 - decay), real(epsilon), real(tiny)
    half, two = real(0.5), real(2)
    networks, size = s.shape
    for n in range(networks):
        lr = rate[n]
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            root = np.sqrt(decay * get(s, k) + rest * gradient * gradient + tiny)
            moved = lr * get(p_bar, k) / (root + epsilon)
            square_bar = get(new_s_bar, k) + half * moved / (root + epsilon) * gradient / root
            put(s_bar, k, decay * square_bar)
            put(g_bar, k, two * rest * gradient * square_bar - moved)
