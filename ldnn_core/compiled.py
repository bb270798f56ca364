"""Whether the compiled CPU kernels can be used: on this machine, and for given tensors.

No compiler may be needed: whatever a kernel does, an eager path does too.
"""

from __future__ import annotations

from typing import Any

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

_TYPES = (torch.float32, torch.float64)


def fits_kernels(first: Tensor, *others: Tensor) -> bool:
    """Whether kernels can be used for these tensors: all on the CPU, of one supported type, outside any graph."""
    if not FUSED_AVAILABLE or first.dtype not in _TYPES:
        return False
    dtype = first.dtype
    return all(t.device.type == "cpu" and t.dtype == dtype and not t.requires_grad for t in (first, *others))


def array(tensor: Tensor) -> Any:
    """The tensor as a contiguous array: the same memory where it is contiguous already."""
    return tensor.contiguous().numpy()


def new_like(tensor: Tensor) -> Tensor:
    """A contiguous tensor of that shape, whatever the strides, to be written."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
