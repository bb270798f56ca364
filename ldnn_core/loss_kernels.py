"""Softmax cross-entropy on the CPU, compiled by Numba; the formulas are in `ldnn_core.losses`.

The exponential itself is left to torch between two kernels, as Numba's is not vectorised without SVML.
Shapes: N networks, B batch, C classes.  Tensors come as addresses: ``y`` (N or 1, B) int64, ``own`` being B where each
network has targets of its own, else 0; ``at_target`` (N, B); ``loss`` (N,); all others (N, B, C).  ``one`` is a 1 of
the type of all numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, cast, get, numbers, put


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def shift(one, z, y, own, networks, batch, classes, shifted, at_target):  # type: ignore[no-untyped-def]
    """Set shifted to z less the largest of its row, at_target to that of the right class; False if none is."""
    z, y, shifted, at_target = numbers(z, one), numbers(y, np.int64(0)), numbers(shifted, one), numbers(at_target, one)
    for n in range(networks):
        for b in range(batch):
            row, target = (n * batch + b) * classes, get(y, n * own + b)
            if not 0 <= target < classes:
                return False
            highest = get(z, row)
            for c in range(1, classes):
                highest = max(highest, get(z, row + c))
            for c in range(classes):
                put(shifted, row + c, get(z, row + c) - highest)
            put(at_target, n * batch + b, get(z, row + target) - highest)
    return True


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope(one, e, y, own, networks, batch, classes, at_target, loss, slope):  # type: ignore[no-untyped-def]
    """From e = exp(shifted) set slope to (softmax - onehot) / B, and loss."""
    e, y, at_target = numbers(e, one), numbers(y, np.int64(0)), numbers(at_target, one)
    loss, slope = numbers(loss, one), numbers(slope, one)
    share, zero = cast(1 / batch, one), one - one
    for n in range(networks):
        total = 0.0
        for b in range(batch):
            row, row_sum = (n * batch + b) * classes, zero
            for c in range(classes):
                row_sum += get(e, row + c)
            factor = share / row_sum
            for c in range(classes):
                put(slope, row + c, get(e, row + c) * factor)
            slope[row + get(y, n * own + b)] -= share
            total += np.log(row_sum) - get(at_target, n * batch + b)
        loss[n] = total / batch


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def slope_jvp(one, e, dz, y, own, networks, batch, classes, slope, tangent):  # type: ignore[no-untyped-def]
    """From e = exp(shifted) set slope as `value_slope` does and tangent to p ∘ (dz - ⟨p, dz⟩) / B with p = softmax."""
    e, dz, y, slope, tangent = (
        numbers(e, one),
        numbers(dz, one),
        numbers(y, np.int64(0)),
        numbers(slope, one),
        numbers(tangent, one),
    )
    share, zero = cast(1 / batch, one), one - one
    for n in range(networks):
        for b in range(batch):
            row, row_sum, mean = (n * batch + b) * classes, zero, zero
            for c in range(classes):
                row_sum += get(e, row + c)
                mean += get(e, row + c) * get(dz, row + c)
            mean /= row_sum
            factor = share / row_sum
            for c in range(classes):
                part = get(e, row + c) * factor
                put(slope, row + c, part)
                put(tangent, row + c, part * (get(dz, row + c) - mean))
            slope[row + get(y, n * own + b)] -= share
