"""A look-up in a Hermite table as one differentiable operation, closed under differentiation.

With c the coefficients, y = σ(a; c) is linear in c, so all its derivatives are of two kinds:

    σ^(d)(a; c)            the d-th derivative by a                                     `_Derivative`
    S_d(a, ȳ)              the cotangent of c for the cotangent ȳ of σ^(d)(a; c)        `_Cotangent`

    ∂σ^(d)/∂a = σ^(d+1),   ∂⟨ȳ, σ^(d)⟩/∂c = S_d,   ∂⟨c̄, S_d⟩/∂ȳ = σ^(d)(a; c̄),   ∂⟨c̄, S_d⟩/∂a = ȳ σ^(d+1)(a; c̄)

Derivatives up to the second exist (the third of a cubic jumps from cell to cell), so results can be differentiated
twice.  Under `vmap` over networks the batch axis becomes the leading axis N that the look-up has anyway.

Shapes: N networks, B batch, H units, F functions, G cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldnn_core.hermite import Grid, HermiteTable

_HIGHEST = 2


def look_up(a: Tensor, coefficients: Tensor, function: Tensor, grid: Grid, *, fused: bool = True) -> Tensor:
    """σ(a), twice differentiable in a and in the coefficients, also under `torch.func.vmap`.

    Args:
        a: (N, B, H).
        coefficients: (F, G, 4).
        function: (N or 1, H) int64, which function each unit uses.
        grid: where the cells lie.
        fused: whether compiled kernels may be used.
    """
    return _derivative_of(a, coefficients, function, grid, fused, 0)


def _derivative_of(*arguments: Any) -> Tensor:
    result: Tensor = _Derivative.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def _cotangent_of(*arguments: Any) -> Tensor:
    result: Tensor = _Cotangent.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def _derivative(a: Tensor, coefficients: Tensor, function: Tensor, grid: Grid, fused: bool, order: int) -> Tensor:
    table = HermiteTable(coefficients.detach().contiguous(), grid, fused)
    if order < _HIGHEST:
        return table.value_slope(a.detach(), function)[order]
    return table.value_slope_curvature(a.detach(), function)[order]


class _Derivative(torch.autograd.Function):
    """σ^(order)(a; coefficients)."""

    @staticmethod
    def forward(a: Tensor, coefficients: Tensor, function: Tensor, grid: Grid, fused: bool, order: int) -> Tensor:
        return _derivative(a, coefficients, function, grid, fused, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, coefficients, function, ctx.grid, ctx.fused, ctx.order = inputs
        ctx.save_for_backward(a, coefficients, function)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor | None, ...]:
        a, coefficients, function = ctx.saved_tensors
        a_bar = coefficients_bar = None
        if ctx.needs_input_grad[0]:
            if ctx.order == _HIGHEST:
                raise RuntimeError("a looked-up activation can be differentiated twice by its input, not three times")
            a_bar = y_bar * _derivative_of(a, coefficients, function, ctx.grid, ctx.fused, ctx.order + 1)
        if ctx.needs_input_grad[1]:
            cells = coefficients.shape[0]
            coefficients_bar = _cotangent_of(a, y_bar, function, ctx.grid, ctx.fused, ctx.order, cells)
        return a_bar, coefficients_bar, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], a: Tensor, coefficients: Tensor, function: Tensor, *rest: Any
    ) -> tuple[Tensor, int]:
        """The networks of the batch become networks of one look-up; they share the coefficients."""
        if in_dims[1] is not None:
            raise ValueError("networks of a batch share one bank: give each its own functions, not its own table")
        a, function, networks = _merged(info, in_dims[0], in_dims[2], a, function)
        result = _derivative_of(a, coefficients, function, *rest)
        return result.unflatten(0, (networks, -1)), 0


class _Cotangent(torch.autograd.Function):
    """S_order(a, y_bar), of the shape of the coefficients."""

    @staticmethod
    def forward(
        a: Tensor, y_bar: Tensor, function: Tensor, grid: Grid, fused: bool, order: int, functions: int
    ) -> Tensor:
        out = a.new_zeros(functions, grid.cells, 4)
        table = HermiteTable(out, grid, fused)
        bars = [torch.zeros_like(y_bar), torch.zeros_like(y_bar)]
        if order == _HIGHEST:
            raise RuntimeError("the curvature of a looked-up activation is not differentiated by its table")
        bars[order] = y_bar.detach()
        table.add_cotangent(out, a.detach(), function, *bars)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, y_bar, function, ctx.grid, ctx.fused, ctx.order, _ = inputs
        ctx.save_for_backward(a, y_bar, function)

    @staticmethod
    def backward(ctx: Any, out_bar: Tensor) -> tuple[Tensor | None, ...]:
        a, y_bar, function = ctx.saved_tensors
        rest = (function, ctx.grid, ctx.fused)
        a_bar = y_bar * _derivative_of(a, out_bar, *rest, ctx.order + 1) if ctx.needs_input_grad[0] else None
        y_bar_bar = _derivative_of(a, out_bar, *rest, ctx.order) if ctx.needs_input_grad[1] else None
        return a_bar, y_bar_bar, None, None, None, None, None


def _merged(
    info: Any, a_dim: int | None, function_dim: int | None, a: Tensor, function: Tensor
) -> tuple[Tensor, Tensor, int]:
    """Move the batch axis of vmap to the front and join it with the axis of networks."""
    size = info.batch_size
    a = a.expand(size, *a.shape) if a_dim is None else a.movedim(a_dim, 0)
    function = function.expand(size, *function.shape) if function_dim is None else function.movedim(function_dim, 0)
    function = function.expand(size, a.shape[1], function.shape[-1])
    return a.flatten(0, 1), function.flatten(0, 1), size
