"""Fused look-ups in Hermite tables on the CPU, compiled by Numba on first use and cached on disk.

Same mathematics as the eager path in `ldnn_core.hermite`, which the tests hold them against.
Shapes: N networks, B batch, H units, F functions, G knots.  ``a`` (N, B, H); ``table`` (F · G · 2,) holds value
and slope × spacing of each knot; ``start`` (N, H) int32 says where the function of a unit begins in the table.
The constants are bound to the element type first: a Python float in the loop would turn float32 into float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# "nnan" and "ninf" are left out: NaN and infinity must stay what they are, so that divergence is seen.
_FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope(a, table, start, knots, x_min, inv_h, y, dy):  # type: ignore[no-untyped-def]
    """Set y = σ(a) and dy = σ'(a)."""
    real = a.dtype.type
    zero, one, two, three, last = real(0), real(1), real(2), real(3), real(knots - 2)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                t = (a[n, b, k] - x_min) * inv_h
                i = np.int32(max(min(t, last), zero))
                u = t - real(i)
                inside = max(min(u, one), zero)
                beyond = u - inside  # straight lines outside the table; NaN and infinity pass through here
                j = np.uint32(start[n, k] + i * np.int32(2))
                v0, s0 = table[j], table[j + np.uint32(1)]
                v1, s1 = table[j + np.uint32(2)], table[j + np.uint32(3)]
                rise = v1 - v0
                c2 = three * rise - two * s0 - s1
                c3 = s0 + s1 - two * rise
                slope = s0 + inside * (two * c2 + three * c3 * inside)
                y[n, b, k] = v0 + inside * (s0 + inside * (c2 + inside * c3)) + slope * beyond
                dy[n, b, k] = slope * inv_h


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope_curvature(a, table, start, knots, x_min, inv_h, y, dy, ddy):  # type: ignore[no-untyped-def]
    """Set y = σ(a), dy = σ'(a) and ddy = σ''(a)."""
    real = a.dtype.type
    zero, one, two, three, last = real(0), real(1), real(2), real(3), real(knots - 2)
    six = real(6)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                t = (a[n, b, k] - x_min) * inv_h
                i = np.int32(max(min(t, last), zero))
                u = t - real(i)
                inside = max(min(u, one), zero)
                beyond = u - inside
                j = np.uint32(start[n, k] + i * np.int32(2))
                v0, s0 = table[j], table[j + np.uint32(1)]
                v1, s1 = table[j + np.uint32(2)], table[j + np.uint32(3)]
                rise = v1 - v0
                c2 = three * rise - two * s0 - s1
                c3 = s0 + s1 - two * rise
                slope = s0 + inside * (two * c2 + three * c3 * inside)
                y[n, b, k] = v0 + inside * (s0 + inside * (c2 + inside * c3)) + slope * beyond
                dy[n, b, k] = slope * inv_h
                ddy[n, b, k] = (two * c2 + six * c3 * inside) * inv_h * inv_h if beyond == zero else zero


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def scatter(a, start, knots, x_min, inv_h, c0, c1, out):  # type: ignore[no-untyped-def]
    """Add to out (F · G · 2,) the cotangent of the table, given those of σ(a), c0, and of σ'(a), c1."""
    real = a.dtype.type
    zero, one, two, three, last = real(0), real(1), real(2), real(3), real(knots - 2)
    four, six = real(4), real(6)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                t = (a[n, b, k] - x_min) * inv_h
                i = np.int32(max(min(t, last), zero))
                u = t - real(i)
                inside = max(min(u, one), zero)
                g0 = c0[n, b, k]
                g1 = g0 * (u - inside) + c1[n, b, k] * inv_h  # cotangent of the slope per unit of u
                square = inside * inside
                up = g0 * square * (three - two * inside) + g1 * six * (inside - square)
                away = one - inside
                j = np.uint32(start[n, k] + i * np.int32(2))
                out[j] += g0 - up
                out[j + np.uint32(1)] += g0 * inside * away * away + g1 * (one + inside * (three * inside - four))
                out[j + np.uint32(2)] += up
                out[j + np.uint32(3)] += g0 * square * (inside - one) + g1 * inside * (three * inside - two)
