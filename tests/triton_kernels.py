"""The kernels that ``torch.compile`` makes of the core's arithmetic for CUDA devices, tried without a device.

``make test-triton`` installs Triton and runs ``python -m tests.triton_kernels``.  Inductor is told to write Triton for
tensors of the CPU, and two questions are asked, each in a process of its own, because Triton decides when it is
imported whether it interprets:

- *numbers*: Triton's interpreter runs the kernels; each function must give the eager numbers, and training and every
  estimator of meta-gradients those of the CPU's kernels.
- *code*: Triton and ptxas compile the kernels for compute capability 9.0 (an H100), and nothing is run.

What it cannot say: that a device runs them, and how fast.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from types import SimpleNamespace

import numpy as np
import torch
import torch._inductor.config as inductor_config
import triton
import triton.language as tl
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from ldnn_core import compiled, hermite_arithmetic, loss_arithmetic, optimizer_arithmetic, philox
from ldnn_core.accelerator import CUDA, Accelerator
from ldnn_core.estimators import ESTIMATORS
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case
from tests.ldnn_core.test_accelerator import look_up_inputs, random

CAPABILITY = 90
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
"""How far a kernel may be from the eager function, relative to 1 plus the number."""
WHOLE = 1e-9
"""How far training and meta-gradients in float64 may be, relative to the largest number."""


def calls():
    """Every compiled function with arguments in float64."""
    a, coefficients, function, cells = look_up_inputs(2, 5, 4)
    finite, units = a.nan_to_num(0.3), [random(2, 5, 4, seed=seed) for seed in range(2, 7)]
    flat = [random(3, 7, seed=seed).abs() for seed in range(6)]
    lr = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    z, dz, y = *(3 * random(2, 5, 4, seed=seed) for seed in range(2)), torch.tensor([[0, 3, 1, 1, 2]])
    rms, adam = (lr, 0.9, 1e-8, 1e-12), (lr, 0.9, 0.99, 1.1, 1.2, 1e-8, 1e-12)
    table = function, len(coefficients), *cells
    return {
        hermite_arithmetic.value_slope: (a, coefficients, function, *cells),
        hermite_arithmetic.value_slope_curvature: (a, coefficients, function, *cells),
        hermite_arithmetic.tangent: (a, units[0], coefficients, function, *cells),
        hermite_arithmetic.cotangent: (finite, *units[:2], *table),
        hermite_arithmetic.tangent_back: (finite, *units, *table),
        loss_arithmetic.value_slope: (z, y),
        loss_arithmetic.slope_jvp: (z, y, dz),
        philox._uniform: (torch.arange(3) + 2**40, 5, 7, 3, 0.3 / 2**23, torch.float64),
        optimizer_arithmetic.rmsprop: (*flat[:3], *rms),
        optimizer_arithmetic.rmsprop_vjp: (*flat[:4], *rms),
        optimizer_arithmetic.sgd: (*flat[:3], lr, 0.9),
        optimizer_arithmetic.sgd_vjp: (*flat[:4], lr, 0.9),
        optimizer_arithmetic.adam: (*flat[:4], *adam),
        optimizer_arithmetic.adam_vjp: (*flat[:6], *adam),
    }


def cases():
    """Name, function, type of number and arguments of each call."""
    for function, arguments in calls().items():
        for dtype in (torch.float64, torch.float32):
            cast = [in_dtype(argument, dtype) for argument in arguments]
            name = f"{function.__module__.rpartition('.')[2].partition('_')[0]}.{function.__name__}"
            yield name, str(dtype).rpartition(".")[2], function, cast


def in_dtype(argument, dtype):
    """A tensor of numbers, or what says their type, in another type; anything else as it is."""
    if isinstance(argument, torch.dtype):
        return dtype
    return argument.to(dtype) if torch.is_tensor(argument) and argument.is_floating_point() else argument


class Device:
    """What Triton asks of a driver while it writes and compiles kernels."""

    def get_current_target(self):
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


class Counter(TorchDispatchMode):
    """Counts the operations that compute something."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += not function.is_view
        return function(*args, **(kwargs or {}))


@triton.jit
def is_nan(x):
    """As CUDA's library, which the interpreter lacks."""
    return x != x


@triton.jit
def floor(x):
    """As CUDA's library."""
    return tl.floor(x)


@triton.jit
def root(x):
    """As CUDA's library."""
    return tl.sqrt(x)


@triton.jit
def exp(x):
    """As CUDA's library."""
    return tl.exp(x)


@triton.jit
def log(x):
    """As CUDA's library."""
    return tl.log(x)


def numbers():
    """By name and type of number: the largest deviation of the interpreted kernels from the eager function."""
    from torch._inductor.runtime import triton_helpers
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    from triton.runtime import interpreter

    triton_helpers.libdevice = SimpleNamespace(isnan=is_nan, floor=floor, sqrt=root, exp=exp, log=log)
    as_it_was = interpreter._implicit_cvt

    def in_full(argument):  # a number comes as float64, as the kernel's signature says, and not as float32
        if not isinstance(argument, float):
            return as_it_was(argument)
        return tl.tensor(interpreter.TensorHandle(np.array([argument]), tl.float64), tl.float64)

    interpreter._implicit_cvt = in_full
    run, launches = CachingAutotuner.run, []

    def counted(self, *arguments, **named):
        launches.append(self)
        return run(self, *arguments, **named)

    CachingAutotuner.run = counted
    found = {}
    for name, dtype, function, arguments in cases():
        launches.clear()
        here = Accelerator("cpu")
        with torch.inference_mode():
            ours, eager = here.compiles(function.eager)(*arguments), function.eager(*arguments)
        if here.failure is not None or not launches:
            raise RuntimeError(f"{name} in {dtype}: {here.failure or 'no kernel was run'}")
        found[f"{name} {dtype}"] = max(map(deviation, tensors(ours), tensors(eager)))
    return found | {f"{name} whole": value for name, value in wholes(launches)}


def tensors(result):
    """A result as a list of tensors."""
    return [result] if torch.is_tensor(result) else list(result)


def deviation(ours, eager):
    """The largest, relative to 1 plus the number; NaN must be NaN in both."""
    if not torch.equal(ours.isnan(), eager.isnan()):
        return float("inf")
    return ((ours - eager).abs() / (eager.abs() + 1)).nan_to_num(0.0).max().item()


def wholes(launches):
    """Training and estimators as on a CUDA device, against the kernels of Numba."""

    def both(as_run):
        expected = as_run()
        compiled.FUSED_AVAILABLE, CUDA.device = False, "cpu"
        launches.clear()
        ours = as_run()
        compiled.FUSED_AVAILABLE, CUDA.device = True, "cuda"
        if CUDA.failure is not None or len(set(launches)) < 4:  # look-ups, the loss, updates
            raise RuntimeError(CUDA.failure or "fewer kernels were run than are needed")
        return ((ours - expected).abs().max() / expected.abs().max()).item()

    for optimizer in ("rmsprop", "sgd", "adam"):
        case = small_case(optimizer=optimizer, hidden=(7, 5), noise=0.1)
        yield f"training by {optimizer}", both(lambda: train(*of(case)).parameters)  # noqa: B023 (called at once)
        for name in ESTIMATORS if optimizer == "rmsprop" else ("unrolled",):
            yield f"{name}, {optimizer}", both(lambda: ESTIMATORS[name]().estimate(*of(case), 4, seed=0).gradient)  # noqa: B023


def of(case):
    """What training and estimators ask for."""
    return case.problem, case.parameters, case.batches, case.activation()


def code():
    """By name and type of number: kernels, bytes of machine code, and operations of the eager function."""
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner, DeviceProperties

    sizes = []

    def precompile(self, *_, **__):
        device = DeviceProperties("cuda", 0, 132, CAPABILITY, 9, 65536, 2048, 227 * 1024, 32)
        meta = self.triton_meta | {"device": device}
        source = triton.compiler.ASTSource(
            self.fn, meta["signature"], meta["constants"] | self.configs[0].kwargs, meta["configs"][0]
        )
        binary = triton.compile(
            source,
            target=GPUTarget("cuda", CAPABILITY, 32),
            options={"num_warps": self.configs[0].num_warps, "num_stages": self.configs[0].num_stages},
        )
        sizes.append(len(binary.asm["cubin"]))

    CachingAutotuner.precompile = precompile
    CachingAutotuner.run = lambda self, *arguments, **named: None
    found = {}
    for name, dtype, function, arguments in cases():
        sizes.clear()
        here = Accelerator("cpu")
        with torch.inference_mode():
            here.compiles(function.eager)(*arguments)
            with Counter() as eager:
                function.eager(*arguments)
        if here.failure is not None or not sizes:
            raise RuntimeError(f"{name} in {dtype}: {here.failure or 'no kernel was written'}")
        found[f"{name} {dtype}"] = [len(sizes), sum(sizes), eager.operations]
    return found


def child(part):
    """What one part has found, from a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        own = {"TRITON_INTERPRET": "1" if part == "numbers" else "0"}
        own |= {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
        command = [sys.executable, "-m", "tests.triton_kernels", part]
        done = subprocess.run(command, env=os.environ | own, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Print the table; exits with 1 where a kernel gives other numbers."""
    found, made = child("numbers"), child("code")
    print(f"{'function':<30} {'type':<8} {'operations':>10} {'kernels':>7} {'code':>8} {'deviation':>9}")
    wrong = 0
    for key, value in found.items():
        name, _, dtype = key.rpartition(" ")
        wrong += not value <= TOLERANCE.get(dtype, WHOLE)
        kernels, size, operations = made.get(key, ("", "", ""))
        print(f"{name:<30} {dtype:<8} {operations:>10} {kernels:>7} {size:>8} {value:>9.1e}")
    print(f"compiled for compute capability {CAPABILITY / 10}; {wrong} of {len(found)} rows give other numbers")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        driver.set_active(Device())
        inductor_config.cpu_backend = "triton"
        warnings.simplefilter("ignore")
        print(json.dumps(numbers() if sys.argv[1] == "numbers" else code()))
    else:
        main()
