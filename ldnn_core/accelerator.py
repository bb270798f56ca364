"""Plain tensor arithmetic compiled by `torch.compile` for an accelerator, where that can be had.

On a CUDA device each operation of a look-up, a loss or an update is a kernel of its own, which reads and writes
memory that the next one reads again.  `torch.compile` makes one kernel of them (with Triton).  It needs a compiler and
a device that is new enough; so the first thing that fails ends all attempts of the process, with a warning that says
why, and the same arithmetic runs eagerly.  On the CPU nothing is compiled in this way: there Numba's kernels serve.

The compiled functions are tested on the CPU against the eager ones, also as Triton's kernels (``make test-triton``); on
a CUDA device they have been neither tested nor timed yet.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

BLOCK_BYTES: Final = 256 << 20
"""On an accelerator work is done in blocks of about this much memory."""

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
        accelerator, config = self._accelerator, torch.compiler.config
        if accelerator.failure is not None or not _fit(accelerator.device, arguments):
            return self.eager(*arguments, **named)
        if config.recompile_limit < _VARIANTS:  # a setting of each thread, and autograd has threads of its own
            config.recompile_limit = _VARIANTS
        try:
            if self._compiled is None:
                self._compiled = _compile(self.eager)
            return self._compiled(*arguments, **named)
        except torch.OutOfMemoryError:  # the compiler is not to blame, and eagerly it would need more
            raise
        except Exception as error:  # a compiler can fail in ways that nobody has listed
            result = self.eager(*arguments, **named)
            accelerator.failure = _reason(error)
            warnings.warn(
                f"nothing is compiled for {accelerator.device} any more: {accelerator.failure}",
                RuntimeWarning,
                stacklevel=2,
            )
            return result


CUDA: Final = Accelerator("cuda")
"""That of CUDA devices."""


def prepare(device: str) -> None:
    """Let a device compute in the precision that its tensors have, and the same twice.

    cuDNN's convolutions otherwise round float32 to the ten bits of TF32, which no Hessian survives, and add up in an
    order that differs from run to run.
    """
    if device == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # set up at run time
        torch.backends.cudnn.deterministic = True


def block_bytes(cpu: int, like: Tensor) -> int:
    """How much memory a block of work takes: what suits the caches of a CPU, or much more on an accelerator."""
    return cpu if like.is_cpu else max(cpu, BLOCK_BYTES)


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
    return torch.compile(function, dynamic=True, fullgraph=True, options={"compile_threads": 1})


def _reason(error: Exception) -> str:
    """Class and first line of an exception; of a compiler's it is the second that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]
