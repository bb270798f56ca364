"""Fused look-ups in Hermite tables on the CPU, compiled by Numba on first use and cached on disk.

Same mathematics as the eager path in `ldnn_core.hermite`, which the tests hold them against.
Shapes: N networks, B batch, H units, F functions, G cells.  ``a`` (N, B, H); ``table`` (F · G · 4,) holds the four
coefficients of each cell; ``start`` (N, H) int32 says where the function of a unit begins in the table; ``scale`` is
cells per unit of a, ``origin`` the cell of a = 0.  Constants are bound to the element type first: a Python float in
the loop would turn float32 into float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# "nnan" and "ninf" are left out: NaN and infinity must stay what they are, so that divergence is seen.
_FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope(a, table, start, cells, scale, origin, y, dy):  # type: ignore[no-untyped-def]
    """Set y = σ(a) and dy = σ'(a)."""
    real = a.dtype.type
    zero, one, two, three = real(0), real(1), real(2), real(3)
    scale, shift, last = real(scale), real(origin), real(cells - 1)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                x = a[n, b, k]
                i = np.int32(max(min(x * scale + shift, last), zero))
                u = x * scale + real(np.int32(origin) - i)  # the cell is taken off first: no rounding of its number
                inside = max(min(u, one), zero)
                beyond = u - inside  # straight lines outside the table; NaN and infinity pass through here
                j = np.uint32(start[n, k] + i * np.int32(4))
                c0, c1 = table[j], table[j + np.uint32(1)]
                c2, c3 = table[j + np.uint32(2)], table[j + np.uint32(3)]
                slope = c1 + inside * (two * c2 + three * c3 * inside)
                y[n, b, k] = c0 + inside * (c1 + inside * (c2 + inside * c3)) + slope * beyond
                dy[n, b, k] = slope * scale


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope_curvature(a, table, start, cells, scale, origin, y, dy, ddy):  # type: ignore[no-untyped-def]
    """Set y = σ(a), dy = σ'(a) and ddy = σ''(a)."""
    real = a.dtype.type
    zero, one, two, three, six = real(0), real(1), real(2), real(3), real(6)
    scale, shift, last, end = real(scale), real(origin), real(cells - 1), real(cells)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                x = a[n, b, k]
                place = x * scale + shift
                i = np.int32(max(min(place, last), zero))
                u = x * scale + real(np.int32(origin) - i)
                inside = max(min(u, one), zero)
                beyond = u - inside
                j = np.uint32(start[n, k] + i * np.int32(4))
                c0, c1 = table[j], table[j + np.uint32(1)]
                c2, c3 = table[j + np.uint32(2)], table[j + np.uint32(3)]
                slope = c1 + inside * (two * c2 + three * c3 * inside)
                y[n, b, k] = c0 + inside * (c1 + inside * (c2 + inside * c3)) + slope * beyond
                dy[n, b, k] = slope * scale
                bend = (two * c2 + six * c3 * inside) * scale * scale
                ddy[n, b, k] = bend if zero <= place <= end else zero


@njit(cache=True, fastmath=_FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def scatter(a, start, cells, scale, origin, y_bar, dy_bar, out):  # type: ignore[no-untyped-def]
    """Add to out (F · G · 4,) the cotangent of the table, given those of σ(a) and of σ'(a)."""
    real = a.dtype.type
    zero, one, two, three = real(0), real(1), real(2), real(3)
    scale, shift, last = real(scale), real(origin), real(cells - 1)
    networks, batch, units = a.shape
    for n in range(networks):
        for b in range(batch):
            for k in range(units):
                x = a[n, b, k]
                i = np.int32(max(min(x * scale + shift, last), zero))
                u = x * scale + real(np.int32(origin) - i)
                inside = max(min(u, one), zero)
                g0 = y_bar[n, b, k]
                g1 = g0 * (u - inside) + dy_bar[n, b, k] * scale  # cotangent of the slope per cell
                j = np.uint32(start[n, k] + i * np.int32(4))
                out[j] += g0
                out[j + np.uint32(1)] += g0 * inside + g1
                out[j + np.uint32(2)] += inside * (g0 * inside + two * g1)
                out[j + np.uint32(3)] += inside * inside * (g0 * inside + three * g1)
