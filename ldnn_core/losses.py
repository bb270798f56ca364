"""What a network is trained to make small, with the derivatives that the fast path needs.

Shapes: N networks, B batch, C outputs.  Every loss is a mean over the batch, one number per network.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ldnn_core import loss_arithmetic as arithmetic
from ldnn_core.compiled import FUSED_AVAILABLE, call, fits_kernels, new_like

if FUSED_AVAILABLE:
    from ldnn_core import loss_kernels as kernels


class Loss(Protocol):
    """A loss per network and its first two derivatives with respect to the outputs z."""

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """Outputs z (N, B, C) and targets y → (N,), differentiable by autograd."""
        ...

    def value_slope(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (N,) and its gradient with respect to z (N, B, C)."""
        ...

    def slope_jvp(self, z: Tensor, y: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        """That gradient and its directional derivative when z moves along dz, each (N, B, C)."""
        ...


class CrossEntropy:
    """Mean negative log-probability of the right class [nat]; targets (N or 1, B) int64."""

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss of each network."""
        log_p = torch.log_softmax(z, dim=-1)
        return -log_p.gather(-1, y.expand(z.shape[:2]).unsqueeze(-1)).squeeze(-1).mean(dim=-1)

    def value_slope(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """∂L/∂z = (softmax(z) - onehot(y)) / B."""
        if _fits(z, y):
            e, at_target = self._exponentials(z, y)
            loss, slope = new_like(z[:, 0, 0]), new_like(z)
            call(kernels.value_slope, e, y, *_shape(z, y), at_target, loss, slope)
            return loss, slope
        return arithmetic.value_slope(z, y)

    def slope_jvp(self, z: Tensor, y: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        """With p = softmax(z):  p ∘ (dz - ⟨p, dz⟩) / B."""
        if _fits(z, y, dz):
            e, _ = self._exponentials(z, y)
            slope, tangent = new_like(z), new_like(z)
            call(kernels.slope_jvp, e, dz, y, *_shape(z, y), slope, tangent)
            return slope, tangent
        return arithmetic.slope_jvp(z, y, dz)

    def _exponentials(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """exp(z - max z), and z - max z of the right class (N, B)."""
        shifted, at_target = new_like(z), new_like(z[..., 0])
        if not call(kernels.shift, z, y, *_shape(z, y), shifted, at_target):
            raise IndexError(f"classes must be 0 to {z.shape[2] - 1}, but got {int(y.min())} to {int(y.max())}")
        return shifted.exp_(), at_target


class SquaredError:
    """Mean over batch and outputs of the squared error; targets (N or 1, B, C)."""

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss of each network."""
        return ((z - y) ** 2).mean(dim=(-2, -1))

    def value_slope(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """∂L/∂z = 2 (z - y) / (B C)."""
        error = z - y
        return (error**2).mean(dim=(-2, -1)), 2 * error / (z.shape[1] * z.shape[2])

    def slope_jvp(self, z: Tensor, y: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        """2 dz / (B C)."""
        return self.value_slope(z, y)[1], 2 * dz / (z.shape[1] * z.shape[2])


def _fits(z: Tensor, y: Tensor, *others: Tensor) -> bool:
    return fits_kernels(z, *others) and y.is_cpu and y.dtype == torch.int64


def _shape(z: Tensor, y: Tensor) -> tuple[int, int, int, int]:
    """How far the targets of two networks are apart, and N, B, C."""
    networks, batch, classes = z.shape
    return batch if y.shape[0] > 1 else 0, networks, batch, classes
