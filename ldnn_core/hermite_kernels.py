"""Fused look-ups in Hermite tables on the CPU, compiled by Numba on first use and cached on disk.

Same mathematics as the eager path in `ldnn_core.hermite`, which the tests hold them against.
Shapes: N networks, B batch, H units, F functions, G cells.  Tensors come as addresses: ``a`` and all that is not named
here (N, B, H); ``table`` and ``out`` (F, G, 4), the four coefficients of a cell; ``function`` (N or 1, H), of each
unit, int32, as int64 would make vectors half as wide.  ``own`` is H where each network has functions of its own,
else 0; ``scale`` is cells per unit of a, ``origin`` the cell of a = 0.  ``one`` is a 1 of the type of all numbers.
Outputs share no memory with inputs.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, add_four, cast, get, look_up, numbers, put


@njit(fastmath=FAST_MATH, boundscheck=False, error_model="numpy")
def _locate(scaled, first, last, zero, one):  # type: ignore[no-untyped-def]
    """Cell counted from that of 0, place in it clamped to [0, 1], and how far beyond the grid, for a · scale."""
    cell = np.floor(scaled)
    cell = cell if cell > first else first  # so written, NaN becomes the first cell
    cell = cell if cell < last else last
    u = scaled - cell
    inside = max(min(u, one), zero)
    return np.int32(cell), inside, u - inside  # straight lines outside the table; NaN and infinity pass through here


@njit(fastmath=FAST_MATH, boundscheck=False, error_model="numpy")
def _start(function, cells, origin, cell):  # type: ignore[no-untyped-def]
    """Where the coefficients of a cell begin in the table."""
    return np.int32((function * cells + origin + cell) * np.int32(4))


@njit(fastmath=FAST_MATH, boundscheck=False, error_model="numpy")
def _coefficients(table, j):  # type: ignore[no-untyped-def]
    one, two, three = np.int32(1), np.int32(2), np.int32(3)
    return look_up(table, j), look_up(table, j + one), look_up(table, j + two), look_up(table, j + three)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope(  # type: ignore[no-untyped-def]
    one, a, table, function, own, cells, scale, origin, networks, batch, units, y, dy
):
    """Set y = σ(a) and dy = σ'(a)."""
    a, table, function = numbers(a, one), numbers(table, one), numbers(function, np.int32(0))
    y, dy = numbers(y, one), numbers(dy, one)
    zero, two, three = cast(0, one), cast(2, one), cast(3, one)
    scale, first, last = cast(scale, one), cast(-origin, one), cast(cells - 1 - origin, one)
    cells, origin = np.int32(cells), np.int32(origin)
    for n in range(networks):
        for b in range(batch):
            row = (n * batch + b) * units
            for k in range(units):
                cell, u, beyond = _locate(get(a, row + k) * scale, first, last, zero, one)
                c0, c1, c2, c3 = _coefficients(table, _start(get(function, n * own + k), cells, origin, cell))
                slope = c1 + u * (two * c2 + three * c3 * u)
                put(y, row + k, c0 + u * (c1 + u * (c2 + u * c3)) + slope * beyond)
                put(dy, row + k, slope * scale)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def value_slope_curvature(  # type: ignore[no-untyped-def]
    one, a, table, function, own, cells, scale, origin, networks, batch, units, y, dy, ddy
):
    """Set y = σ(a), dy = σ'(a) and ddy = σ''(a)."""
    a, table, function = numbers(a, one), numbers(table, one), numbers(function, np.int32(0))
    y, dy, ddy = numbers(y, one), numbers(dy, one), numbers(ddy, one)
    zero, two, three, six = cast(0, one), cast(2, one), cast(3, one), cast(6, one)
    scale, first, last = cast(scale, one), cast(-origin, one), cast(cells - 1 - origin, one)
    cells, origin = np.int32(cells), np.int32(origin)
    for n in range(networks):
        for b in range(batch):
            row = (n * batch + b) * units
            for k in range(units):
                cell, u, beyond = _locate(get(a, row + k) * scale, first, last, zero, one)
                c0, c1, c2, c3 = _coefficients(table, _start(get(function, n * own + k), cells, origin, cell))
                slope = c1 + u * (two * c2 + three * c3 * u)
                bend = (two * c2 + six * c3 * u) * scale * scale
                put(y, row + k, c0 + u * (c1 + u * (c2 + u * c3)) + slope * beyond)
                put(dy, row + k, slope * scale)
                put(ddy, row + k, bend if beyond == zero else zero)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def scatter(  # type: ignore[no-untyped-def]
    one, a, y_bar, dy_bar, function, own, cells, scale, origin, networks, batch, units, out
):
    """Add to out the cotangent of the table, given those of σ(a) and of σ'(a)."""
    a, y_bar, dy_bar, function = (
        numbers(a, one),
        numbers(y_bar, one),
        numbers(dy_bar, one),
        numbers(function, np.int32(0)),
    )
    out, zero, two, three = numbers(out, one), cast(0, one), cast(2, one), cast(3, one)
    place, parts = np.empty(units, np.int32), np.full(4 * units, zero)
    scale, first, last = cast(scale, one), cast(-origin, one), cast(cells - 1 - origin, one)
    cells, origin = np.int32(cells), np.int32(origin)
    for n in range(networks):
        for b in range(batch):
            row = (n * batch + b) * units
            # two loops, as units may share a cell: what to add and where is vectorised, the adding is not
            for k in range(units):
                cell, u, beyond = _locate(get(a, row + k) * scale, first, last, zero, one)
                g0 = get(y_bar, row + k)
                g1 = g0 * beyond + get(dy_bar, row + k) * scale  # cotangent of the slope per cell
                put(place, k, _start(get(function, n * own + k), cells, origin, cell))
                put(parts, 4 * k, g0)
                put(parts, 4 * k + 1, g0 * u + g1)
                put(parts, 4 * k + 2, u * (g0 * u + two * g1))
                put(parts, 4 * k + 3, u * u * (g0 * u + three * g1))
            for k in range(units):
                add_four(out, place[k], parts, 4 * k)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def tangent(  # type: ignore[no-untyped-def]
    one, a, a_dot, table, function, own, cells, scale, origin, networks, batch, units, y, dy, y_dot, dy_dot
):
    """Set y = σ(a), dy = σ'(a) and their tangents y_dot = σ'(a) ȧ, dy_dot = σ''(a) ȧ."""
    a, a_dot, table, function = (
        numbers(a, one),
        numbers(a_dot, one),
        numbers(table, one),
        numbers(function, np.int32(0)),
    )
    y, dy, y_dot, dy_dot = numbers(y, one), numbers(dy, one), numbers(y_dot, one), numbers(dy_dot, one)
    zero, two, three, six = cast(0, one), cast(2, one), cast(3, one), cast(6, one)
    scale, first, last = cast(scale, one), cast(-origin, one), cast(cells - 1 - origin, one)
    cells, origin = np.int32(cells), np.int32(origin)
    for n in range(networks):
        for b in range(batch):
            row = (n * batch + b) * units
            for k in range(units):
                cell, u, beyond = _locate(get(a, row + k) * scale, first, last, zero, one)
                moved = get(a_dot, row + k) * scale
                c0, c1, c2, c3 = _coefficients(table, _start(get(function, n * own + k), cells, origin, cell))
                slope = c1 + u * (two * c2 + three * c3 * u)
                bend = (two * c2 + six * c3 * u) * scale * moved
                put(y, row + k, c0 + u * (c1 + u * (c2 + u * c3)) + slope * beyond)
                put(dy, row + k, slope * scale)
                put(y_dot, row + k, slope * moved)
                put(dy_dot, row + k, bend if beyond == zero else zero)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def tangent_back(  # type: ignore[no-untyped-def]
    one,
    a,
    a_dot,
    dy,
    dy_dot,
    h_bar,
    h_bar_dot,
    function,
    own,
    cells,
    scale,
    origin,
    networks,
    batch,
    units,
    delta,
    delta_dot,
    out,
):
    """Set delta and delta_dot and add to out, as `HermiteTable.tangent_back` describes."""
    a, a_dot, dy, dy_dot = numbers(a, one), numbers(a_dot, one), numbers(dy, one), numbers(dy_dot, one)
    h_bar, h_bar_dot, function = numbers(h_bar, one), numbers(h_bar_dot, one), numbers(function, np.int32(0))
    delta, delta_dot, out = numbers(delta, one), numbers(delta_dot, one), numbers(out, one)
    zero, two, three = cast(0, one), cast(2, one), cast(3, one)
    place, parts = np.empty(units, np.int32), np.full(4 * units, zero)
    scale, first, last = cast(scale, one), cast(-origin, one), cast(cells - 1 - origin, one)
    cells, origin = np.int32(cells), np.int32(origin)
    for n in range(networks):
        for b in range(batch):
            row = (n * batch + b) * units
            for k in range(units):
                cell, u, beyond = _locate(get(a, row + k) * scale, first, last, zero, one)
                bar, bar_dot, slope = get(h_bar, row + k), get(h_bar_dot, row + k), get(dy, row + k)
                g1 = bar_dot * beyond + bar * get(a_dot, row + k) * scale
                put(delta, row + k, bar * slope)
                put(delta_dot, row + k, bar_dot * slope + bar * get(dy_dot, row + k))
                put(place, k, _start(get(function, n * own + k), cells, origin, cell))
                put(parts, 4 * k, bar_dot)
                put(parts, 4 * k + 1, bar_dot * u + g1)
                put(parts, 4 * k + 2, u * (bar_dot * u + two * g1))
                put(parts, 4 * k + 3, u * u * (bar_dot * u + three * g1))
            for k in range(units):
                add_four(out, place[k], parts, 4 * k)
