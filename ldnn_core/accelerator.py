"""Plain tensor arithmetic compiled by `torch.compile` for an accelerator, where that can be had.

On a CUDA device each operation of a look-up, a loss or an update is a kernel of its own, which reads and writes
memory that the next one reads again.  `torch.compile` makes one kernel of them (with Triton).  It needs a compiler and
a device that is new enough; so the first thing that fails ends all attempts of the process, the reason is kept, and the
same arithmetic runs eagerly.  On the CPU nothing is compiled in this way: there the kernels of Numba serve.

The compiled functions are tested on the CPU against the eager ones, also as Triton's kernels (``make test-triton``); on
a CUDA device they have been neither tested nor timed yet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_VARIANTS: Final = 64
"""How many kernels one function may become: types of number, with or without inference mode, axes of length one."""


class Accelerator:
    """The compiled functions of one kind of device, and whether compiling works.

    Args:
        device: for whose tensors functions are compiled.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.failure: str | None = None
        """Why nothing is compiled any more; None as long as nothing has failed."""

    def compiles(self, function: Callable[P, R]) -> Compiled[P, R]:
        """The decorator of a pure function of tensors and numbers."""
        return Compiled(self, function)


class Compiled(Generic[P, R]):
    """A pure function that runs compiled where it can, else eagerly, with the same numbers to rounding.

    Attributes:
        eager: the function as it was written.
    """

    def __init__(self, accelerator: Accelerator, eager: Callable[P, R]) -> None:
        self.eager = eager
        self._accelerator = accelerator
        self._compiled: Callable[P, R] | None = None
        update_wrapper(self, eager)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Its result; what the arguments are to blame for is raised as it would be eagerly, and is no failure."""
        accelerator = self._accelerator
        if accelerator.failure is not None or not _fit(accelerator.device, arguments):
            return self.eager(*arguments, **named)
        try:
            if self._compiled is None:
                self._compiled = _compile(self.eager)
            return self._compiled(*arguments, **named)
        except Exception as error:  # a compiler can fail in ways that nobody has listed
            result = self.eager(*arguments, **named)
            accelerator.failure = _reason(error)
            return result


CUDA: Final = Accelerator("cuda")
"""That of CUDA devices."""


def cuda_path() -> str:
    """Which path look-ups and updates take on a CUDA device, in words, as far as this process has tried."""
    if not torch.cuda.is_available():
        return "no device"
    return "compiled" if CUDA.failure is None else f"eager: {CUDA.failure}"


def _fit(device: str, arguments: tuple[Any, ...]) -> bool:
    """Whether all tensors lie on such a device, outside any graph."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    return all(tensor.device.type == device and not tensor.requires_grad for tensor in tensors)


def _compile(function: Callable[P, R]) -> Callable[P, R]:
    """For tensors of any size; in this process, which then leaves no workers of a compiler behind."""
    config = torch.compiler.config
    config.recompile_limit = max(config.recompile_limit, _VARIANTS)
    return torch.compile(function, dynamic=True, fullgraph=True, options={"compile_threads": 1})


def _reason(error: Exception) -> str:
    """Class and first line of an exception; of a compiler's it is the second that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]
