"""The sub-network 1 : W : 1 behind a learned activation, evaluated exactly.

    σ_k(a) = base(a) + c · s_k(a)            (Choudhary et al. 2022)

or, normalised, g (base(a) + c · s_k(a)) + o with the gain g and offset o for which σ_k of a standard normal variable
has mean 0 and variance 1: a layer then hands on signals of the size it gets, whatever the set.

Shapes: M sets, K types, P weights of a sub-network, F = M · K functions, W sub-network width.
A genome row lists the layers in order, as `ldnn_core.dense` has them:
for one hidden layer  w1 (W) | b1 (W) | w2 (W) | b2 (1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from ldnn_core import dense
from ldnn_core.base_functions import BaseFunction, base_function
from ldnn_core.hermite import Grid
from ldnn_core.randomness import generator

LEAST_VARIANCE: Final = 1e-4
"""Below it a function counts as constant: gains are at most 100."""


@dataclass(frozen=True)
class ActivationSpec:
    """What all sets of one search share.

    Attributes:
        base: name of the base function.
        num_types: K, neuron types in a layer.
        hidden: sizes of the sub-network's hidden layers (tanh).
        scale: c, the factor of the sub-network's output.
        normalized: whether every function has its own gain and offset, see `gain_and_offset`.
        table_range: where tables of the functions end, at -table_range and table_range; beyond they go on straight.
        table_scale: cells of a table per unit, a power of two.

    Raises:
        ValueError: an unknown base, no types, an empty hidden layer, a table whose ends are no knots, or kinks of the
            base function that do not lie within it.
    """

    base: str = "sin"
    num_types: int = 2
    hidden: tuple[int, ...] = (50,)
    scale: float = 0.2
    normalized: bool = False
    table_range: float = 10.0
    table_scale: int = 64

    def __post_init__(self) -> None:
        base_function(self.base)
        if self.num_types < 1:
            raise ValueError(f"num_types >= 1 must hold, but got num_types={self.num_types}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"a sub-network needs hidden layers of at least one unit, but got hidden={self.hidden}")
        low, high = self.grid.ends
        kinks = self.base_function.kinks
        if kinks and not low < min(kinks) <= max(kinks) < high:
            raise ValueError(
                f"kinks of the base function must lie within the table: table_range > {max(map(abs, kinks)):g} for "
                f"{self.base!r}, but got table_range={self.table_range:g}: give a larger one"
            )

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of every linear layer of the sub-network."""
        return tuple(pairwise((1, *self.hidden, 1)))

    @property
    def genome_size(self) -> int:
        """P, the number of weights and biases of one sub-network."""
        return dense.count(self.layer_sizes)

    @property
    def grid(self) -> Grid:
        """Where functions are tabulated."""
        return Grid.symmetric(self.table_range, self.table_scale)

    @property
    def base_function(self) -> BaseFunction:
        """The base function itself."""
        return base_function(self.base)

    def check_genomes(self, genomes: Tensor) -> Tensor:
        """The genomes as they came, if they are a bank of this kind: shape (M, K, P), finite.

        Raises:
            ValueError: wrong shape, or a value that is not finite.
        """
        expected = (self.num_types, self.genome_size)
        if genomes.ndim != 3 or tuple(genomes.shape[1:]) != expected or genomes.shape[0] < 1:
            raise ValueError(
                f"genomes must have shape (sets >= 1, num_types={expected[0]}, weights={expected[1]}), "
                f"but got {tuple(genomes.shape)}"
            )
        if not torch.isfinite(genomes).all():
            bad = int((~torch.isfinite(genomes)).sum())
            raise ValueError(f"genomes must be finite, but {bad} of {genomes.numel()} values are NaN or infinite")
        return genomes


def initial_bounds(spec: ActivationSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """The half-width of each weight's initial distribution, 1/√fan_in of its layer, (P,)."""
    return dense.bounds(spec.layer_sizes, dtype)


def initial_genomes(spec: ActivationSpec, seed: int, sets: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random genomes (sets, K, P), each type from its own generator so that no two types start equal.

    Weights and biases of a layer are uniform in ±1/√fan_in, PyTorch's default for linear layers.

    Args:
        spec: what the sub-networks share.
        seed: from which they are drawn.
        sets: how many sets.
        dtype: of the result; what is drawn is the same, but for rounding.
    """
    sources = [generator(seed, "genome", m, k) for m in range(sets) for k in range(spec.num_types)]
    return dense.draw(spec.layer_sizes, sources, dtype).view(sets, spec.num_types, -1)


def gain_and_offset(spec: ActivationSpec, genomes: Tensor) -> tuple[Tensor, Tensor]:
    """Gain g and offset o of genome rows (F, P), each (F, 1); differentiable.  Ones and zeros unless normalised.

    With the mean μ and variance v of base(z) + c s(z), z standard normal: g = 1/√v and o = -g μ.  A variance below
    `LEAST_VARIANCE` counts as that, so that a constant function stays finite.
    """
    if not spec.normalized:
        return genomes.new_ones(len(genomes), 1), genomes.new_zeros(len(genomes), 1)
    # `torch.compile` would warn of the cache that it looks through; what it traces is computed once anyway.
    quadrature = normal_quadrature.__wrapped__ if torch.compiler.is_compiling() else normal_quadrature
    z, weight = quadrature()
    z, weight = z.to(genomes), weight.to(genomes)
    y = exact_values(replace(spec, normalized=False), genomes, z.expand(len(genomes), -1))
    mean = (y * weight).sum(dim=1, keepdim=True)
    variance = ((y - mean).square() * weight).sum(dim=1, keepdim=True)
    gain = variance.clamp(min=LEAST_VARIANCE).rsqrt()
    return gain, -gain * mean


@cache
def normal_quadrature() -> tuple[Tensor, Tensor]:
    """Points (n,) and weights (n,), which sum to one, of means under the standard normal density, in float64.

    Equal steps of 1/16: for smooth functions exact to rounding (the trapezoidal rule of a function that vanishes at
    both ends), and kinks of base functions lie on points.
    """
    z = torch.arange(-128, 129, dtype=torch.float64) / 16
    density = torch.exp(-0.5 * z * z)
    return z, density / density.sum()


def exact_values(spec: ActivationSpec, genomes: Tensor, x: Tensor) -> Tensor:
    """σ of each function at its own points: genomes (F, P), x (F, n) → (F, n)."""
    return exact_values_and_slopes(spec, genomes, x, slopes=False)[0]


def exact_values_and_slopes(
    spec: ActivationSpec, genomes: Tensor, x: Tensor, *, slopes: bool = True, with_base: bool = True
) -> tuple[Tensor, Tensor]:
    """σ and σ' of each function at its own points, differentiable in genomes and x.

    The slope is carried forward beside the value (z' = h' w, h' = (1 - tanh² z) z').

    Args:
        spec: base, scale and sizes.
        genomes: (F, P).
        x: (F, n).
        slopes: whether the slopes are wanted; without, the second result is empty.
        with_base: whether the base function is added, with its gain.

    Returns:
        values and slopes, each (F, n).
    """
    layers = dense.split(genomes, spec.layer_sizes)
    h = x.unsqueeze(-1)
    dh = torch.ones_like(h)
    for depth, (weight, bias) in enumerate(layers):
        z = torch.baddbmm(bias, h, weight) if depth else h * weight + bias
        dz = (dh @ weight if depth else weight.expand_as(z)) if slopes else dh
        last = depth == len(layers) - 1
        h = z if last else torch.tanh(z)
        dh = dz if last or not slopes else (1 - h * h) * dz
    value = spec.scale * h.squeeze(-1)
    slope = spec.scale * dh.squeeze(-1) if slopes else x.new_empty(0)
    if with_base:
        value = spec.base_function.value(x) + value
        slope = spec.base_function.slope(x) + slope if slopes else slope
    if spec.normalized:
        gain, offset = gain_and_offset(spec, genomes)
        value, slope = gain * value + offset, gain * slope if slopes else slope
    return value, slope
