"""Arithmetic compiled for accelerators: compiled here for the CPU, against the eager one; and what happens without."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ldnn_core import accelerator, hermite_arithmetic, loss_arithmetic, optimizer_arithmetic, philox
from ldnn_core.accelerator import CUDA, Accelerator, cuda_path, prepare
from ldnn_core.hermite import Grid, HermiteTable
from ldnn_core.optimizers import Adam, RMSprop
from ldnn_core.randomness import generator
from tests.ldnn_core.cases import small_case

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
torchs_own = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
"""What torch says of its own compiler when it is first used."""


def compiled(function):
    """The function as compiled for an accelerator, here the CPU; its compilation must not fail."""
    cpu = Accelerator("cpu")
    here = cpu.compiles(function.eager)

    def call(*arguments):
        result = here(*arguments)
        assert cpu.failure is None
        assert here._compiled is not None
        return result

    return call


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "accelerator"))


def look_up_inputs(networks, batch, units):
    """Pre-activations inside and outside the table, on its ends, infinite and NaN, with coefficients and functions."""
    grid = Grid(scale=8, origin=16, cells=32)
    values, slopes = random(2, 2, grid.cells + 1)
    a = 2 * random(networks, batch, units, seed=1)
    low, high = grid.ends
    a[0, :3, 0] = torch.tensor([low, high, float("nan")])
    a[0, :2, 1] = torch.tensor([50.0, -50.0])
    function = torch.arange(units, dtype=torch.int32).remainder(2).expand(networks, -1).contiguous()
    return a, grid.coefficients(values, slopes), function, (grid.scale, grid.origin, grid.cells)


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11, equal_nan=True)


@pytest.mark.slow  # the first compilation of a process
@needs_compiler
@torchs_own
@torch.inference_mode()  # as in the sweeps of training
def test_compiled_look_ups_equal_the_eager_ones_at_every_size():
    eager = hermite_arithmetic.tangent.eager
    ours = compiled(hermite_arithmetic.tangent)
    for sizes in ((2, 5, 4), (3, 9, 6)):
        a, coefficients, function, cells = look_up_inputs(*sizes)
        arguments = (a, random(*sizes, seed=2), coefficients, function, *cells)
        y, *_ = expected = eager(*arguments)
        assert_same(ours(*arguments), expected)
        assert y.isnan().sum() == 1


@needs_compiler
@torchs_own
def test_the_compiled_cotangent_of_a_table_equals_the_eager_one():
    a, coefficients, function, cells = look_up_inputs(2, 5, 4)
    a = a.nan_to_num(0.3)
    bars = [random(*a.shape, seed=seed) for seed in range(2, 7)]
    arguments = (a, *bars, function, len(coefficients), *cells)
    expected = hermite_arithmetic.tangent_back.eager(*arguments)
    assert_same(compiled(hermite_arithmetic.tangent_back)(*arguments), expected)


@needs_compiler
@torchs_own
def test_compiled_updates_equal_the_eager_ones_at_every_step(monkeypatch):
    for name in ("adam", "rmsprop_vjp"):
        monkeypatch.setattr(optimizer_arithmetic, name, compiled(getattr(optimizer_arithmetic, name)))
    parameters, gradient, bar = (random(3, 7, seed=seed) for seed in range(3))
    monkeypatch.setattr("ldnn_core.optimizers.fits_kernels", lambda *tensors: False)
    rates = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    own = Adam().slots(parameters)
    found = []
    for step in range(3):
        parameters, own = Adam().update(parameters, own, gradient, rates, step)
        found += [parameters, *own, *vjp(RMSprop(), gradient, bar, rates)]
    monkeypatch.undo()
    parameters, own = random(3, 7, seed=0), Adam().slots(gradient)
    expected = []
    for step in range(3):
        parameters, own = Adam().update(parameters, own, gradient, rates, step)
        expected += [parameters, *own, *vjp(RMSprop(), gradient, bar, rates)]
    assert_same(found, expected)


def vjp(optimizer, gradient, bar, lr):
    slots = optimizer.slots(gradient)
    parameters_bar, slots_bar, gradient_bar = optimizer.update_vjp(slots, gradient, lr, 0, bar, (2 * bar,))
    return parameters_bar, *slots_bar, gradient_bar


@needs_compiler
@torchs_own
def test_compiled_cross_entropy_equals_the_eager_one():
    z, dz = (3 * random(2, 5, 4, seed=seed) for seed in range(2))
    z[0, 0, 0], z[1, 1, 0] = float("nan"), 800.0
    y = torch.tensor([[0, 3, 1, 1, 2]])

    def both(z, y, dz):  # compiled together, which takes half as long
        return *loss_arithmetic.value_slope.eager(z, y), *loss_arithmetic.slope_jvp.eager(z, y, dz)

    assert_same(compiled(CUDA.compiles(both))(z, y, dz), both(z, y, dz))


class Broken:
    """Compiles nothing, and counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, function):
        self.asked += 1
        raise RuntimeError("no compiler here\nand many lines besides")


@pytest.fixture
def broken(monkeypatch):
    compiler = Broken()
    monkeypatch.setattr(accelerator, "_compile", compiler)
    return compiler


def test_after_the_first_failure_all_is_eager_and_the_reason_is_kept(broken):
    cpu = Accelerator("cpu")
    double, square = cpu.compiles(lambda x: 2 * x), cpu.compiles(lambda x: x * x)
    x = torch.tensor([3.0])
    with pytest.warns(RuntimeWarning, match="nothing is compiled for cpu any more: RuntimeError: no compiler here"):
        assert double(x) == 6
    assert [float(f(x)) for f in (double, square)] == [6, 9]
    assert broken.asked == 1
    assert cpu.failure == "RuntimeError: no compiler here and many lines besides"


def test_memory_that_is_lacking_is_no_failure_of_the_compiler(monkeypatch):
    def lacking(function):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accelerator, "_compile", lacking)
    cpu = Accelerator("cpu")
    with pytest.raises(torch.OutOfMemoryError):
        cpu.compiles(torch.neg)(torch.zeros(2))
    assert cpu.failure is None


def test_every_thread_may_compile_as_often(monkeypatch):
    limits = []

    def look(function):
        limits.append(torch.compiler.config.recompile_limit)
        return function

    monkeypatch.setattr(accelerator, "_compile", look)
    with ThreadPoolExecutor(1) as autograd:
        autograd.submit(Accelerator("cpu").compiles(torch.neg), torch.zeros(2)).result()
    assert limits == [64]


def test_convolutions_on_cuda_keep_their_precision_and_can_be_repeated():
    cudnn = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.deterministic
    try:
        cudnn.conv.fp32_precision, cudnn.deterministic = "tf32", False
        prepare("cpu")
        assert (cudnn.conv.fp32_precision, cudnn.deterministic) == ("tf32", False)
        prepare("cuda")
        assert (cudnn.conv.fp32_precision, cudnn.deterministic) == ("ieee", True)
    finally:
        cudnn.conv.fp32_precision, cudnn.deterministic = before


@needs_compiler
@torchs_own
def test_compiled_noise_has_the_same_bits_at_every_step():
    noise = compiled(philox._uniform)
    for streams, blocks, step, layer in ((3, 5, 2, 2), (3, 5, 7, 3), (2, 6, 9, 1002)):
        arguments = (torch.arange(streams) + 2**40, blocks, step, layer, 0.3 / 2**23, torch.float32)
        assert torch.equal(noise(*arguments), philox._uniform.eager(*arguments))


def test_what_the_arguments_are_to_blame_for_is_raised_and_is_no_failure(monkeypatch):
    monkeypatch.setattr(accelerator, "_compile", lambda function: function)
    cpu = Accelerator("cpu")
    add = cpu.compiles(torch.add)
    with pytest.raises(RuntimeError, match="must match the size"):
        add(torch.zeros(2), torch.zeros(3))
    assert cpu.failure is None


@pytest.mark.parametrize("tensor", [torch.zeros(2), torch.zeros(2, device="meta"), torch.zeros(2, requires_grad=True)])
def test_only_tensors_of_the_device_outside_any_graph_are_compiled_for(tensor, broken):
    device = "cpu" if tensor.requires_grad else "cuda"
    assert Accelerator(device).compiles(torch.neg)(tensor).device == tensor.device
    assert broken.asked == 0


def test_nothing_is_compiled_on_the_cpu_in_normal_use(broken):
    case = small_case()
    table = HermiteTable(case.activation().bank.parameters, Grid())
    table.value_slope(torch.zeros(1, 2, 3, dtype=torch.float16), torch.zeros(1, 3, dtype=torch.int64))
    assert broken.asked == 0
    assert CUDA.failure is None


def test_the_path_of_cuda_is_said_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_path() == "no device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cuda_path() == "compiled"
    monkeypatch.setattr(CUDA, "failure", "RuntimeError: no Triton")
    assert cuda_path() == "eager: RuntimeError: no Triton"


@needs_cuda
@pytest.mark.cuda
@torchs_own
def test_look_ups_on_cuda_equal_those_on_the_cpu():
    a, coefficients, function, cells = look_up_inputs(2, 5, 4)
    grid = Grid(*cells)
    on_cpu = HermiteTable(coefficients, grid, fused=False).tangent(a, a, function)
    on_cuda = HermiteTable(coefficients.cuda(), grid).tangent(a.cuda(), a.cuda(), function.cuda())
    assert_same([one.cpu() for one in on_cuda], on_cpu)
