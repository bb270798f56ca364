"""What every estimator must hold, and the exact one against finite differences of the whole inner loop."""

import dataclasses

import pytest
import torch

from ldnn_core.estimators import ESTIMATORS, FirstOrder, Unrolled
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]()


def outer_loss(case, genomes, window):
    trained = train(case.problem, case.parameters, case.batches, case.activation(genomes, exact=True))
    return trained.losses[-window:].mean()


def test_outer_loss_and_losses_are_those_of_training(estimator):
    case = small_case(steps=6, noise=0.1)
    before = case.parameters.clone()
    result = estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 4)
    trained = train(case.problem, case.parameters, case.batches, case.activation())
    assert torch.equal(result.losses, trained.losses)
    assert torch.equal(result.final_parameters, trained.parameters)
    assert result.outer_loss == pytest.approx(float(trained.losses[-4:].mean()), rel=1e-12)
    assert result.inner_steps == 6 * 3
    assert torch.equal(case.parameters, before)


def test_equal_arguments_give_equal_bits(estimator):
    case = small_case(steps=5, dtype=torch.float32)
    runs = [estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 5) for _ in range(2)]
    assert torch.equal(runs[0].gradient, runs[1].gradient)


def test_gradient_of_a_batch_is_the_mean_over_its_networks(estimator):
    case = small_case(networks=2, steps=4)
    together = estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 4)
    alone = []
    for n in range(2):
        own = dataclasses.replace(case.batches, rows=case.batches.rows[:, n : n + 1], stream=None)
        alone.append(estimator.estimate(case.problem, case.parameters[n : n + 1], own, case.activation(), 4).gradient)
    torch.testing.assert_close(together.gradient, (alone[0] + alone[1]) / 2, rtol=1e-9, atol=1e-13)


def test_one_inner_step_makes_every_estimator_exact(estimator):
    case = small_case(steps=1)
    result = estimator.estimate(case.problem, case.parameters, case.batches, case.activation(exact=True), 1)
    exact = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(exact=True), 1)
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
