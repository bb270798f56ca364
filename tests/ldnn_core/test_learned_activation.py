"""A card's module in anybody's network: shapes, types of number, transformations, devices."""

import copy
import pickle
import shutil

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from ldnn_core import LearnedActivation, load_activation, write_card
from ldnn_core.activations import TableBank
from ldnn_core.layout import mixed_types
from tests.ldnn_core.cards import SPECS, exact, small_card

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")
torchs_own = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
"""What torch says of its own compiler when it is first used."""


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def module_of(name="sin", **options):
    return LearnedActivation(small_card(name), **options)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("shape", "axis"), [((7, 5), 1), ((2, 6, 3), 1), ((3, 5, 2, 4), 1), ((4, 3, 5), -1), ((5,), 0)]
)
def test_outputs_are_those_of_the_sub_networks(name, shape, axis):
    x = normal(*shape)
    y = module_of(name, axis=axis)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y.double(), exact(small_card(name), x, axis), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_a_trainable_module_gives_the_same(name):
    x = normal(2, 6, 3, dtype=torch.float64)
    y = module_of(name, trainable=True, dtype=torch.float64)(x)
    torch.testing.assert_close(y, exact(small_card(name), x), atol=1e-12, rtol=1e-12)


def test_outputs_are_bit_for_bit_those_of_the_engine():
    card = small_card("normalised")
    a = 4 * normal(1, 300, 7)
    table = TableBank(card.spec, card.genomes.unsqueeze(0)).replaced(card.coefficients.float())
    engine = table.table.__class__(card.coefficients.float(), card.spec.grid, fused=False)
    assert torch.equal(LearnedActivation(card)(a[0]), engine.value_slope(a, mixed_types(7, 3).unsqueeze(0))[0][0])


def test_a_pure_type_takes_any_shape():
    card = small_card()
    for k in range(2):
        pure = LearnedActivation(card, type_index=k)
        x = normal(2, 4)
        torch.testing.assert_close(pure(x)[:, 2 * k : 2 * k + 2], LearnedActivation(card)(x)[:, 2 * k : 2 * k + 2])
        assert pure(torch.tensor(0.5)).shape == ()
        assert pure(torch.zeros(0)).shape == (0,)


def test_beyond_the_table_functions_go_on_straight():
    module = module_of()
    low, high = module.spec.grid.ends
    for type_index in range(2):
        pure = module_of(type_index=type_index, dtype=torch.float64)
        for end, sign in ((high, 1), (low, -1)):
            x = torch.tensor([end, end + sign, end + 5 * sign], dtype=torch.float64)
            first, second, third = pure(x).tolist()
            assert third - first == pytest.approx(5 * (second - first), rel=1e-12)
    assert module(torch.full((1, 2), torch.nan)).isnan().all()


@pytest.mark.parametrize("options", [{}, {"trainable": True}, {"type_index": 1}])
def test_twice_differentiable(options):
    module = module_of(dtype=torch.float64, **options)
    x = normal(3, 5, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(module, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(module, x)


def test_genomes_of_a_trainable_module_have_gradients():
    module = module_of("normalised", trainable=True, dtype=torch.float64)
    x = normal(4, 3, dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]
    assert names == ["genomes"]
    assert torch.autograd.gradcheck(lambda g: functional_call(module, {"genomes": g}, (x,)), module.genomes)


def test_a_table_has_no_parameters_and_a_graph_keeps_its_input_alone():
    module = module_of()
    assert list(module.parameters()) == []
    x = normal(50, 40, 20).requires_grad_()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    table = module.coefficients.numel() * 4
    assert sum(kept.values()) <= x.numel() * 4 + table + 1000


@pytest.mark.parametrize("options", [{}, {"trainable": True}])
def test_function_transforms(options):
    module = module_of(axis=-1, dtype=torch.float64, **options)
    x = normal(4, 5, dtype=torch.float64)

    def loss(row):
        return module(row).square().sum()

    slope = torch.autograd.functional.jacobian(module, x[0]).diagonal()
    torch.testing.assert_close(vmap(grad(loss))(x)[0], 2 * module(x[0]) * slope)
    torch.testing.assert_close(jacrev(module)(x[0]), jacfwd(module)(x[0]))
    torch.testing.assert_close(jacrev(module)(x[0]).diagonal(), slope)
    expected = torch.stack([torch.autograd.functional.hessian(loss, row) for row in x])
    torch.testing.assert_close(vmap(hessian(loss))(x), expected)
    torch.testing.assert_close(jacrev(jacrev(loss))(x[0]), expected[0])
    torch.testing.assert_close(jvp(module, (x,), (torch.ones_like(x),))[1][0], slope)
    torch.testing.assert_close(vmap(module, in_dims=1, out_dims=1)(x.T.contiguous()), module(x.T.contiguous().T).T)


def test_modules_with_different_tables_run_under_one_vmap():
    modules = [LearnedActivation(small_card("sin"), axis=-1), module_of("sin", axis=-1)]
    modules[1].coefficients.mul_(2)
    tables = torch.stack([module.coefficients for module in modules])
    x = normal(2, 3, 6)
    y = vmap(lambda table, rows: functional_call(modules[0], {"coefficients": table}, (rows,)))(tables, x)
    torch.testing.assert_close(y, torch.stack([module(rows) for module, rows in zip(modules, x, strict=True)]))


class Block(nn.Module):
    """Two convolutions, as in a network of somebody else's."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3)
        self.norm, self.activation = nn.BatchNorm2d(6), activation

    def forward(self, x):
        return self.second(self.activation(self.norm(self.first(x))))


@torchs_own
@pytest.mark.parametrize("options", [{}, {"trainable": True}])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(options, backend):
    block = Block(module_of("normalised", **options))
    assert_compiles(block, backend, normal(2, 1, 8, 8))


@pytest.mark.slow
@needs_compiler
@torchs_own
def test_compiled_to_machine_code():
    assert_compiles(nn.Sequential(nn.Linear(5, 6), module_of()), "inductor", normal(3, 5))


def assert_compiles(block, backend, x):
    torch.compiler.reset()
    expected = block(x)
    expected_slopes = torch.autograd.grad(expected.square().sum(), list(block.parameters()))
    compiled = torch.compile(block, fullgraph=True, backend=backend)
    y = compiled(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    slopes = torch.autograd.grad(y.square().sum(), list(block.parameters()))
    for one, other in zip(slopes, expected_slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@torchs_own
def test_exported_as_a_graph():
    module = module_of()
    x = normal(2, 6)
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype, trainable):
    module = module_of(trainable=trainable)
    x = normal(3, 6).to(dtype)
    y = module(x)
    assert y.dtype == dtype
    assert torch.equal(y, module(x.float()).to(dtype))


@pytest.mark.parametrize("trainable", [False, True])
def test_under_autocast_the_result_has_the_type_of_the_input(trainable):
    module, linear = module_of(trainable=trainable), nn.Linear(3, 6)
    x = normal(4, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        a = linear(x)
        y = module(a)
    assert a.dtype == y.dtype == torch.bfloat16
    assert torch.equal(y, module(a))
    y.float().sum().backward()
    assert x.grad.isfinite().all()


def test_a_network_in_half_precision_keeps_its_table():
    module = module_of()
    before = module.coefficients.clone()
    net = nn.Sequential(nn.Linear(3, 6), module).half()
    assert net[0].weight.dtype == torch.float16
    assert torch.equal(module.coefficients, before)
    assert module.double().coefficients.dtype == torch.float64


@pytest.mark.parametrize("trainable", [False, True])
def test_moves_to_other_devices(trainable):
    module = module_of(trainable=trainable).to("meta")
    y = module(torch.empty(3, 6, device="meta"))
    assert y.device.type == "meta"
    assert y.shape == (3, 6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("trainable", [False, True])
def test_the_same_on_cuda(trainable):
    module = module_of(trainable=trainable)
    x = normal(5, 6, 3)
    expected = module(x)
    moved = module.cuda()
    torch.testing.assert_close(moved(x.cuda()).cpu(), expected)
    with torch.autocast("cuda"):
        assert moved(x.cuda().half()).dtype == torch.float16


@pytest.mark.parametrize("trainable", [False, True])
def test_state_copies_and_pickles(trainable):
    module, other = module_of(trainable=trainable), module_of(trainable=trainable)
    x = normal(2, 6)
    (state,) = module.state_dict().values()
    with torch.no_grad():
        next(iter(other.state_dict().values())).zero_()
    assert not torch.equal(other(x), module(x))
    other.load_state_dict(module.state_dict())
    twin = copy.deepcopy(module)
    again = pickle.loads(pickle.dumps(module))
    for one in (other, twin, again):
        assert torch.equal(one(x), module(x))
    with torch.no_grad():
        state.zero_()
    assert not torch.equal(twin(x), module(x))


def test_channels_last_stay_so():
    x = normal(2, 6, 4, 4).to(memory_format=torch.channels_last)
    y = module_of()(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, module_of()(x.contiguous()))


def test_loading_passes_the_options_on(tmp_path):
    write_card(small_card(), tmp_path / "set.safetensors")
    module = load_activation(tmp_path / "set.safetensors", channels=4, axis=-1, type_index=1, dtype=torch.float64)
    assert repr(module) == "LearnedActivation(type 1, base=sin, channels=4, axis=-1, trainable=False)"
    assert module.coefficients.dtype == torch.float64
    assert load_activation(tmp_path / "set.safetensors", trainable=True).trainable
    assert "2 types mixed" in repr(load_activation(tmp_path / "set.safetensors"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type_index": 2}, "0 <= type_index < num_types"),
        ({"type_index": -1}, "0 <= type_index < num_types"),
        ({"dtype": torch.float16}, "torch.float32 or torch.float64"),
        ({"channels": 1}, "1 <= num_types <= width"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        module_of(**options)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the input must have axis 1"):
        module_of()(torch.zeros(3))
    with pytest.raises(ValueError, match="1 <= num_types <= width"):
        module_of()(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="must have 4 channels, but got 6"):
        module_of(channels=4)(torch.zeros(3, 6))
    with pytest.raises(TypeError, match=r"floating-point numbers, but got torch\.int64"):
        module_of()(torch.zeros(3, 2, dtype=torch.int64))
