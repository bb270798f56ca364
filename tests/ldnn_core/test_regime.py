"""Schedules, weight decay, repulsion from checkpoints, and ensembles of snapshots."""

import math

import pytest
import torch

from ldnn_core.ensemble import judge_ensemble
from ldnn_core.optimizers import SGD
from ldnn_core.randomness import generator
from ldnn_core.regime import Regime, Repulsion
from ldnn_core.schedule import Schedule
from ldnn_core.training import InnerProblem, train
from tests.ldnn_core.cases import small_case


def trained(regime, optimizer=None, lr=None):
    case = small_case(steps=8)
    problem = InnerProblem(case.problem.network, optimizer or case.problem.optimizer, lr or case.problem.lr)
    return train(problem, case.parameters, case.batches, case.activation(), regime=regime)


def random(*shape, name="x"):
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


# Schedules


def test_schedules_follow_their_formulas():
    assert [Schedule("step", 12, epoch=2, gamma=0.5, stepsize=2).factor(t) for t in range(9)] == [
        *[1.0] * 4,
        *[0.5] * 4,
        0.25,
    ]
    cosine = Schedule("cosine", 10, floor=0.2)
    assert [cosine.factor(t) for t in (0, 5, 10)] == pytest.approx([1, 0.6, 0.2])
    assert Schedule().factor(1000) == 1


def test_warm_restarts_follow_pytorch():
    epoch, steps = 3, 40
    ours = Schedule("restarts", steps, epoch=epoch, stepsize=2, growth=2, floor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=6, T_mult=2, eta_min=0.1)
    for step in range(steps):
        assert ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()
    assert ours.factor(6) == ours.factor(18) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"kind": "linear"}, "kind must be one of"), ({"kind": "step", "stepsize": 0}, "must be at least 1")],
)
def test_schedules_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Schedule(**arguments)


def test_a_constant_schedule_is_plain_training_bit_for_bit():
    case = small_case(steps=8)
    plain = train(case.problem, case.parameters, case.batches, case.activation())
    assert torch.equal(plain.parameters, trained(Regime(Schedule("cosine", 8, floor=1.0))).parameters)


def test_a_learning_rate_that_falls_to_zero_stops_the_network():
    stopped = trained(Regime(Schedule("step", 8, epoch=4, gamma=0.0), snapshots=(4, 8)))
    assert torch.equal(*stopped.snapshots)


# Weight decay


def test_weight_decay_follows_pytorch():
    case = small_case(steps=8)
    regime = Regime(weight_decay=0.3)
    ours = trained(regime, SGD(0.9), 0.05)
    for n in range(len(case.parameters)):
        parameter = case.parameters[n].clone().requires_grad_()
        optimizer = torch.optim.SGD([parameter], lr=0.05, momentum=0.9, weight_decay=0.3)
        for step in range(8):
            x, y = case.batches.at(step)
            noise = case.batches.noise_at(step, case.problem.network.hidden)
            every = case.parameters.index_copy(0, torch.tensor([n]), parameter.detach()[None])
            gradient = case.problem.network.loss_gradient(every, x, y, case.activation(), noise)[1]
            parameter.grad = gradient[n]
            optimizer.step()
        torch.testing.assert_close(ours.parameters[n], parameter.detach(), rtol=1e-10, atol=1e-12)


# Repulsion


def hills(repulsion, parameters, checkpoints):
    """Their heights where networks are, (N,)."""
    distances = torch.stack([(parameters - one).square().mean(1) for one in checkpoints])
    return repulsion.strength * torch.exp(-distances / (2 * repulsion.width**2)).sum(0)


def test_the_gradient_of_the_hills_is_that_of_autograd():
    repulsion, at = Repulsion(0.7, 0.4, ()), random(3, 20)
    checkpoints = [at + 0.3 * random(3, 20, name="one"), at - 0.5 * random(3, 20, name="two")]
    leaf = at.clone().requires_grad_()
    (expected,) = torch.autograd.grad(hills(repulsion, leaf, checkpoints).sum(), leaf)
    torch.testing.assert_close(repulsion.gradient(at, checkpoints), expected)


def test_a_hill_pushes_away():
    checkpoint, step = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    repulsion = Repulsion(2.0, 0.5, ())
    height = 2.0 * math.exp(-0.25 / (2 * 0.25))  # d² = 1 / 4 parameters
    gradient = repulsion.gradient(step, [checkpoint])
    assert gradient[0].tolist() == pytest.approx([-height / (0.25 * 4), 0, 0, 0])
    assert torch.equal(repulsion.gradient(checkpoint, [checkpoint]), torch.zeros(1, 4, dtype=torch.float64))
    descended = step - 0.1 * gradient
    assert (descended - checkpoint).norm() > (step - checkpoint).norm()


def test_a_width_means_the_same_in_networks_of_all_sizes():
    repulsion = Repulsion(1.0, 0.5, ())
    for n in (10, 1000):
        at = torch.full((1, n), 0.5)  # the hill is exp(-1/2) high there
        slope = (repulsion.gradient(at, [torch.zeros_like(at)]) * at).sum()
        assert float(slope) == pytest.approx(-math.exp(-0.5))


def test_repulsion_of_no_strength_is_plain_training_bit_for_bit():
    assert torch.equal(trained(Regime(repulsion=Repulsion(0.0, 0.1, (2, 4)))).parameters, trained(None).parameters)


def test_repelled_networks_end_further_from_their_checkpoint_and_are_the_same_before_it():
    plain, pushed = (
        trained(Regime(repulsion=Repulsion(strength, 0.05, (3,)), snapshots=(3,)), SGD(0.9), 0.05)
        for strength in (0.0, 5.0)
    )
    assert torch.equal(plain.snapshots[0], pushed.snapshots[0])
    distances = [(one.parameters - one.snapshots[0]).norm(dim=1) for one in (plain, pushed)]
    assert (distances[1] > 1.05 * distances[0]).all()


@pytest.mark.parametrize("arguments", [(-1.0, 0.1), (1.0, 0.0), (float("nan"), 0.1)])
def test_hills_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="strength >= 0 and width > 0 must hold"):
        Repulsion(*arguments, ())


# Ensembles


def ensemble_of(logits, y, weights=None):
    parameters = random(*logits.shape[:2], 5, name="parameters")
    return judge_ensemble(logits, y, parameters, torch.ones(logits.shape[:2]) if weights is None else weights)


def test_an_ensemble_of_equal_members_equals_the_member():
    one, y = random(1, 2, 50, 4), torch.randint(4, (50,), generator=generator(0, "y"))
    found = ensemble_of(one.expand(3, 2, 50, 4), y)
    alone = (one[0].argmax(dim=-1) == y).double().mean(dim=-1)
    assert torch.equal(found.accuracy, alone)
    assert torch.equal(found.weighted_accuracy, alone)
    assert torch.equal(found.member_accuracies, alone[:, None].expand(2, 3))
    torch.testing.assert_close(found.error_correlation, torch.ones(2, dtype=torch.float64))


def test_members_that_err_on_different_rows_correct_each_other():
    right = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]], [[4.0, 0.0]]])[:, :, None]  # (3 members, 1 network, 1 row, 2)
    found = ensemble_of(right, torch.tensor([0]))
    assert found.member_accuracies[0].tolist() == [1, 0, 1]
    assert found.accuracy.tolist() == [1]
    assert ensemble_of(right, torch.tensor([0]), torch.tensor([[0.0], [1.0], [0.0]])).weighted_accuracy.tolist() == [0]


def test_correlations_of_errors_are_pearsons():
    y = torch.zeros(8, dtype=torch.int64)
    wrong = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    logits = torch.stack([1.0 - wrong, wrong.double()], dim=-1).unsqueeze(1)
    expected = torch.corrcoef(wrong[:2].double())[0, 1]  # the third never errs, and has no correlation
    assert float(ensemble_of(logits, y).error_correlation) == pytest.approx(float(expected))


def test_one_member_has_no_correlation_and_no_distance():
    found = ensemble_of(random(1, 2, 10, 3), torch.zeros(10, dtype=torch.int64))
    assert bool(found.error_correlation.isnan().all())
    assert bool(found.distance.isnan().all())


def test_weights_of_an_ensemble_must_be_shares():
    with pytest.raises(ValueError, match="weights must be >= 0"):
        ensemble_of(random(2, 1, 5, 3), torch.zeros(5, dtype=torch.int64), torch.zeros(2, 1))
