"""Softmax cross-entropy on the CPU, compiled by Numba; the formulas are in `ldnn_core.losses`.

The exponential itself is left to torch between two kernels, as Numba's is not vectorised without SVML.
Shapes: N networks, B batch, C classes.  ``z`` (N, B, C), ``y`` (N or 1, B) int64; all contiguous.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, get, put


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def shift(z, y, shifted, at_target):  # type: ignore[no-untyped-def]
    """Set shifted to z less the largest of its row, at_target (N, B) to that of the right class; False if none is."""
    networks, batch, classes = z.shape
    for n in range(networks):
        own = n if len(y) > 1 else 0
        for b in range(batch):
            row, target = (n * batch + b) * classes, y[own, b]
            if not 0 <= target < classes:
                return False
            highest = get(z, row)
            for c in range(1, classes):
                highest = max(highest, get(z, row + c))
            for c in range(classes):
                put(shifted, row + c, get(z, row + c) - highest)
            at_target[n, b] = z[n, b, target] - highest
    return True


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def finish(e, y, at_target, loss):  # type: ignore[no-untyped-def]
    """Turn e = exp(shifted) into (softmax - onehot) / B, and set loss (N,)."""
    networks, batch, classes = e.shape
    share = e.dtype.type(1 / batch)
    for n in range(networks):
        own = n if len(y) > 1 else 0
        total = 0.0
        for b in range(batch):
            row_sum = e.dtype.type(0)
            for c in range(classes):
                row_sum += e[n, b, c]
            factor = share / row_sum
            for c in range(classes):
                e[n, b, c] *= factor
            e[n, b, y[own, b]] -= share
            total += np.log(row_sum) - at_target[n, b]
        loss[n] = total / batch


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def finish_tangent(e, dz):  # type: ignore[no-untyped-def]
    """Turn e = exp(shifted) into p ∘ (dz - ⟨p, dz⟩) / B with p = softmax."""
    networks, batch, classes = e.shape
    share = e.dtype.type(1 / batch)
    for n in range(networks):
        for b in range(batch):
            row_sum, mean = e.dtype.type(0), e.dtype.type(0)
            for c in range(classes):
                row_sum += e[n, b, c]
                mean += e[n, b, c] * dz[n, b, c]
            mean /= row_sum
            factor = share / row_sum
            for c in range(classes):
                e[n, b, c] *= factor * (dz[n, b, c] - mean)
