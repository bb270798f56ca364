"""Variance of the signal before training: closed forms of wide networks, and plain modules with hooks in float64."""

import math

import pytest
import torch
from torch import nn

from ldnn_core import initial_variance
from ldnn_core.activations import UsualActivation
from ldnn_core.architectures import ARCHITECTURES
from ldnn_core.arms import SetArms
from ldnn_core.evaluation import PerSeed, Training, evaluate_arms, fresh_networks, rows_of_steps
from ldnn_core.initial_variance import measure_initial_variance
from ldnn_core.losses import CrossEntropy
from ldnn_core.mlp import MlpSpec
from ldnn_core.modules import ModuleNetwork
from ldnn_core.optimizers import SGD
from ldnn_core.randomness import generator
from ldnn_core.slots import ActivationSlot
from ldnn_core.subnetwork import ActivationSpec, exact_values, initial_genomes
from ldnn_core.tasks import Rows, TaskData

RELU = {"relu": UsualActivation("relu")}
OF_RELU = 1 / 2 - 1 / (2 * math.pi)
"""Variance of max(z, 0) for a standard normal z: its second moment less its squared mean."""


def task(shape=(64,), rows=300, unit_rows=False):
    x = torch.randn(rows, *shape, generator=generator(0, "x"))
    if unit_rows:  # the same length for all rows, so that the closed form is that of each of them
        x = x * (x[0].numel() ** 0.5 / x.flatten(1).norm(dim=1)).view(-1, *[1] * len(shape))
    y = torch.randint(3, (rows,), generator=generator(0, "y"))
    some = Rows(x[:20], y[:20])
    return TaskData("toy", Rows(x, y), some, some, 3, CrossEntropy(), 1 / 3)


def measured(data, network, arms=RELU, seeds=range(3), **changes):
    options = {"batch_size": 100, "root_seed": 5} | changes
    return measure_initial_variance(data, network, arms, seeds, **options)


def mean_over_seeds(found):
    return tuple(
        torch.tensor([getattr(one, name) for one in found], dtype=torch.float64).mean(dim=0).tolist()
        for name in ("variance_in", "variance_out")
    )


def test_relu_keeps_the_variance_in_a_wide_network_with_he_initialisation():
    sizes = [(64, 800), (800, 800), (800, 800), (800, 800)]
    layers = [part for i, o in sizes for part in (nn.Linear(i, o), ActivationSlot(o))]
    network = ModuleNetwork(nn.Sequential(*layers, nn.Linear(800, 3)), CrossEntropy(), initial="he_uniform")
    going_in, coming_out = mean_over_seeds(measured(task(unit_rows=True), network))
    assert going_in == pytest.approx([2.0] * 4, rel=0.08)  # 2 mean(x²) = 2, and mean(relu²) is half of what goes in
    assert coming_out == pytest.approx([2 * OF_RELU] * 4, rel=0.08)


def test_relu_loses_five_sixths_of_it_in_every_layer_with_pytorchs_initialisation():
    # Weights and biases have the variance 1 / (3 fan_in): He's factor 2 is a third here, and biases add a little.
    width, data = 600, task(unit_rows=True)
    expected = [1 / 3 + 1 / (3 * 64)]
    for _ in range(3):
        expected.append(expected[-1] / 6 + 1 / (3 * width))
    going_in, coming_out = mean_over_seeds(measured(data, MlpSpec(64, (width,) * 4, 3, CrossEntropy())))
    assert going_in == pytest.approx(expected, rel=0.1)
    assert coming_out[0] == pytest.approx(expected[0] * OF_RELU, rel=0.1)


class Learned(nn.Module):
    """The types of a set on equal parts of the channels, by their sub-networks instead of tables."""

    def __init__(self, spec, genomes, channels):
        super().__init__()
        self.spec, self.genomes, self.half = spec, genomes, channels // 2

    def forward(self, x):
        parts = (x[:, : self.half], x[:, self.half :])
        values = [
            exact_values(self.spec, self.genomes, part.flatten())[k].view_as(part) for k, part in enumerate(parts)
        ]
        return torch.cat(values, dim=1)


def plain_vgg_he(parameters, make, filters=4):
    """VGG-HE-1 of PyTorch's own layers for 8 × 8 images with these flat parameters, and what its activations see."""
    seen, activations = [], [make(filters) for _ in range(3)]
    for one in activations:
        one.register_forward_hook(
            lambda _, x, y: seen.append((float(x[0].detach().var(correction=0)), float(y.detach().var(correction=0))))
        )
    norms = [nn.BatchNorm2d(filters), nn.BatchNorm2d(filters), nn.BatchNorm1d(filters)]
    convolutions = [nn.Conv2d(1, filters, 3, padding=1), nn.Conv2d(filters, filters, 3, padding=1)]
    body = [part for parts in zip(convolutions, activations[:2], norms[:2], strict=True) for part in parts]
    dense = [nn.Flatten(), nn.Linear(filters * 16, filters), activations[2], norms[2], nn.Linear(filters, 3)]
    plain = nn.Sequential(*body, nn.MaxPool2d(2), *dense).double()
    start = 0
    for parameter in plain.parameters():
        parameter.data = parameters[start : start + parameter.numel()].double().view(parameter.shape)
        start += parameter.numel()
    assert start == len(parameters)
    return plain, seen


@pytest.mark.parametrize("arm", ["silu", "mixed"])
def test_a_convolutional_network_is_measured_as_hooks_on_a_plain_one_in_float64_do(arm):
    data, spec = task((1, 8, 8)), ActivationSpec("sin", 2, (6,), table_scale=256)
    network = ARCHITECTURES["vgg_he"]((1, 8, 8), 3, 4, 1, CrossEntropy())
    genomes = 2 * initial_genomes(spec, 0)[0]
    arms = {"silu": UsualActivation("silu"), "mixed": SetArms(spec, genomes, network, 0).arm("mixed")}
    seeds = (2, 0)
    found = measured(data, network, {arm: arms[arm]}, seeds)
    fresh, rows = fresh_networks(network, seeds, 5), rows_of_steps(data.split("test")[0], 100, 7, seeds, 5)[0]
    for place, one in enumerate(found):
        make = (lambda channels: Learned(spec, genomes.double(), channels)) if arm == "mixed" else lambda _: nn.SiLU()
        plain, seen = plain_vgg_he(fresh[place], make)
        plain(data.split("test")[0].x[rows[place]].double())
        assert (one.arm, one.seed) == (arm, seeds[place])
        assert one.variance_in == pytest.approx([a for a, _ in seen], rel=1e-4)
        assert one.variance_out == pytest.approx([b for _, b in seen], rel=1e-4)


@pytest.mark.parametrize(("name", "depth"), [("mlp", 3), ("vgg_he", 2), ("resnet", 1), ("mobilenet_v2", 1)])
def test_every_activation_of_every_kind_of_network_has_both_numbers(name, depth):
    network = ARCHITECTURES[name]((1, 16, 16), 3, 4, depth, CrossEntropy())
    (one,) = measured(task((1, 16, 16), rows=40), network, seeds=[0], batch_size=20)
    assert len(one.variance_in) == len(one.variance_out) == len(network.channels)
    assert all(value > 0 for value in one.variance_in + one.variance_out)


def test_it_is_that_of_the_networks_that_are_judged_and_of_their_first_batch():
    data, network, shown = task(), MlpSpec(64, (9,), 3, CrossEntropy()), []
    still = Training(SGD(0.0), lr=0.0, steps=1, batch_size=100)
    evaluate_arms(data, network, RELU, (3, 1), still, root_seed=5, observe=shown.append)
    weight, bias = shown[0].parameters[:, : 64 * 9].view(2, 64, 9), shown[0].parameters[:, 64 * 9 : 64 * 9 + 9]
    trained_on = data.split("test")[0]
    rows = rows_of_steps(trained_on, 100, 1, (3, 1), 5)[0]
    pre = torch.einsum("nbd,ndh->nbh", trained_on.x[rows], weight) + bias[:, None]
    expected = pre.flatten(1).var(dim=1, correction=0).tolist()
    assert [one.variance_in[0] for one in measured(data, network, seeds=(3, 1))] == pytest.approx(expected, rel=1e-5)


class Exploding:
    """A function that leaves single precision after two layers."""

    def value(self, a, layer):
        return 1e15 * a


def test_a_signal_that_overflows_has_no_variance_from_there_on():
    (one,) = measured(task(), MlpSpec(64, (8,) * 4, 3, CrossEntropy()), {"exploding": Exploding()}, [0])
    assert [value is not None for value in one.variance_in] == [True, True, True, False]
    assert [value is not None for value in one.variance_out] == [True, True, False, False]
    assert one.variance_out[1] == pytest.approx(1e30 * one.variance_in[1])


def test_neither_other_seeds_nor_other_arms_nor_groups_change_a_number(monkeypatch):
    spec, network, data = ActivationSpec("sin", 2, (4,)), MlpSpec(64, (8, 8), 3, CrossEntropy()), task()
    own = SetArms(spec, initial_genomes(spec, 0)[0], network, 0)
    arms = {name: own.arm(name) for name in ("mixed", "shuffled", "untrained")} | RELU
    assert isinstance(arms["untrained"], PerSeed)
    together = measured(data, network, arms, range(4))
    assert [(one.arm, one.seed) for one in together] == [(arm, seed) for arm in arms for seed in range(4)]
    monkeypatch.setattr(initial_variance, "GROUP_BYTES", 1)
    alone = [one for arm in arms for seed in range(4) for one in measured(data, network, {arm: arms[arm]}, [seed])]
    assert together == alone
