"""Arms of a learned set and its controls: what each is, and that a control is what it claims to be."""

import dataclasses

import pytest
import torch

from ldnn_core.activations import BankActivation, GroupedActivation, UsualActivation
from ldnn_core.arms import SetArms, controls_of, pure_names, widened
from ldnn_core.evaluation import Training, evaluate_arms, fully_connected
from ldnn_core.losses import CrossEntropy
from ldnn_core.optimizers import Adam
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.tasks import Rows, TaskData

SPEC = ActivationSpec("tanh", 2, (5,), 1.0)
HIDDEN = (9, 6)


def some_rows(count, purpose):
    x = torch.randn(count, 6, generator=generator(0, purpose))
    return Rows(x, x[:, :3].argmax(dim=1))


DATA = TaskData("toy", some_rows(160, "train"), some_rows(40, "val"), some_rows(90, "test"), 3, CrossEntropy(), 1 / 3)


def arms_of(spec=SPEC, genomes=None, hidden=HIDDEN, root_seed=0):
    genomes = initial_genomes(spec, 1)[0] if genomes is None else genomes
    return SetArms(spec, genomes, fully_connected(DATA, hidden), root_seed)


def judged(names, seeds=(0, 1, 2), spec=SPEC, **how):
    own = arms_of(spec, **how)
    arms = {name: own.arm(name) for name in names}
    network = fully_connected(DATA, HIDDEN)
    found = evaluate_arms(DATA, network, arms, seeds, Training(Adam(), 0.02, 24, 20), root_seed=0)
    return {name: [j for j in found if j.arm == name] for name in names}


def measured(judgement):
    left_out = ("arm", "wall_seconds", "batch_of_networks")
    return {name: value for name, value in dataclasses.asdict(judgement).items() if name not in left_out}


@pytest.mark.parametrize("num_types", [2, 3])
def test_copies_of_a_type_are_that_type_alone_bit_for_bit(num_types):
    found = judged(["copies", "pure-0", "pure-1"], spec=dataclasses.replace(SPEC, num_types=num_types))
    for copies, pure, other in zip(*found.values(), strict=True):
        assert measured(copies) == measured(pure)
        assert copies.loss != other.loss


def test_a_set_without_gain_is_the_same_genomes_not_normalised():
    normalized, genomes = dataclasses.replace(SPEC, normalized=True), initial_genomes(SPEC, 1)[0]
    with_gain = judged(["no-gain", "mixed"], spec=normalized, genomes=genomes)
    without = judged(["mixed", "mixed-normalized"], genomes=genomes)
    assert [measured(j) for j in with_gain["no-gain"]] == [measured(j) for j in without["mixed"]]
    assert [measured(j) for j in with_gain["mixed"]] == [measured(j) for j in without["mixed-normalized"]]
    assert with_gain["mixed"][0].loss != without["mixed"][0].loss


def functions(arm, seeds):
    made = arm.make(seeds)
    assert isinstance(made, BankActivation)
    return made.functions


@pytest.mark.parametrize("num_types", [1, 2, 3])
def test_shuffled_units_are_those_of_the_mix_in_another_order(num_types):
    spec = dataclasses.replace(SPEC, num_types=num_types)
    own, arms = arms_of(spec, hidden=(40, 31)), arms_of(spec, hidden=(40, 31))._shuffled((0, 1))
    mixed = own.arm("mixed").functions
    for shuffled, straight in zip(arms.functions, mixed, strict=True):
        assert torch.equal(shuffled.sort(dim=1).values, straight.expand_as(shuffled))
        assert torch.equal(shuffled, straight.expand_as(shuffled)) == (num_types == 1)
    if num_types > 1:
        first, second = arms.functions
        assert not torch.equal(first[0], first[1])
        assert not torch.equal(first[0][:31], second[0])
        assert torch.equal(functions(own.arm("shuffled"), (7, 1))[0][1], first[1])  # whatever the other seeds


def untrained_genomes(own, seeds):
    made = own.arm("untrained").make(seeds)
    assert isinstance(made, GroupedActivation)
    assert sum(count for _, count in made.groups) == len(seeds)
    return torch.cat([activation.bank.genomes for activation, _ in made.groups])


def test_untrained_sets_differ_from_seed_to_seed_and_do_not_depend_on_other_seeds(monkeypatch):
    own = arms_of()
    three = untrained_genomes(own, (0, 5, 3))
    assert len({tuple(row.tolist()) for row in three.flatten(0, 1)}) == 6
    assert torch.equal(untrained_genomes(own, (3,))[0], three[2])
    assert not torch.equal(untrained_genomes(arms_of(root_seed=1), (3,))[0], three[2])
    monkeypatch.setattr("ldnn_core.arms.SETS_AT_ONCE", 2)
    assert torch.equal(untrained_genomes(own, (0, 5, 3)), three)
    assert torch.equal(untrained_genomes(arms_of(genomes=initial_genomes(SPEC, 9)[0]), (3,))[0], three[2])


def test_an_untrained_network_is_that_of_its_own_genomes(monkeypatch):
    monkeypatch.setattr("ldnn_core.arms.SETS_AT_ONCE", 2)
    own = arms_of()
    found = judged(["untrained", "mixed"], seeds=(0, 5, 3))["untrained"]
    for j, genomes in zip(found, untrained_genomes(own, (0, 5, 3)), strict=True):
        [alone] = judged(["mixed"], seeds=(j.seed,), genomes=genomes)["mixed"]
        assert j.loss == pytest.approx(alone.loss, rel=1e-5)
        assert j.outside_table is not None
        assert j.preactivation_density == pytest.approx(alone.preactivation_density, abs=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("extra", [0, 1, 302, 5000])
def test_the_equal_network_is_the_narrowest_with_as_many_parameters(depth, extra):
    def network(width):
        return fully_connected(DATA, (width,) * depth)

    wanted = network(20).num_params + extra
    found = widened(network, 20, wanted)
    assert found.num_params >= wanted
    assert found.hidden == (20,) * depth if extra == 0 else network(found.hidden[0] - 1).num_params < wanted
    judgement = evaluate_arms(DATA, found, {"relu-equal": UsualActivation("relu")}, (0,), TRAINED, root_seed=0)[0]
    assert judgement.num_params == found.num_params


TRAINED = Training(Adam(), 0.02, 2, 20)


def test_only_controls_that_differ_from_the_mix_belong_to_a_set():
    single, normal = dataclasses.replace(SPEC, num_types=1), dataclasses.replace(SPEC, normalized=True)
    assert controls_of(SPEC) == ("untrained", "copies", "shuffled", "relu-equal", "mixed-normalized")
    assert controls_of(normal)[-1] == "no-gain"
    assert controls_of(single) == ("untrained", "relu-equal", "mixed-normalized")
    assert (pure_names(SPEC), pure_names(single)) == (("pure-0", "pure-1"), ())


@pytest.mark.parametrize("name", ["pure-2", "relu", "no-gain", "relu-equal"])
def test_an_arm_that_a_set_does_not_have_is_refused_with_those_that_it_has(name):
    with pytest.raises(ValueError, match=f"one of mixed, pure-0, pure-1, untrained, .*, but got '{name}'"):
        arms_of().arm(name)
