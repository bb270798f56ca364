"""Whether the compiled CPU kernels can be used: on this machine, and for given tensors.

No compiler may be needed: whatever a kernel does, an eager path does too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def _available() -> bool:
    try:
        from ldnn_core import vector_access

        return vector_access.works()
    except Exception:  # no Numba for this platform, one with other internals, or no place to cache: all the same here
        return False


FUSED_AVAILABLE = _available()
"""Whether the compiled CPU kernels can be used here."""

_ONE = {torch.float32: np.float32(1), torch.float64: np.float64(1)}
"""The types of number that kernels know, each as the number 1 of it."""


def fits_kernels(first: Tensor, *others: Tensor) -> bool:
    """Whether kernels can be used for these tensors: all on the CPU, of one supported type, outside any graph."""
    dtype = first.dtype
    if not FUSED_AVAILABLE or dtype not in _ONE:
        return False
    for tensor in (first, *others):  # noqa: SIM110 (a generator costs more than what it asks)
        if not tensor.is_cpu or tensor.dtype != dtype or tensor.requires_grad:
            return False
    return True


def call(kernel: Any, first: Tensor, *others: Tensor | float) -> Any:
    """What a kernel returns for tensors and numbers.

    A tensor is passed as the address of its memory, of a contiguous copy where it is not contiguous: what is written
    must be.  Before all, the kernel gets a 1 of the type of the first tensor, which says what lies at the addresses.
    """
    kept: list[Tensor] = []  # a copy has to live as long as the call
    arguments: list[Any] = []
    for argument in (first, *others):
        if isinstance(argument, Tensor):
            memory = argument.contiguous()
            kept.append(memory)
            arguments.append(memory.data_ptr())
        else:
            arguments.append(argument)
    return kernel(_ONE[first.dtype], *arguments)


def new_like(tensor: Tensor) -> Tensor:
    """A contiguous tensor of that shape, whatever the strides, to be written."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
