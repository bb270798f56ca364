"""Inner steps until a frequency is fitted: closed forms, and what is known of hat and relu."""

import math

import pytest
import torch

from ldnn_core.activations import BankActivation, TableBank, UsualActivation, mixed_functions
from ldnn_core.losses import SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import SGD, Adam
from ldnn_core.spectral_bias import measure_spectral_bias, steps_to_fit
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.training import Batches, InnerProblem

POINTS, FREQUENCIES = 32, (1, 2, 3)
HALF_TURNS = 2 * torch.arange(POINTS, dtype=torch.float64) / POINTS
WAVES = torch.sin(torch.pi * HALF_TURNS[:, None] * torch.tensor(FREQUENCIES))
TARGET = WAVES.sum(dim=1, keepdim=True)


def batches(x, steps):
    return Batches(x, TARGET, torch.arange(POINTS).expand(steps, 1, -1))


def measured(arms, **changes):
    options = {"hidden": (32,), "frequencies": FREQUENCIES, "optimizer": Adam(), "lr": 3e-2, "steps": 20, "points": 64}
    return measure_spectral_bias(arms, [0, 1], **options | {"root_seed": 0} | changes)


def test_a_linear_model_takes_as_many_steps_as_its_features_are_long():
    # Along a sinusoid of amplitude s the error of gradient descent with rate η shrinks by 1 - η s² a step.
    lengths, rate = torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64), 0.1
    problem = InnerProblem(MlpSpec(3, (), 1, SquaredError()), SGD(0.0), rate)
    start = torch.zeros(1, 4, dtype=torch.float64)
    found = steps_to_fit(problem, start, batches(WAVES * lengths, 300), UsualActivation("identity"), FREQUENCIES)
    expected = [math.ceil(math.log(0.1) / math.log(1 - rate * s * s)) for s in lengths.tolist()]
    assert found.tolist() == [expected]
    assert expected == sorted(expected)


def test_sines_of_the_right_frequencies_fit_at_once_and_others_never():
    problem = InnerProblem(MlpSpec(1, (3,), 1, SquaredError()), SGD(0.0), 0.0)
    periods = torch.pi * torch.tensor(FREQUENCIES, dtype=torch.float64)
    right = torch.cat([periods, periods, torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)])
    close, without_last = right.clone(), right.clone()
    close[7] = 0.91  # the error of the second sinusoid is 9 %
    without_last[8] = 0.89
    x = HALF_TURNS[:, None] - 1
    networks = torch.stack([right, close, without_last])
    found = steps_to_fit(problem, networks, batches(x, 3), UsualActivation("sin"), FREQUENCIES)
    assert found.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, -1]]


def test_arms_and_seeds_do_not_depend_on_each_other():
    spec = ActivationSpec("sin", 2, (3,))
    learned = BankActivation(TableBank(spec, initial_genomes(spec, 0)), mixed_functions((32,), 2))
    arms = {"tanh": UsualActivation("tanh"), "mixed": learned}
    both = measured(arms, steps=60)
    assert [(one.arm, one.seed) for one in both] == [("tanh", 0), ("tanh", 1), ("mixed", 0), ("mixed", 1)]
    assert measured({"mixed": learned}, steps=60) == both[2:]
    assert any(step is not None for one in both for step in one.steps_to_fit)
    shorter = measured(arms, steps=30)
    for one, other in zip(both, shorter, strict=True):
        kept = [step if step is not None and step <= 30 else None for step in one.steps_to_fit]
        assert kept == list(other.steps_to_fit)


def test_low_frequencies_come_first_and_hat_fits_more_of_them_than_relu():
    arms = {"relu": UsualActivation("relu"), "hat": UsualActivation("hat")}
    found = measured(arms, frequencies=(1, 3, 5), steps=500, lr=3e-2)
    steps = {arm: [[s or math.inf for s in one.steps_to_fit] for one in found if one.arm == arm] for arm in arms}
    assert all(row == sorted(row) for row in steps["relu"])
    fitted = {arm: sum(step < math.inf for row in rows for step in row) for arm, rows in steps.items()}
    assert fitted["hat"] > fitted["relu"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frequencies": ()}, "frequencies must be different whole numbers from 1 on, but got"),
        ({"frequencies": (1, 1)}, "frequencies must be different"),
        ({"frequencies": (0,)}, "frequencies must be different"),
        ({"frequencies": (32,)}, r"2 · frequency < points must hold.* got \(frequency=32, points=64\)"),
    ],
)
def test_frequencies_that_cannot_be_measured_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        measured({"tanh": UsualActivation("tanh")}, **changes)


def test_no_arms_are_refused():
    with pytest.raises(ValueError, match="at least one arm and one seed are needed, but got 0 arms and 2 seeds"):
        measured({})
