"""Judging: independence of company, an independent training loop as the oracle, and networks that diverge."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from ldnn_core import evaluation, examination
from ldnn_core.activations import (
    BankActivation,
    ExactBank,
    GroupedActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
)
from ldnn_core.evaluation import PerSeed, Training, evaluate_arms, evaluate_sizes, fully_connected
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.modules import ActivationSlot, ModuleNetwork
from ldnn_core.optimizers import SGD, Adam
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.tasks import Rows, TaskData

INPUTS, CLASSES = 6, 3
RELU = {"relu": UsualActivation("relu")}
ADAM = Training(Adam(), lr=0.01, steps=24, batch_size=20)


def rows(count, purpose):
    x = torch.randn(count, INPUTS, generator=generator(0, purpose))
    return Rows(x, (x[:, :CLASSES] + 0.3 * x[:, CLASSES:]).argmax(dim=1))


DATA = TaskData("toy", rows(160, "train"), rows(40, "val"), rows(90, "test"), CLASSES, CrossEntropy(), 1 / CLASSES)


def judge(arms=RELU, seeds=(0, 1), training=ADAM, hidden=(8,), split="test", data=DATA, root_seed=0, **how):
    network = fully_connected(data, hidden)
    return evaluate_arms(data, network, arms, seeds, training, root_seed=root_seed, split=split, **how)


def numbers(judgement):
    measured = dataclasses.asdict(judgement)
    for name in ("wall_seconds", "batch_of_networks"):
        del measured[name]
    return measured


def assert_same(first, second):
    for name, value in numbers(first).items():
        other = getattr(second, name)
        inexact = isinstance(value, float | tuple)
        assert value == (pytest.approx(other, rel=1e-6) if inexact else other), name


def learned():
    spec = ActivationSpec("tanh", 2, (5,))
    bank = TableBank(spec, initial_genomes(spec, 1))
    return {"mixed": BankActivation(bank, mixed_functions((8,), 2))}


def test_judgements_come_arm_after_arm_in_the_order_of_the_seeds():
    found = judge({**RELU, "tanh": UsualActivation("tanh")}, seeds=(3, 1))
    assert [(j.arm, j.seed) for j in found] == [("relu", 3), ("relu", 1), ("tanh", 3), ("tanh", 1)]
    assert all(j.num_params == INPUTS * 8 + 8 + 8 * CLASSES + CLASSES for j in found)
    assert {j.inner_steps for j in found} == {24}
    assert {j.batch_of_networks for j in found} == {4}


def test_a_network_does_not_depend_on_other_seeds_and_arms():
    [alone] = judge(seeds=(5,))
    assert_same(judge(seeds=(2, 5, 9))[1], alone)
    company = judge({**learned(), "sin": UsualActivation("sin"), **RELU}, seeds=(5, 0))
    assert_same(next(j for j in company if (j.arm, j.seed) == ("relu", 5)), alone)


def test_groups_that_fit_the_memory_change_nothing(monkeypatch):
    together = judge({**RELU, **learned()}, seeds=range(5))
    monkeypatch.setattr(evaluation, "ACTIVATION_BYTES", 2 * 20 * 8 * 4 * 2)
    apart = judge({**RELU, **learned()}, seeds=range(5))
    assert [j.batch_of_networks for j in apart] == [4, 4, 4, 4, 2] * 2
    for one, other in zip(together, apart, strict=True):
        assert_same(one, other)


def test_a_set_of_equal_silent_types_does_as_its_base_function():
    spec = ActivationSpec("tanh", 2, (5,))
    silent = TableBank(spec, torch.zeros_like(initial_genomes(spec, 1)))
    [mixed] = judge({"tanh": BankActivation(silent, mixed_functions((8,), 2))}, seeds=(0,))
    [usual] = judge({"tanh": UsualActivation("tanh")}, seeds=(0,))
    assert mixed.loss == pytest.approx(usual.loss, rel=1e-4)
    assert mixed.accuracy == usual.accuracy


@pytest.mark.parametrize("seeds", [1, 2])
def test_other_seeds_roots_and_sizes_are_other_networks(seeds):
    found = [
        judge(seeds=(0,)),
        judge(seeds=(seeds,)),
        judge(seeds=(0,), root_seed=seeds),
        judge(seeds=(0,), hidden=(9,)),
    ]
    assert len({j.loss for [j] in found}) == 4


def plain_training(hidden, seed, training, split):
    """The same network as an ordinary module, trained by an ordinary loop."""
    train, held_out = DATA.split(split)
    sizes = (INPUTS, *hidden, CLASSES)
    layers = [torch.nn.Linear(i, o) for i, o in itertools.pairwise(sizes)]
    count = sum(i * o + o for i, o in itertools.pairwise(sizes))
    uniform = torch.rand(count, generator=generator(7, "network", *hidden, seed), dtype=torch.float64).float() * 2 - 1
    with torch.no_grad():
        for layer in layers:
            bound = layer.in_features**-0.5
            weights, uniform = uniform[: layer.weight.numel()], uniform[layer.weight.numel() :]
            layer.weight.copy_(weights.view(layer.in_features, -1).T * bound)
            biases, uniform = uniform[: len(layer.bias)], uniform[len(layer.bias) :]
            layer.bias.copy_(biases * bound)
    module = torch.nn.Sequential(*[m for layer in layers for m in (layer, torch.nn.ReLU())][:-1])
    optimizer = torch.optim.Adam(module.parameters(), lr=training.lr)
    order, per_epoch = generator(7, "batches", seed), len(train) // training.batch_size
    losses, accuracies = [], []
    for _ in range(training.steps // per_epoch):
        for batch in torch.randperm(len(train), generator=order)[: per_epoch * training.batch_size].view(per_epoch, -1):
            loss = F.cross_entropy(module(train.x[batch]), train.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            accuracies.append((module(held_out.x).argmax(1) == held_out.y).double().mean().item())
    with torch.no_grad():
        z, first = module(held_out.x), F.relu(layers[0](held_out.x)).double()
        covariance = torch.cov(first.T)
        return {
            "accuracy": accuracies[-1],
            "epoch_accuracies": tuple(accuracies),
            "epoch_losses": tuple(torch.tensor(losses).view(-1, per_epoch).mean(dim=1).tolist()),
            "best_epoch_accuracy": max(accuracies),
            "loss": F.cross_entropy(z, held_out.y).item(),
            "train_loss": sum(losses[-per_epoch:]) / per_epoch,
            "participation_ratio": (covariance.trace() ** 2 / (covariance @ covariance).trace()).item(),
            "weight_norm": torch.cat([p.flatten() for p in module.parameters()]).norm().item(),
        }


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("hidden", [(8,), (8, 5)])
def test_judged_numbers_are_those_of_an_ordinary_training_loop(hidden, split):
    training = dataclasses.replace(ADAM, steps=3 * (len(DATA.split(split)[0]) // 20))
    for judgement in judge(seeds=(0, 4), hidden=hidden, split=split, root_seed=7, training=training):
        expected = plain_training(hidden, judgement.seed, training, split)
        for name, value in expected.items():
            assert getattr(judgement, name) == pytest.approx(value, rel=1e-3), name
        assert not judgement.diverged


def test_training_learns():
    found = judge(training=dataclasses.replace(ADAM, steps=200, lr=0.03))
    assert all(j.accuracy > 0.85 for j in found)
    assert all(j.best_epoch_accuracy >= j.accuracy for j in found)


def test_a_diverged_network_is_at_chance_and_has_no_numbers():
    found = judge(training=Training(SGD(0.9), lr=1e30, steps=20, batch_size=20))
    for j in found:
        assert j.diverged
        assert j.accuracy == j.best_epoch_accuracy == DATA.chance
        assert j.loss is None
        assert j.train_loss is None
        assert j.weight_norm is None
        assert j.participation_ratio is None
        assert j.participation_ratio_corrected is None


def test_a_constant_hidden_layer_has_no_participation_ratio_but_is_judged():
    [dead] = judge({"zero": UsualActivation("zero")}, seeds=(0,))
    assert dead.participation_ratio is None
    assert dead.participation_ratio_corrected is None
    assert not dead.diverged
    assert 0 < dead.loss < 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": {}}, "at least one arm and one seed are needed, but got 0 arms and 2 seeds"),
        ({"seeds": ()}, "at least one arm and one seed are needed, but got 1 arms and 0 seeds"),
        ({"split": "train"}, "split must be val or test, but got 'train'"),
        ({"training": dataclasses.replace(ADAM, batch_size=500)}, "batch_size <= rows must hold"),
    ],
)
def test_what_cannot_be_judged_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        judge(**options)


def test_networks_of_several_sizes_are_those_of_each_size_alone():
    found = evaluate_sizes(DATA, [(8,), (5, 4)], lambda hidden: RELU, (0, 1), ADAM, root_seed=0)
    assert list(found) == [(8,), (5, 4)]
    for hidden, judgements in found.items():
        assert [numbers(j) for j in judgements] == [numbers(j) for j in judge(hidden=hidden)]


@pytest.mark.parametrize("table_range", [0.5, 10.0])
def test_the_share_outside_the_table_is_that_of_the_arms_own_table(table_range):
    spec = ActivationSpec("tanh", 2, (5,), table_range=table_range)
    bank, genomes = TableBank(spec, initial_genomes(spec, 1)), initial_genomes(spec, 1)
    functions = mixed_functions((8,), 2)
    exact = BankActivation(ExactBank(spec, genomes), functions)
    groups = []
    found = judge({**RELU, "mixed": BankActivation(bank, functions), "exact": exact}, seeds=(0,), observe=groups.append)
    [group] = groups
    x = DATA.split("test")[1].x
    _, [layer] = group.network.forward(group.parameters, x.unsqueeze(0), group.activation)
    share = float((layer.pre[1].abs() > table_range).double().mean())
    assert [j.outside_table for j in found] == [None, pytest.approx(share, abs=1e-12), None]
    assert (share > 0.05) == (table_range == 0.5)


class Twin(torch.nn.Module):
    """A fully connected network of one hidden layer, written as a module."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = torch.nn.Linear(INPUTS, 8), ActivationSlot(8), torch.nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


class SameStart(ModuleNetwork):
    """That module, started as the fully connected network of the same generator."""

    def initial_parameters(self, generators, dtype=torch.float32):
        rows = fully_connected(DATA, (8,)).initial_parameters(generators, dtype)
        weight, others = rows[:, : INPUTS * 8].unflatten(1, (INPUTS, 8)), rows[:, INPUTS * 8 :]
        last = others[:, 8 : 8 + 8 * CLASSES].unflatten(1, (8, CLASSES))
        parts = [weight.mT.flatten(1), others[:, :8], last.mT.flatten(1), others[:, 8 + 8 * CLASSES :]]
        return torch.cat(parts, dim=1)

    hidden = (8,)


def test_a_module_is_judged_as_the_fully_connected_network_that_it_is():
    arms = {**RELU, **learned()}
    as_module = evaluate_arms(DATA, SameStart(Twin(), CrossEntropy()), arms, (0, 3), ADAM, root_seed=0)
    for one, other in zip(as_module, judge(arms, seeds=(0, 3)), strict=True):
        found = {name: value for name, value in numbers(one).items() if value is not None}
        assert len(found) >= 15
        for name, value in found.items():
            expected = getattr(other, name)
            assert value == (expected if isinstance(value, str) else pytest.approx(expected, rel=2e-3, abs=2e-5)), name


def test_a_module_that_does_not_say_its_width_is_judged_in_groups_that_fit():
    network = ModuleNetwork(Twin(), CrossEntropy())
    assert network.hidden == ()
    assert len(evaluate_arms(DATA, network, RELU, (0, 1, 2), ADAM, root_seed=0)) == 3


def test_rows_judged_in_blocks_give_the_numbers_of_all_rows_at_once(monkeypatch):
    arms = {**RELU, **learned()}
    at_once = judge(arms)
    monkeypatch.setattr(examination, "JUDGED_BYTES", 4 * 8 * 4 * 7)  # seven rows of four networks
    for one, other in zip(judge(arms), at_once, strict=True):
        assert_same(one, other)


def test_the_density_of_pre_activations_is_their_histogram_over_all_hidden_layers():
    spec = ActivationSpec("tanh", 2, (5,))
    bank, groups = TableBank(spec, initial_genomes(spec, 1)), []
    arms = {**RELU, "mixed": BankActivation(bank, mixed_functions((8, 4), 2))}
    hot = dataclasses.replace(ADAM, lr=1.0)  # so that some leave [-8, 8]
    found = judge(arms, seeds=(0, 1), hidden=(8, 4), training=hot, observe=groups.append)
    [group] = groups
    layers = group.network.forward(group.parameters, DATA.test.x.unsqueeze(0), group.activation)[1]
    assert [j.preactivation_density is None for j in found] == [True, True, False, False]
    for index in (2, 3):
        own = [layer.pre[index].flatten() for layer in layers]
        shares = [torch.histc(a, 64, min=-8, max=8) / len(a) for a in own]
        assert found[index].preactivation_density == pytest.approx(((shares[0] + shares[1]) / 2).tolist(), abs=1e-6)
        assert 0.3 < sum(found[index].preactivation_density) < 1


def regression(orbits=None):
    def both(count, purpose):
        made = rows(count, purpose)
        return Rows(made.x, torch.stack([made.x[:, 0].sin(), made.x[:, 1]], dim=1))

    parts = [both(count, name) for count, name in ((160, "train"), (40, "val"), (90, "test"))]
    return TaskData("toy", *parts, 2, SquaredError(), 0.0, metric="loss", orbits=orbits)


def test_networks_of_a_regression_are_judged_by_their_loss():
    data, groups = regression(), []
    found = judge(seeds=(0, 1), data=data, training=dataclasses.replace(ADAM, steps=20), observe=groups.append)
    [group] = groups
    z = group.network.forward(group.parameters, data.test.x.unsqueeze(0), group.activation)[0]
    for j, outputs in zip(found, z, strict=True):
        assert (j.metric, j.accuracy, j.best_epoch_accuracy, j.epoch_accuracies) == ("loss", None, None, None)
        assert j.loss == pytest.approx(float(((outputs - data.test.y) ** 2).mean()), rel=1e-5)
        assert j.epoch_losses[-1] == pytest.approx(j.train_loss)
        assert j.rollout_error is None
    [lost] = judge(seeds=(0,), data=data, training=Training(SGD(0.9), lr=1e30, steps=20, batch_size=20))
    assert (lost.diverged, lost.accuracy, lost.loss) == (True, None, None)


def test_the_rollout_error_is_what_the_task_makes_of_the_networks():
    truth, groups = torch.stack([torch.ones(INPUTS), torch.zeros(INPUTS)]).unsqueeze(0), []
    data = dataclasses.replace(regression(truth), outputs=INPUTS)
    targets = [Rows(part.x, part.x.sin()) for part in (data.train, data.val, data.test)]
    data = dataclasses.replace(data, train=targets[0], val=targets[1], test=targets[2])
    found = judge(seeds=(0, 1), data=data, observe=groups.append)
    [group] = groups
    z = group.network.forward(group.parameters, torch.ones(1, 1, INPUTS), group.activation)[0]
    assert [j.rollout_error for j in found] == pytest.approx(z.square().mean(dim=(1, 2)).tolist(), rel=1e-5)


def test_curves_over_epochs_end_at_what_is_judged():
    for j in judge(
        training=dataclasses.replace(ADAM, steps=27)
    ):  # 200 rows and 20 a step: the third epoch is cut short
        assert len(j.epoch_accuracies) == len(j.epoch_losses) == 3
        assert j.epoch_accuracies[-1] == j.accuracy
        assert j.best_epoch_accuracy == max(j.epoch_accuracies)


def test_an_arm_may_differ_from_seed_to_seed():
    def scaled(seed):
        spec = ActivationSpec("tanh", 2, (5,))
        bank = TableBank(spec, initial_genomes(spec, seed))
        return BankActivation(bank, mixed_functions((8,), 2))

    arm = PerSeed(lambda seeds: GroupedActivation(tuple((scaled(seed), 1) for seed in seeds)))
    both = judge({"own": arm}, seeds=(4, 9))
    for j in both:
        [alone] = judge({"own": scaled(j.seed)}, seeds=(j.seed,))
        assert_same(j, alone)
