"""Several sizes as one number, types that are alike, gain and offset, and outer losses on validation rows."""

import dataclasses
import math

import pytest
import torch

from ldnn_core.activations import BankActivation, ExactBank, TableBank, UsualActivation, mixed_functions
from ldnn_core.estimators import Unrolled
from ldnn_core.objective import Objective, closeness
from ldnn_core.population import evaluate_activation, evaluate_population
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, exact_values, gain_and_offset, initial_genomes
from ldnn_core.training import Validation, train
from tests.ldnn_core.cases import Case, small_case

LOSSES = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("over", "expected"), [("mean", 2.0), ("worst", 3.0), ("mean_minus_spread", 2.0 + 0.5 * math.sqrt(2 / 3))]
)
def test_losses_at_several_sizes_become_one(over, expected):
    objective = Objective(over, spread_weight=0.5)
    assert float(objective.combine(LOSSES)) == pytest.approx(expected, rel=1e-11)
    columns = LOSSES.unsqueeze(1).repeat(1, 2)
    assert objective.combine(columns).tolist() == pytest.approx([expected] * 2, rel=1e-11)


@pytest.mark.parametrize("over", ["mean", "worst", "mean_minus_spread"])
def test_weights_are_the_finite_differences_of_the_combination(over):
    objective, step = Objective(over, spread_weight=0.7), 1e-6
    shifts = step * torch.eye(3, dtype=torch.float64)
    differences = [(objective.combine(LOSSES + d) - objective.combine(LOSSES - d)) / (2 * step) for d in shifts]
    torch.testing.assert_close(objective.weights(LOSSES), torch.stack(differences), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("over", ["mean", "worst", "mean_minus_spread"])
def test_one_size_counts_as_itself(over):
    one = torch.tensor([1.25], dtype=torch.float64)
    assert float(Objective(over).combine(one)) == pytest.approx(1.25, abs=1e-5)
    assert Objective(over).weights(one).tolist() == pytest.approx([1.0], abs=1e-9)


def test_a_diverged_candidate_is_never_the_best_at_any_combination():
    losses = torch.tensor([[1.0, 0.1], [1.0, math.inf]])
    for over in ("mean", "worst", "mean_minus_spread"):
        combined = Objective(over).combine(losses)
        assert not torch.isfinite(combined[1]), over
        assert combined[0] == pytest.approx(1.0, abs=1e-5)


def test_closeness_is_one_for_equal_types_and_known_for_shifted_ones():
    spec = ActivationSpec("zero", 2, (3,), 1.0)
    genomes = initial_genomes(spec, 0, dtype=torch.float64)
    equal = genomes[:, :1].repeat(1, 2, 1)
    assert float(closeness(spec, equal, 0.3)) == pytest.approx(1.0)
    shifted = equal.clone()
    shifted[0, 1, -1] += 0.3  # the output bias: the two curves are 0.3 apart everywhere
    assert float(closeness(spec, shifted, 0.3)) == pytest.approx(math.exp(-0.5), rel=1e-12)
    assert float(Objective(closeness_weight=2.0, closeness_distance=0.3).penalty(spec, shifted)) == pytest.approx(
        2 * math.exp(-0.5), rel=1e-12
    )


def test_closeness_of_three_types_is_the_mean_over_pairs_and_pushes_them_apart():
    spec = ActivationSpec("sin", 3, (4,), 0.5)
    genomes = initial_genomes(spec, 0, sets=2, dtype=torch.float64).requires_grad_()
    whole = closeness(spec, genomes, 0.2)
    pairs = [closeness(dataclasses.replace(spec, num_types=2), genomes[:, p], 0.2) for p in ([0, 1], [0, 2], [1, 2])]
    torch.testing.assert_close(whole, sum(pairs) / 3)
    (gradient,) = torch.autograd.grad(whole.sum(), genomes)
    assert (closeness(spec, genomes - 1e-2 * gradient, 0.2) < whole).all()
    assert torch.autograd.gradcheck(lambda g: closeness(spec, g, 0.2), genomes)


def test_without_weight_or_a_second_type_nothing_is_added():
    spec = ActivationSpec("sin", 1, (4,))
    genomes = initial_genomes(spec, 0, sets=3)
    assert Objective(closeness_weight=1.0).penalty(spec, genomes).tolist() == [0, 0, 0]
    two = ActivationSpec("sin", 2, (4,))
    assert Objective().penalty(two, initial_genomes(two, 0)).tolist() == [0]


@pytest.mark.parametrize("base", ["sin", "relu", "hat", "sigmoid", "zero"])
def test_normalised_functions_have_mean_0_and_variance_1_under_a_standard_normal(base):
    spec = ActivationSpec(base, 2, (6,), 0.8, normalized=True)
    genomes = initial_genomes(spec, 3, sets=2, dtype=torch.float64).flatten(0, 1)
    z = torch.randn(400_000, generator=generator(0, "z"), dtype=torch.float64)
    y = exact_values(spec, genomes, z.expand(4, -1))
    assert y.mean(dim=1).abs().max() < 5 / 400_000**0.5
    assert (y.var(dim=1) - 1).abs().max() < 0.02  # the variance of y², at most about 8, over the samples


def test_gain_and_offset_of_relu_are_the_closed_form():
    spec = ActivationSpec("relu", 1, (4,), normalized=True)
    gain, offset = gain_and_offset(spec, torch.zeros(1, spec.genome_size, dtype=torch.float64))
    mean, variance = 1 / math.sqrt(2 * math.pi), 0.5 - 1 / (2 * math.pi)
    # The kink costs the trapezoidal rule a twelfth of a squared step times the density there.
    assert float(gain) == pytest.approx(variance**-0.5, rel=2e-3)
    assert float(offset) == pytest.approx(-mean * variance**-0.5, rel=2e-3)


def test_a_constant_function_has_a_bounded_gain():
    spec = ActivationSpec("zero", 1, (4,), normalized=True)
    gain, offset = gain_and_offset(spec, torch.zeros(1, spec.genome_size))
    assert (float(gain), float(offset)) == (pytest.approx(100.0), 0.0)


def test_gain_and_offset_of_a_plain_set_are_one_and_zero():
    spec = ActivationSpec("sin", 2, (4,))
    gain, offset = gain_and_offset(spec, initial_genomes(spec, 0)[0])
    assert gain.tolist() == [[1], [1]]
    assert offset.tolist() == [[0], [0]]


def normalised(base: str) -> Case:
    case = small_case(base=base, steps=3)
    return dataclasses.replace(case, spec=dataclasses.replace(case.spec, normalized=True))


@pytest.mark.parametrize("base", ["sin", "relu"])
def test_the_outer_gradient_goes_through_gain_and_offset(base):
    case = normalised(base)

    def loss(genomes):
        mixed = case.activation(genomes, exact=True)
        return float(train(case.problem, case.parameters, case.batches, mixed).losses.mean())

    ours = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 3).gradient
    direction, step = torch.randn(ours.shape, generator=generator(1, "direction"), dtype=torch.float64), 1e-6
    difference = (loss(case.genomes + step * direction) - loss(case.genomes - step * direction)) / (2 * step)
    assert float((ours * direction).sum()) == pytest.approx(difference, rel=2e-3)


def with_validation(case: Case, error=None) -> Case:
    rows = slice(20, 40)
    judged = Validation(case.batches.x[rows], case.batches.y[rows], error)
    return dataclasses.replace(case, problem=dataclasses.replace(case.problem, validation=judged))


def test_validation_loss_is_the_loss_of_the_trained_networks_on_those_rows():
    case = with_validation(small_case(steps=5))
    result = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 5)
    z, _ = case.problem.network.forward(result.final_parameters, case.batches.x[20:].unsqueeze(0), case.activation())
    expected = torch.nn.functional.cross_entropy(z.flatten(0, 1), case.batches.y[20:].repeat(3))
    assert result.outer_loss == pytest.approx(float(expected), rel=1e-12)
    judged = evaluate_population(case.problem, case.spec, case.genomes, case.parameters, case.batches, 5)
    assert float(judged.outer_loss) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_its_outer_gradient_equals_finite_differences_of_the_whole_inner_loop(optimizer):
    case = with_validation(small_case(steps=4, optimizer=optimizer, hidden=(6, 5)))

    def loss(genomes):
        bank = ExactBank(case.spec, genomes)
        exact = BankActivation(bank, mixed_functions(case.problem.network.hidden, 2))
        trained = train(case.problem, case.parameters, case.batches, exact)
        return float(case.problem.validation_loss(trained.parameters, exact).mean())

    gradient = Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 4).gradient
    for k in range(3):
        direction = torch.randn(gradient.shape, generator=generator(k, "direction"), dtype=torch.float64)
        step = 1e-5
        difference = (loss(case.genomes + step * direction) - loss(case.genomes - step * direction)) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(difference, rel=1e-3, abs=1e-8)


def test_an_error_that_is_no_loss_judges_populations_but_has_no_gradient():
    case = with_validation(small_case(steps=3), lambda z, y: 1 - (z.argmax(-1) == y).double().mean(-1))
    judged = evaluate_population(case.problem, case.spec, case.genomes, case.parameters, case.batches, 3)
    trained = train(case.problem, case.parameters, case.batches, case.activation())
    z, _ = case.problem.network.forward(trained.parameters, case.batches.x[20:].unsqueeze(0), case.activation())
    wrong = (z.argmax(-1) != case.batches.y[20:]).double().mean()
    assert float(judged.outer_loss) == pytest.approx(float(wrong))
    with pytest.raises(ValueError, match="must be that of a loss, but the problem is validated by another error"):
        Unrolled().estimate(case.problem, case.parameters, case.batches, case.activation(), 3)


def test_a_problem_without_validation_rows_cannot_validate():
    case = small_case()
    with pytest.raises(ValueError, match="must have validation rows, but got validation=None"):
        case.problem.validation_loss(case.parameters, case.activation())


def test_a_usual_activation_is_judged_like_a_set():
    case = small_case(steps=4)
    usual = UsualActivation("sin")
    judged = evaluate_activation(case.problem, usual, case.parameters, case.batches, 2)
    trained = train(case.problem, case.parameters, case.batches, usual)
    assert float(judged.outer_loss) == pytest.approx(float(trained.losses[-2:].mean()), rel=1e-12)
    silent = TableBank(case.spec, torch.zeros_like(case.genomes))
    as_set = BankActivation(silent, mixed_functions(case.problem.network.hidden, 2))
    table = evaluate_activation(case.problem, as_set, case.parameters, case.batches, 2)
    assert float(table.outer_loss) == pytest.approx(float(judged.outer_loss), rel=1e-6)
