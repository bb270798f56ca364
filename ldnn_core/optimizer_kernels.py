"""Optimiser updates and their cotangents in one pass over memory, compiled by Numba.

Shapes: N networks, Θ parameters of each.  Tensors come as addresses: ``rate`` (N or 1,), ``own`` being 1 where each
network has a learning rate of its own, else 0; all others (N, Θ).  ``one`` is a 1 of the type of all numbers.
The formulas are in `ldnn_core.optimizers`, the order of arguments is that of `ldnn_core.optimizer_arithmetic`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ldnn_core.vector_access import FAST_MATH, cast, get, numbers, put


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def rmsprop(  # type: ignore[no-untyped-def]
    one, p, s, g, rate, own, networks, size, decay, epsilon, tiny, new_p, new_s
):
    """Set new_p and new_s to the parameters and the squared-gradient average after a step."""
    p, s, g, rate = numbers(p, one), numbers(s, one), numbers(g, one), numbers(rate, one)
    new_p, new_s = numbers(new_p, one), numbers(new_s, one)
    decay, rest, epsilon, tiny = cast(decay, one), cast(1 - decay, one), cast(epsilon, one), cast(tiny, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            square = decay * get(s, k) + rest * gradient * gradient
            put(new_s, k, square)
            put(new_p, k, get(p, k) - lr * gradient / (np.sqrt(square + tiny) + epsilon))


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def rmsprop_vjp(  # type: ignore[no-untyped-def]
    one, s, g, p_bar, new_s_bar, rate, own, networks, size, decay, epsilon, tiny, s_bar, g_bar
):
    """Set s_bar and g_bar, given the cotangents of the parameters and the average after a step."""
    s, g, p_bar, new_s_bar = numbers(s, one), numbers(g, one), numbers(p_bar, one), numbers(new_s_bar, one)
    rate, s_bar, g_bar = numbers(rate, one), numbers(s_bar, one), numbers(g_bar, one)
    decay, rest, epsilon, tiny = cast(decay, one), cast(1 - decay, one), cast(epsilon, one), cast(tiny, one)
    half, two = cast(0.5, one), cast(2, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            root = np.sqrt(decay * get(s, k) + rest * gradient * gradient + tiny)
            moved = lr * get(p_bar, k) / (root + epsilon)
            square_bar = get(new_s_bar, k) + half * moved / (root + epsilon) * gradient / root
            put(s_bar, k, decay * square_bar)
            put(g_bar, k, two * rest * gradient * square_bar - moved)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def sgd(  # type: ignore[no-untyped-def]
    one, p, m, g, rate, own, networks, size, momentum, new_p, new_m
):
    """Set new_p and new_m to the parameters and the momentum after a step."""
    p, m, g, rate = numbers(p, one), numbers(m, one), numbers(g, one), numbers(rate, one)
    new_p, new_m = numbers(new_p, one), numbers(new_m, one)
    momentum = cast(momentum, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            moved = momentum * get(m, k) + get(g, k)
            put(new_m, k, moved)
            put(new_p, k, get(p, k) - lr * moved)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def sgd_vjp(  # type: ignore[no-untyped-def]
    one, m, g, p_bar, new_m_bar, rate, own, networks, size, momentum, m_bar, g_bar
):
    """Set m_bar and g_bar, given the cotangents of the parameters and the momentum; m and g do not matter."""
    p_bar, new_m_bar, rate, m_bar = (
        numbers(p_bar, one),
        numbers(new_m_bar, one),
        numbers(rate, one),
        numbers(m_bar, one),
    )
    g_bar = numbers(g_bar, one)
    momentum = cast(momentum, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            moved_bar = get(new_m_bar, k) - lr * get(p_bar, k)
            put(m_bar, k, momentum * moved_bar)
            put(g_bar, k, moved_bar)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def adam(  # type: ignore[no-untyped-def]
    one, p, m, s, g, rate, own, networks, size, beta1, beta2, scale1, scale2, epsilon, tiny, new_p, new_m, new_s
):
    """Set new_p, new_m and new_s after a step; scale1 and scale2 correct the averages, 1 / (1 - βᵗ⁺¹)."""
    p, m, s, g = numbers(p, one), numbers(m, one), numbers(s, one), numbers(g, one)
    rate, new_p, new_m, new_s = numbers(rate, one), numbers(new_p, one), numbers(new_m, one), numbers(new_s, one)
    rest1, rest2 = cast(1 - beta1, one), cast(1 - beta2, one)
    beta1, beta2, epsilon, tiny = cast(beta1, one), cast(beta2, one), cast(epsilon, one), cast(tiny, one)
    scale1, scale2 = cast(scale1, one), cast(scale2, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            mean = beta1 * get(m, k) + rest1 * gradient
            square = beta2 * get(s, k) + rest2 * gradient * gradient
            put(new_m, k, mean)
            put(new_s, k, square)
            put(new_p, k, get(p, k) - lr * scale1 * mean / (np.sqrt(square * scale2 + tiny) + epsilon))


@njit(cache=True, fastmath=FAST_MATH, nogil=True, boundscheck=False, error_model="numpy")
def adam_vjp(  # type: ignore[no-untyped-def]
    one,
    m,
    s,
    g,
    p_bar,
    new_m_bar,
    new_s_bar,
    rate,
    own,
    networks,
    size,
    beta1,
    beta2,
    scale1,
    scale2,
    epsilon,
    tiny,
    m_bar,
    s_bar,
    g_bar,
):
    """Set m_bar, s_bar and g_bar, given the cotangents after a step; scales as for `adam`."""
    m, s, g, p_bar = numbers(m, one), numbers(s, one), numbers(g, one), numbers(p_bar, one)
    new_m_bar, new_s_bar, rate, m_bar = (
        numbers(new_m_bar, one),
        numbers(new_s_bar, one),
        numbers(rate, one),
        numbers(m_bar, one),
    )
    s_bar, g_bar = numbers(s_bar, one), numbers(g_bar, one)
    rest1, rest2 = cast(1 - beta1, one), cast(1 - beta2, one)
    beta1, beta2, epsilon, tiny = cast(beta1, one), cast(beta2, one), cast(epsilon, one), cast(tiny, one)
    scale1, scale2 = cast(scale1, one), cast(scale2, one)
    half, two = cast(0.5, one), cast(2, one)
    for n in range(networks):
        lr = get(rate, n * own)
        for k in range(n * size, (n + 1) * size):
            gradient = get(g, k)
            mean = beta1 * get(m, k) + rest1 * gradient
            square = beta2 * get(s, k) + rest2 * gradient * gradient
            root = np.sqrt(square * scale2 + tiny)
            moved = lr * scale1 * get(p_bar, k) / (root + epsilon)
            mean_bar = get(new_m_bar, k) - moved
            square_bar = get(new_s_bar, k) + half * scale2 * moved / (root + epsilon) * mean / root
            put(m_bar, k, beta1 * mean_bar)
            put(s_bar, k, beta2 * square_bar)
            put(g_bar, k, rest1 * mean_bar + two * rest2 * gradient * square_bar)
