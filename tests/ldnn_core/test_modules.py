"""The general path for any module: against the fast path on an MLP, and on a convolutional network."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ldnn_core.activations import BankActivation, GroupedActivation, TableBank, UsualActivation, mixed_functions
from ldnn_core.estimators import Unrolled
from ldnn_core.losses import CrossEntropy
from ldnn_core.modules import ModuleNetwork
from ldnn_core.network import widest_layer
from ldnn_core.optimizers import SGD
from ldnn_core.randomness import generator
from ldnn_core.slots import ActivationSlot, Drop
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.training import Batches, InnerProblem, shuffled_rows, train
from tests.ldnn_core.cases import small_case


def as_module(hidden):
    sizes = (5, *hidden)
    layers = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), ActivationSlot(o)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 3))


def transposed(case):
    """The parameters of the fast path in the order of torch.nn.Linear, whose weights are (out, in)."""
    parts = []
    for weight, bias in case.problem.network.layers(case.parameters):
        parts += [weight.transpose(1, 2).flatten(1), bias.flatten(1)]
    return torch.cat(parts, dim=1)


def activations(case):
    return {
        "table": case.activation(),
        "exact": case.activation(exact=True),
        "relu": UsualActivation("relu"),
        "grouped": GroupedActivation(((UsualActivation("tanh"), 1), (case.activation(), 2))),
    }


@pytest.mark.parametrize("kind", ["table", "exact", "relu", "grouped"])
def test_general_path_equals_the_fast_one_on_an_mlp(kind):
    case = small_case(hidden=(7, 5), num_types=2, steps=5)
    activation = activations(case)[kind]
    network = ModuleNetwork(as_module((7, 5)), CrossEntropy())
    assert network.num_params == case.problem.network.num_params
    problem = InnerProblem(network, case.problem.optimizer, case.problem.lr)
    general = train(problem, transposed(case), case.batches, activation)
    fast = train(case.problem, case.parameters, case.batches, activation)
    torch.testing.assert_close(general.losses, fast.losses, rtol=1e-10, atol=1e-12)
    x, _ = case.batches.at(0)
    z, hidden = network.forward(transposed(case), x, activation)
    expected_z, expected_hidden = case.problem.network.forward(case.parameters, x, activation)
    torch.testing.assert_close(z, expected_z)
    for ours, expected in zip(hidden, expected_hidden, strict=True):
        torch.testing.assert_close(ours.pre, expected.pre)
        torch.testing.assert_close(ours.units, expected.units)


def test_the_widest_layer_of_a_module_is_that_of_a_sweep():
    assert widest_layer(ModuleNetwork(as_module((7, 5)), CrossEntropy()), (5,)) == 7
    assert widest_layer(ModuleNetwork(SmallConvolution(), CrossEntropy()), (10,)) == 60
    assert widest_layer(small_case(hidden=(4, 9)).problem.network, (5,)) == 9


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_meta_gradient_through_the_general_path_equals_the_fast_one(exact, at_a_time, monkeypatch):
    monkeypatch.setattr("ldnn_core.modules.DIFFERENTIATED_BYTES", at_a_time * 8 * 7 * 8)
    case = small_case(hidden=(7, 5), steps=5)
    activation = case.activation(exact=exact)
    problem = InnerProblem(ModuleNetwork(as_module((7, 5)), CrossEntropy()), case.problem.optimizer, case.problem.lr)
    general = Unrolled().estimate(problem, transposed(case), case.batches, activation, 5)
    fast = Unrolled().estimate(case.problem, case.parameters, case.batches, activation, 5)
    torch.testing.assert_close(general.gradient, fast.gradient, rtol=1e-8, atol=1e-12)


class SmallConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.slot1 = nn.Conv1d(1, 6, 3, padding=1), ActivationSlot(6)
        self.norm = nn.GroupNorm(2, 6)
        self.second, self.slot2 = nn.Conv1d(6, 4, 3), ActivationSlot(4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        h = self.norm(self.slot1(self.first(x.unsqueeze(1))))
        return self.out(self.slot2(self.second(h)).mean(dim=-1))


def test_convolutional_networks_of_a_batch_train_as_each_does_alone():
    network = ModuleNetwork(SmallConvolution(), CrossEntropy())
    assert network.channels == (6, 4)
    spec = ActivationSpec("sin", 2, (6,))
    bank = TableBank(spec, initial_genomes(spec, 0, sets=2, dtype=torch.float64))
    sets = torch.tensor([0, 1, 1])
    x = torch.randn(30, 10, generator=generator(0, "x"), dtype=torch.float64)
    y = torch.randint(3, (30,), generator=generator(0, "y"))
    rows = shuffled_rows(30, 6, 4, [generator(n, "rows") for n in range(3)])
    parameters = network.initial_parameters([generator(n, "network") for n in range(3)], torch.float64)
    problem = InnerProblem(network, SGD(0.9), 0.1)
    together = train(
        problem,
        parameters,
        Batches(x, y, rows, torch.arange(3)),
        BankActivation(bank, mixed_functions(network.channels, 2, sets)),
    )
    assert (together.losses[-1] != together.losses[0]).all()
    for n in range(3):
        own = BankActivation(bank, mixed_functions(network.channels, 2, sets[n : n + 1]))
        alone = train(problem, parameters[n : n + 1], Batches(x, y, rows[:, n : n + 1]), own)
        torch.testing.assert_close(together.parameters[n], alone.parameters[0], rtol=1e-10, atol=1e-12)


def test_initial_parameters_follow_pytorch_and_leave_normalisations_neutral():
    network = ModuleNetwork(SmallConvolution(), CrossEntropy())
    first = network.initial_parameters([generator(0, "network")])
    parts = network._unflatten(first[0])
    assert torch.equal(first, network.initial_parameters([generator(0, "network")]))
    assert parts["norm.weight"].tolist() == [1.0] * 6
    assert parts["norm.bias"].tolist() == [0.0] * 6
    assert 0.3 < float(parts["first.weight"].abs().max()) <= 3**-0.5
    assert 0.15 < float(parts["second.weight"].abs().max()) <= 18**-0.5


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Linear(2, 2), "at least one ActivationSlot"),
        (nn.Sequential(ActivationSlot(2), nn.BatchNorm1d(2)), "buffers"),
        (nn.Sequential(ActivationSlot(2), nn.Dropout(0.1)), "nn.Dropout: replace it"),
        (nn.Sequential(ActivationSlot(2), Drop(0.1)), "the shape of an input"),
    ],
)
def test_modules_that_cannot_be_batched_are_refused(module, words):
    with pytest.raises(ValueError, match=words):
        ModuleNetwork(module, CrossEntropy())


def test_a_slot_outside_a_batch_says_so():
    with pytest.raises(RuntimeError, match="ActivationSlot gets its part from ModuleNetwork"):
        ActivationSlot(2)(torch.zeros(1, 2))
