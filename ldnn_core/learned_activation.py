"""A found set as an `nn.Module` for anybody's network.

The functions are looked up in the table of an activation card (`ldnn_core.card`), by plain tensor arithmetic that any
transformation of PyTorch understands.  Outside `torch.compile` the look-up is one operation of autograd that keeps its
input and nothing else, as a usual activation does; the arithmetic by itself would keep fourteen times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldnn_core import hermite_arithmetic as arithmetic
from ldnn_core.card import ActivationCard
from ldnn_core.card_file import read_card
from ldnn_core.layout import type_sizes
from ldnn_core.subnetwork import exact_values


def load_activation(
    path: str | Path,
    *,
    channels: int | None = None,
    axis: int = 1,
    type_index: int | None = None,
    trainable: bool = False,
    dtype: torch.dtype = torch.float32,
) -> LearnedActivation:
    """The activation of a card's file.

    Args:
        path: the file that ``ldnn export`` or `write_card` wrote.
        channels: C, if the module is to refuse all other sizes.
        axis: where the channels are.
        type_index: use this type for all channels; None mixes all.
        trainable: make the genomes parameters, at the cost of evaluating the sub-networks.
        dtype: of the table or the genomes.

    Raises:
        CardError: the file is not a sound card.
        OSError: the file cannot be read.
        ValueError: the arguments do not fit the card.
    """
    return LearnedActivation(
        read_card(path), channels=channels, axis=axis, type_index=type_index, trainable=trainable, dtype=dtype
    )


class LearnedActivation(nn.Module):
    """The types of a set, spread over the channels of a layer in contiguous blocks; no two differ by more than one.

    It takes floating-point tensors of any shape.  Arithmetic is in float32, in float64 for inputs of that type; the
    result has the type of the input, also under autocast.  The second derivative exists everywhere but at kinks; it
    jumps by a rounding error from cell to cell, and is zero beyond the table.

    Args:
        card: the set.
        channels: C, if the module is to refuse all other sizes; None takes any from K on.
        axis: where the channels are.
        type_index: use this type for all channels, on tensors that may have none; None mixes all within a layer.
        trainable: make the genomes parameters; then the sub-networks are evaluated exactly, which costs time and
            memory in proportion to their width.
        dtype: of the table or the genomes; float64 for inputs of that type.

    Raises:
        ValueError: no such type, fewer channels than types, or another dtype.
    """

    coefficients: Tensor
    """The table, (K, G, 4), unless the module is trainable."""
    genomes: nn.Parameter
    """The weights of the sub-networks, (K, P), if it is."""

    def __init__(
        self,
        card: ActivationCard,
        *,
        channels: int | None = None,
        axis: int = 1,
        type_index: int | None = None,
        trainable: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        types = card.spec.num_types
        if type_index is not None and not 0 <= type_index < types:
            raise ValueError(f"0 <= type_index < num_types must hold, but got ({type_index=}, num_types={types})")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, but got {dtype}")
        if channels is not None and type_index is None:
            type_sizes(channels, types)
        self.spec = card.spec
        self.channels = channels
        self.axis = axis
        self.type_index = type_index
        if trainable:
            self.genomes = nn.Parameter(card.genomes.to(dtype, copy=True))
        else:
            self.register_buffer("coefficients", card.coefficients.to(dtype, copy=True))

    @property
    def trainable(self) -> bool:
        """Whether the genomes are parameters."""
        return "genomes" in self._parameters

    def forward(self, x: Tensor) -> Tensor:
        """σ(x), of the shape and type of x.

        Raises:
            TypeError: x holds no floating-point numbers.
            ValueError: x has no such axis, fewer channels than there are types, or others than were asked for.
        """
        if not x.is_floating_point():
            raise TypeError(f"an activation takes floating-point numbers, but got {x.dtype}")
        sizes = self._sizes(x)
        a = x.to(torch.promote_types(x.dtype, torch.float32))
        y = self._exact(a, sizes) if self.trainable else self._looked_up(a, sizes)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        """What `print` shows."""
        which = f"type {self.type_index}" if self.type_index is not None else f"{self.spec.num_types} types mixed"
        return f"{which}, base={self.spec.base}, channels={self.channels}, axis={self.axis}, trainable={self.trainable}"

    def _sizes(self, x: Tensor) -> tuple[int, ...] | None:
        """Channels per type; None where all have the same."""
        types = self.spec.num_types
        mixed = self.type_index is None and types > 1
        if not mixed and self.channels is None:
            return None
        if not -x.ndim <= self.axis < x.ndim:
            raise ValueError(f"the input must have axis {self.axis}, but its shape is {tuple(x.shape)}")
        channels = x.shape[self.axis]
        if self.channels is not None and channels != self.channels:
            raise ValueError(
                f"axis {self.axis} must have {self.channels} channels, but got {channels} of {tuple(x.shape)}"
            )
        return type_sizes(channels, types) if mixed else None

    def _looked_up(self, a: Tensor, sizes: tuple[int, ...] | None) -> Tensor:
        grid = self.spec.grid
        first: Tensor | int = (self.type_index or 0) * grid.cells
        if sizes is not None:
            own = [torch.full((size,), k * grid.cells, device=a.device) for k, size in enumerate(sizes)]
            first = torch.cat(own).view(-1, *[1] * (a.ndim - 1 - self.axis % a.ndim))
        coefficients = self.coefficients.to(a.dtype)
        where = (grid.scale, grid.origin, grid.cells)
        if torch.compiler.is_compiling():  # it decides itself what is kept
            return arithmetic.derivative(a, coefficients, first, *where, 0)
        value: Tensor = _LookUp.apply(a, coefficients, first, *where, 0)  # type: ignore[no-untyped-call]
        return value

    def _exact(self, a: Tensor, sizes: tuple[int, ...] | None) -> Tensor:
        # Under autocast the matrix products of the sub-networks would be in half precision.
        device = a.device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            if sizes is None:
                return self._exact_of(a, self.type_index or 0)
            parts = a.split(list(sizes), dim=self.axis)
            return torch.cat([self._exact_of(part, k) for k, part in enumerate(parts)], dim=self.axis)

    def _exact_of(self, a: Tensor, k: int) -> Tensor:
        return exact_values(self.spec, self.genomes[k : k + 1].to(a.dtype), a.reshape(1, -1)).view(a.shape)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> LearnedActivation:
        """Moves go through; `half` and the like leave the table as it is, which would be worthless after it."""
        table = None if self.trainable else self.coefficients
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if table is not None and self.coefficients.dtype not in (torch.float32, torch.float64):
            self.coefficients = table.to(self.coefficients.device)
        return self


class _LookUp(torch.autograd.Function):
    """`arithmetic.derivative`, keeping its input alone; differentiable by the input as often as wanted."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, coefficients: Tensor, first: Tensor | int, *rest: int) -> Tensor:
        return arithmetic.derivative(a, coefficients, first, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, coefficients, first, *ctx.where, ctx.order = inputs
        ctx.first = None if isinstance(first, Tensor) else first
        tensors = (a, coefficients, first) if ctx.first is None else (a, coefficients)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor | None, ...]:
        return y_bar * _LookUp._next(ctx), *[None] * 6

    @staticmethod
    def jvp(ctx: Any, a_dot: Tensor, *_: Any) -> Tensor:
        return a_dot * _LookUp._next(ctx)

    @staticmethod
    def _next(ctx: Any) -> Tensor:
        a, coefficients, *first = ctx.saved_tensors
        where = first[0] if first else ctx.first
        result: Tensor = _LookUp.apply(a, coefficients, where, *ctx.where, ctx.order + 1)  # type: ignore[no-untyped-call]
        return result
