"""Whether the compiled CPU kernels can be used: on this machine, and for given tensors.

No compiler may be needed: whatever a kernel does, an eager path does too.
"""

from __future__ import annotations

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
    """Whether kernels can be used for these tensors: all on the CPU and of one supported type."""
    if not FUSED_AVAILABLE or first.dtype not in _TYPES:
        return False
    return all(t.device.type == "cpu" and t.dtype == first.dtype for t in (first, *others))
