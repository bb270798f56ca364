"""What every estimator must hold, and the exact one against finite differences of the whole inner loop."""

import dataclasses
import math

import pytest
import torch

from ldnn_core.estimators import ESTIMATORS, Es, FirstOrder, Pes, Truncated, Unrolled
from ldnn_core.estimators.reverse import spacing
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]()


def outer_loss(case, genomes, window):
    trained = train(case.problem, case.parameters, case.batches, case.activation(genomes, exact=True))
    return trained.losses[-window:].mean()


def trained_networks(estimator):
    """How many networks an estimator trains for each classifier."""
    return 2 * estimator.pairs + 1 if isinstance(estimator, Es | Pes) else 1


def test_outer_loss_and_losses_are_those_of_training(estimator):
    case = small_case(steps=6, noise=0.1)
    before = case.parameters.clone()
    result = estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 4, seed=1)
    trained = train(case.problem, case.parameters, case.batches, case.activation())
    torch.testing.assert_close(result.losses, trained.losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.final_parameters, trained.parameters, rtol=1e-11, atol=1e-13)
    assert result.outer_loss == pytest.approx(float(trained.losses[-4:].mean()), rel=1e-12)
    assert result.inner_steps == 6 * 3 * trained_networks(estimator)
    assert result.carry is None
    assert torch.equal(case.parameters, before)


def test_equal_arguments_give_equal_bits(estimator):
    case = small_case(steps=5, dtype=torch.float32)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 5)
    runs = [estimator.estimate(*arguments, seed=1) for _ in range(2)]
    assert torch.equal(runs[0].gradient, runs[1].gradient)
    assert runs[0].gradient.shape == case.genomes.shape
    assert runs[0].gradient.dtype == torch.float32


def test_gradient_of_a_batch_is_the_mean_over_its_networks(estimator):
    case = small_case(networks=2, steps=4)
    together = estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 4, seed=1)
    alone = []
    for n in range(2):
        own = dataclasses.replace(case.batches, rows=case.batches.rows[:, n : n + 1], stream=None)
        arguments = (case.problem, case.parameters[n : n + 1], own, case.activation(), 4)
        alone.append(estimator.estimate(*arguments, seed=1).gradient)
    torch.testing.assert_close(together.gradient, (alone[0] + alone[1]) / 2, rtol=1e-9, atol=1e-13)


def test_a_diverging_loop_is_not_hidden(estimator):
    case = small_case(steps=30, base="relu", optimizer="sgd", regression=True)
    problem = dataclasses.replace(case.problem, lr=1e6)
    result = estimator.estimate(problem, case.parameters, case.batches, case.activation(), 30, seed=1)
    assert not math.isfinite(result.outer_loss)
    assert not torch.isfinite(result.gradient).all()


@pytest.mark.parametrize("name", ["unrolled", "truncated", "first_order"])
def test_one_inner_step_makes_every_derivative_exact(name):
    case = small_case(steps=1)
    arguments = (case.problem, case.parameters, case.batches, case.activation(exact=True), 1)
    result, exact = ESTIMATORS[name]().estimate(*arguments), Unrolled().estimate(*arguments)
    torch.testing.assert_close(result.gradient, exact.gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adam"])
@pytest.mark.parametrize(("hidden", "num_types"), [((6,), 2), ((7, 5), 3)])
def test_unrolled_equals_central_differences_of_the_whole_inner_loop(optimizer, hidden, num_types):
    case = small_case(networks=1, steps=8, optimizer=optimizer, hidden=hidden, num_types=num_types)
    window = 5
    result = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(exact=True), window)
    differences = torch.zeros_like(case.genomes)
    h = 3e-5
    for index in range(case.genomes.numel()):
        shift = torch.zeros_like(case.genomes)
        shift.view(-1)[index] = h
        up, down = outer_loss(case, case.genomes + shift, window), outer_loss(case, case.genomes - shift, window)
        differences.view(-1)[index] = (up - down) / (2 * h)
    assert float((result.gradient - differences).norm() / differences.norm()) <= 1e-6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("base", ["sin", "relu"])
def test_table_meta_gradient_matches_exact(dtype, bound, base):
    case = small_case(steps=30, hidden=(9,), base=base)
    exact = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(exact=True), 30)
    case = small_case(steps=30, hidden=(9,), base=base, dtype=dtype)
    table = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 30)
    assert float((table.gradient.double() - exact.gradient).norm() / exact.gradient.norm()) <= bound


def test_first_order_is_biased_for_long_loops():
    case = small_case(steps=8)
    first = FirstOrder().estimate(case.problem, case.parameters, case.batches, case.activation(), 8).gradient
    exact = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 8).gradient
    assert float((first - exact).norm() / exact.norm()) > 0.01


def test_a_hidden_unit_that_never_moves_gives_no_nan_with_adam():
    case = small_case(steps=4, base="relu", optimizer="adam")
    parameters = case.parameters.clone()
    parameters[:, 35:42] = -1e3  # first-layer biases: every unit is far below zero, and a silent set keeps it there
    silent = torch.zeros_like(case.genomes)
    result = Unrolled().estimate(case.problem, parameters, case.batches, case.activation(silent), 4)
    assert torch.isfinite(result.gradient).all()


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 12, 100])
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_keeping_fewer_states_changes_nothing(every, optimizer):
    case = small_case(steps=12, noise=0.1, optimizer=optimizer)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 12)
    ours, reference = Unrolled(every=every).estimate(*arguments), Unrolled(every=1).estimate(*arguments)
    assert torch.equal(ours.gradient, reference.gradient)


@pytest.mark.parametrize("length", [12, 50])
def test_truncated_at_full_length_equals_unrolled(length):
    case = small_case(steps=12)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 12)
    assert torch.equal(Truncated(length).estimate(*arguments).gradient, Unrolled().estimate(*arguments).gradient)


def test_truncated_is_the_sum_over_its_pieces():
    case = small_case(steps=6, optimizer="sgd")
    activation = case.activation()
    whole = Truncated(3).estimate(case.problem, case.parameters, case.batches, activation, 6).gradient
    # the second piece alone: from the state after three steps, whose momentum is part of it
    first = dataclasses.replace(case.batches, rows=case.batches.rows[:3])
    *_, (state, _) = case.problem.steps(case.problem.start(case.parameters), first, activation)
    pieces = []
    for slots, parameters, rows in [
        (None, case.parameters, case.batches.rows[:3]),
        (state.slots, state.parameters, case.batches.rows[3:]),
    ]:
        genomes = case.genomes.clone().requires_grad_()
        pieces.append(piece_gradient(case, genomes, parameters, slots, dataclasses.replace(case.batches, rows=rows)))
    torch.testing.assert_close(whole, sum(pieces) / 6, rtol=1e-5, atol=1e-10)


def piece_gradient(case, genomes, parameters, slots, batches):
    """Autograd through the sub-network itself, everything in one graph."""
    from ldnn_core.activations import BankActivation, ExactBank
    from ldnn_core.network import loss_gradient_autograd

    activation = BankActivation(ExactBank(case.spec, genomes), case.activation().functions)
    parameters = parameters.clone().requires_grad_()
    slots = case.problem.optimizer.slots(parameters) if slots is None else slots
    total = 0.0
    for step in range(len(batches)):
        x, y = batches.at(step)
        loss, gradient = loss_gradient_autograd(case.problem.network, parameters, x, y, activation, create_graph=True)
        total = total + loss.mean()
        parameters, slots = case.problem.optimizer.update(parameters, slots, gradient, case.problem.lr, step)
    return torch.autograd.grad(total, genomes)[0]


@pytest.mark.parametrize(
    ("steps", "budget", "expected"), [(100, 100, 1), (100, 99, 2), (100, 52, 2), (100, 20, 10), (100, 1, 10), (1, 0, 2)]
)
def test_spacing_is_the_smallest_that_fits(steps, budget, expected):
    assert spacing(steps, 1, budget) == expected


def test_truncated_needs_at_least_one_step():
    with pytest.raises(ValueError, match="length >= 1 must hold for the truncated estimator, but got length=0"):
        Truncated(0)
