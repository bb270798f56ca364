"""What a hidden layer applies to its pre-activations, for a whole batch of networks.

Shapes: N networks, B batch, H units of a layer, M sets, K types, F = M · K functions of a bank, P weights.

A *bank* holds functions (exactly as sub-networks, or lowered to a table); a `BankActivation` says which function
each unit of each network uses; a `UsualActivation` is one well-known function; a `GroupedActivation` gives each
run of networks its own.  The fast path asks for values and slopes; only a bank also answers for the derivatives
with respect to its own parameters, which the meta-gradient needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ldnn_core.base_functions import base_function
from ldnn_core.hermite import Grid, HermiteTable
from ldnn_core.layout import Mixing, layer_types
from ldnn_core.look_up import look_up
from ldnn_core.subnetwork import ActivationSpec, exact_values_and_slopes, gain_and_offset


class Activation(Protocol):
    """Elementwise functions of the units of a layer; pure, no state."""

    def value(self, a: Tensor, layer: int) -> Tensor:
        """The layer σ(a), (N, B, H) → (N, B, H), differentiable by autograd."""
        ...

    def value_slope(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a), without a graph."""
        ...

    def value_slope_curvature(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a), without a graph; where a function has a kink its second derivative is zero."""
        ...

    def of_networks(self, block: slice) -> Activation:
        """That of consecutive networks of the batch; start and stop are given, and within it."""
        ...


@dataclass(frozen=True)
class UsualActivation:
    """One well-known function for all units.

    Attributes:
        name: of the function: sigmoid, tanh, sin, elu, relu, silu, gelu, hat, or zero and identity.
    """

    name: str

    def value(self, a: Tensor, layer: int) -> Tensor:
        """The layer σ(a)."""
        return base_function(self.name).value(a)

    def value_slope(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a)."""
        function = base_function(self.name)
        return function.value(a), function.slope(a)

    def value_slope_curvature(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a)."""
        return _with_curvature(lambda leaf: self.value_slope(leaf, layer), a)

    def of_networks(self, block: slice) -> UsualActivation:
        """The same for any networks."""
        return self


@dataclass(frozen=True)
class GroupedActivation:
    """Consecutive runs of networks, each with an activation of its own.

    Attributes:
        groups: (activation, number of networks) in the order of the batch.
    """

    groups: tuple[tuple[Activation, int], ...]

    def value(self, a: Tensor, layer: int) -> Tensor:
        """The layer σ(a)."""
        parts = a.split([count for _, count in self.groups])
        return torch.cat([act.value(part, layer) for (act, _), part in zip(self.groups, parts, strict=True)])

    def value_slope(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a)."""
        parts = a.split([count for _, count in self.groups])
        pairs = [act.value_slope(part, layer) for (act, _), part in zip(self.groups, parts, strict=True)]
        return torch.cat([h for h, _ in pairs]), torch.cat([s for _, s in pairs])

    def value_slope_curvature(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a)."""
        parts = a.split([count for _, count in self.groups])
        triples = [act.value_slope_curvature(part, layer) for (act, _), part in zip(self.groups, parts, strict=True)]
        value, slope, curvature = (torch.cat(columns) for columns in zip(*triples, strict=True))
        return value, slope, curvature

    def of_networks(self, block: slice) -> Activation:
        """The groups that the block meets; where it is one, that one's own activation."""
        groups, first = [], 0
        for activation, count in self.groups:
            start, stop = max(block.start - first, 0), min(block.stop - first, count)
            if start < stop:
                groups.append((activation.of_networks(slice(start, stop)), stop - start))
            first += count
        return groups[0][0] if len(groups) == 1 else GroupedActivation(tuple(groups))


@dataclass(frozen=True)
class ExactBank:
    """Functions evaluated as the sub-networks they are: slow, and the oracle for everything faster.

    Attributes:
        spec: what the sub-networks share.
        parameters: the genomes, (M, K, P).
    """

    spec: ActivationSpec
    parameters: Tensor

    @property
    def genomes(self) -> Tensor:
        """The parameters, as they are."""
        return self.parameters

    def value(self, a: Tensor, function: Tensor) -> Tensor:
        """σ_f(a) for a (N, B, H) and function (N, H), differentiable by autograd in parameters and a."""
        return self._evaluate(a, function, slopes=False)[0]

    def value_slope(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor]:
        """σ and σ', differentiable as well."""
        return self._evaluate(a, function, slopes=True)

    def value_slope_curvature(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ, σ' and σ'', without a graph."""
        return _with_curvature(lambda leaf: self.value_slope(leaf, function), a)

    def replaced(self, parameters: Tensor) -> ExactBank:
        """The same bank with other genomes, e.g. a leaf of a graph."""
        return ExactBank(self.spec, parameters)

    def of_genomes(self, genomes: Tensor) -> ExactBank:
        """The same as `replaced`: the parameters are the genomes, of as many sets as come."""
        return self.replaced(genomes)

    def pull_back(self, cotangent: Tensor) -> Tensor:
        """Cotangent of the parameters, which are the genomes already, (M, K, P)."""
        return cotangent

    def _evaluate(self, a: Tensor, function: Tensor, *, slopes: bool) -> tuple[Tensor, Tensor]:
        networks, batch, units = a.shape
        rows = self.parameters.flatten(0, 1)[function.expand(networks, units).reshape(-1)]
        x = a.transpose(1, 2).reshape(networks * units, batch)
        value, slope = exact_values_and_slopes(self.spec, rows, x, slopes=slopes)

        def back(t: Tensor) -> Tensor:
            return t.view(networks, units, batch).transpose(1, 2) if t.numel() else t

        return back(value), back(slope)


class TableBank:
    """Functions lowered to Hermite tables: looked up, not recomputed.

    A kinked base function (relu, hat) is exact too: it is straight between its kinks, which lie on knots.

    Args:
        spec: what the sub-networks share.
        genomes: (M, K, P); checked for shape and finite values.
        grid: where they are tabulated; None for the grid of the spec.
        fused: whether compiled code may be used.

    Raises:
        ValueError: the genomes have the wrong shape or are not finite.
    """

    def __init__(
        self,
        spec: ActivationSpec,
        genomes: Tensor,
        *,
        grid: Grid | None = None,
        fused: bool = True,
    ) -> None:
        self.spec = spec
        self.genomes = spec.check_genomes(genomes.detach())
        self._grid = grid or spec.grid
        with torch.no_grad():
            coefficients = self._lower(self.genomes.double()).to(genomes.dtype)
        self.table = HermiteTable(coefficients.contiguous(), self._grid, fused)

    @property
    def parameters(self) -> Tensor:
        """The coefficients of the table, (F, G, 4)."""
        return self.table.coefficients

    def value(self, a: Tensor, function: Tensor) -> Tensor:
        """σ_f(a) for a (N, B, H) and function (N, H), differentiable by autograd in parameters and a."""
        return look_up(a, self.table.coefficients, function, self.table.grid, fused=self.table.fused)

    def value_slope(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor]:
        """σ and σ', without a graph; at a kink the slope to the right of it."""
        return self.table.value_slope(a, function)

    def value_slope_curvature(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ, σ' and σ''; the second derivative of a kinked base function is zero."""
        return self.table.value_slope_curvature(a, function)

    def replaced(self, parameters: Tensor) -> TableBank:
        """The same bank with other coefficients; its `pull_back` still speaks of the old genomes."""
        copy = object.__new__(TableBank)
        copy.__dict__.update(self.__dict__, table=replace(self.table, coefficients=parameters))
        return copy

    def of_genomes(self, genomes: Tensor) -> TableBank:
        """Other genomes lowered to the same grid, of as many sets as come."""
        return TableBank(self.spec, genomes, grid=self._grid, fused=self.table.fused)

    def pull_back(self, cotangent: Tensor) -> Tensor:
        """Cotangent of the coefficients → cotangent of the genomes, (M, K, P), through the lowering."""
        with torch.enable_grad():
            genomes = self.genomes.double().requires_grad_()
            (gradient,) = torch.autograd.grad(self._lower(genomes), genomes, cotangent.double())
        return gradient.to(cotangent.dtype)

    def _lower(self, genomes: Tensor) -> Tensor:
        """Genomes in float64 as coefficients (F, G, 4)."""
        rows, base = genomes.flatten(0, 1), self.spec.base_function
        knots = self._grid.knots().to(genomes)
        values, slopes = exact_values_and_slopes(
            self.spec, rows, knots.expand(len(rows), -1), with_base=not base.kinked
        )
        coefficients = self._grid.coefficients(values, slopes)
        if not base.kinked:
            return coefficients
        # The slopes of a kinked function differ on the two sides of a knot, so its cells are made one by one.
        y, zero = base.value(knots), knots.new_zeros(self._grid.cells)
        straight = torch.stack([y[:-1], y[1:] - y[:-1], zero, zero], dim=-1)
        return coefficients + gain_and_offset(self.spec, rows)[0].unsqueeze(-1) * straight


Bank = ExactBank | TableBank
"""F functions with parameters that can be learned."""


@dataclass(frozen=True)
class BankActivation:
    """Each unit of each network uses one function of a bank.

    Attributes:
        bank: the functions.
        functions: for each hidden layer (N, H) or (1, H) integers, the function of each unit; kept as int32, where
            the bank lies, as look-ups want them.
    """

    bank: Bank
    functions: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        device = self.bank.parameters.device
        functions = tuple(function.to(device, torch.int32) for function in self.functions)
        object.__setattr__(self, "functions", functions)

    def value(self, a: Tensor, layer: int) -> Tensor:
        """The layer σ(a)."""
        return self.bank.value(a, self.functions[layer])

    def value_slope(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a)."""
        return self.bank.value_slope(a, self.functions[layer])

    def value_slope_curvature(self, a: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a)."""
        return self.bank.value_slope_curvature(a, self.functions[layer])

    def of_networks(self, block: slice) -> BankActivation:
        """The functions of those networks; all, if all networks share them."""
        if all(len(function) == 1 for function in self.functions):
            return self
        return BankActivation(self.bank, tuple(f[block] if len(f) > 1 else f for f in self.functions))


def _with_curvature(value_slope: Callable[[Tensor], tuple[Tensor, Tensor]], a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """σ, σ' and, by autograd element by element, σ'' at a; without a graph."""
    with torch.enable_grad():
        leaf = a.detach().requires_grad_()
        value, slope = value_slope(leaf)
        # a straight or kinked function has a slope that follows from no differentiable operation
        curvature = torch.autograd.grad(slope.sum(), leaf)[0] if slope.requires_grad else torch.zeros_like(a)
    return value.detach(), slope.detach(), curvature


def mixed_functions(
    hidden: Sequence[int],
    num_types: int,
    sets: Tensor | None = None,
    *,
    blocks: Sequence[int] = (),
    mixing: Mixing = "within_layer",
) -> tuple[Tensor, ...]:
    """The functions of mixed layers: every type of a set, spread equally over each layer unless said otherwise.

    Args:
        hidden: units of each hidden layer.
        num_types: K.
        sets: (N,) int64, which set each network uses; None means one set for all, giving shape (1, H).
        blocks: which block of the network each layer belongs to, for a mixing ``per_block``.
        mixing: where types are told apart; see `layer_types`.

    Returns:
        for each layer (N, H) int64.

    Raises:
        ValueError: a layer has fewer units than there are types.
    """
    first = torch.zeros(1, 1, dtype=torch.int64) if sets is None else sets.view(-1, 1)
    types = layer_types(hidden, blocks, num_types, mixing)
    return tuple(first * num_types + of_layer.to(first.device) for of_layer in types)


def pure_functions(hidden: Sequence[int], function: int) -> tuple[Tensor, ...]:
    """The functions of pure layers: one function of the bank for all units.

    Args:
        hidden: units of each hidden layer.
        function: its index in the bank.

    Returns:
        for each layer (1, H) int64.
    """
    return tuple(torch.full((1, width), function) for width in hidden)
