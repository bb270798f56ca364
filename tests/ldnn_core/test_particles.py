"""Gradients from differences: unbiased against closed forms and the exact gradient, and equal to particles alone."""

import dataclasses
import math

import pytest
import torch

from ldnn_core.activations import BankActivation, ExactBank, TableBank
from ldnn_core.estimators import Es, Pes, Unrolled
from ldnn_core.estimators.particles import Perturbation
from ldnn_core.optimizers import SGD
from ldnn_core.population import evaluate_population
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_bounds, initial_genomes
from ldnn_core.training import Batches, InnerProblem, TrainState, Validation
from tests.ldnn_core.cases import small_case


@dataclasses.dataclass(frozen=True)
class Follower:
    """A network of one parameter s that follows τ = <c, genome>: loss ½ (s - τ)², infinite where τ > limit.

    With SGD, s_t - τ = (1 - lr)^t (s_0 - τ), so the outer loss is a quadratic of the genome, and smoothing it leaves
    its gradient as it is.
    """

    direction: torch.Tensor
    limit: float = math.inf
    hidden: tuple[int, ...] = (1,)
    dropped: tuple[int, ...] = ()
    num_params: int = 1

    def loss_gradient(self, parameters, x, y, activation, noise=()):
        sets = activation.functions[0][:, 0].long() // len(self.direction)
        target = (activation.bank.genomes[sets] * self.direction).sum(dim=(1, 2))
        away = parameters[:, 0] - target
        return torch.where(target > self.limit, math.inf, 0.5 * away**2), away.unsqueeze(1)


SPEC = ActivationSpec("zero", 2, (3,))
LR, STEPS = 0.2, 6


def follower(limit=math.inf):
    """Problem, parameters, batches and activation of two followers, and the exact gradient of their outer loss."""
    direction = torch.randn(2, SPEC.genome_size, generator=generator(0, "direction"), dtype=torch.float64)
    genomes = initial_genomes(SPEC, 0, dtype=torch.float64)
    parameters = torch.tensor([[3.0], [5.0]], dtype=torch.float64)
    activation = BankActivation(ExactBank(SPEC, genomes), (torch.zeros(1, 1, dtype=torch.int32),))
    dummy = torch.zeros(1, 1, dtype=torch.float64)
    batches = Batches(dummy, dummy, torch.zeros(STEPS, 2, 1, dtype=torch.int64))
    away = parameters.mean() - (genomes * direction).sum()
    factor = sum((1 - LR) ** (2 * t) for t in range(STEPS)) / STEPS
    arguments = (InnerProblem(Follower(direction, limit), SGD(), LR), parameters, batches, activation, STEPS)
    return arguments, (-factor * away * direction).unsqueeze(0)


def loop_gradient(estimator, arguments, index, forget=False):
    """The mean gradient over the pieces of one inner loop at a fixed set."""
    gradients, carry = [], None
    while not gradients or carry is not None:
        seed = 1000 * index + len(gradients)
        result = estimator.estimate(*arguments, seed=seed, carry=carry)
        gradients.append(result.gradient)
        carry = result.carry
        if forget and carry is not None:
            carry = dataclasses.replace(carry, perturbation=torch.zeros_like(carry.perturbation))
    return torch.stack(gradients).mean(dim=0)


def z_scores(samples, exact):
    """How many standard errors the mean of independent samples lies off, per weight."""
    samples = torch.stack(samples)
    return (samples.mean(dim=0) - exact) / (samples.std(dim=0) / len(samples) ** 0.5)


@pytest.mark.parametrize(
    "estimator", [Es(0.5, 10), Pes(6, 0.5, 10), Pes(2, 0.5, 10), Pes(1, 0.5, 10), Pes(4, 0.5, 10)], ids=repr
)
def test_the_mean_is_the_gradient_of_the_smoothed_loss(estimator):
    arguments, exact = follower()
    if estimator == Pes(
        4, 0.5, 10
    ):  # pieces of 4 and 2 steps: the mean of their outer losses weighs the short one more
        factor = sum((1 - LR) ** (2 * t) * (1 / 8 if t < 4 else 1 / 4) for t in range(STEPS))
        exact = exact * factor / (sum((1 - LR) ** (2 * t) for t in range(STEPS)) / STEPS)
    z = z_scores([loop_gradient(estimator, arguments, i) for i in range(150)], exact)
    assert float(z.abs().max()) < 4  # of 20 weights
    assert 0.4 < float(z.square().mean()) < 2


def test_forgetting_earlier_perturbations_is_a_bias_that_the_test_sees():
    arguments, exact = follower()
    z = z_scores([loop_gradient(Pes(2, 0.5, 10), arguments, i, forget=True) for i in range(150)], exact)
    assert float(z.abs().max()) > 6


@pytest.mark.parametrize("estimator", [Es(0.01, 20), Pes(3, 0.01, 20)], ids=repr)
def test_the_mean_is_the_exact_meta_gradient_of_a_network_when_perturbations_are_small(estimator):
    case = small_case(networks=2, steps=6, hidden=(4,), num_types=1)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 6)
    exact = Unrolled().estimate(*arguments).gradient
    samples = [loop_gradient(estimator, arguments, i) for i in range(40)]
    z = z_scores(samples, exact)
    assert float(z.abs().max()) < 4.5  # of 19 weights, few samples
    assert 0.3 < float(z.square().mean()) < 2.2
    assert float(z_scores(samples, 0 * exact).abs().max()) > 8  # so the test would see a gradient that is not there


def test_antithetic_pairs_have_the_smaller_variance():
    case = small_case(networks=1, steps=4, num_types=1)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 4)
    antithetic = torch.stack([Es(0.1, 4).estimate(*arguments, seed=i).gradient for i in range(30)])
    scale = 0.1 * initial_bounds(case.spec, torch.float64)
    one_sided = []
    for i in range(30):
        epsilon = torch.randn(8, *case.genomes.shape[1:], generator=generator(i, "other"), dtype=torch.float64)
        genomes = case.genomes + scale * epsilon
        losses = evaluate_population(case.problem, case.spec, genomes, case.parameters, case.batches, 4).outer_loss
        one_sided.append((losses.view(-1, 1, 1) * epsilon).mean(dim=0) / scale)
    spread = [samples.var(dim=0).sum() for samples in (antithetic, torch.stack(one_sided).unsqueeze(1))]
    assert spread[0] < 0.1 * spread[1]  # the loss itself, many times its differences, is in the one-sided estimate


@pytest.mark.parametrize("length", [6, 4])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_particles_in_one_batch_equal_particles_one_at_a_time(length, exact):
    case = small_case(networks=2, steps=6, noise=0.1)
    scale, pairs = 0.2, 3
    arguments = (case.problem, case.parameters, case.batches, case.activation(exact=exact), 100)
    signed = [(sign, p) for sign in (1, -1) for p in range(pairs)]
    states = dict.fromkeys(signed, case.problem.start(case.parameters))
    bounds, total, carry = initial_bounds(case.spec, torch.float64), torch.zeros(()), None
    for first, last, seed in [(0, length, 5), (length, 6, 6)][: 1 if length == 6 else 2]:
        result = Pes(length, scale, pairs).estimate(*arguments, seed=seed, carry=carry)
        carry = result.carry
        epsilon = torch.randn(
            pairs, *case.genomes.shape, generator=generator(seed, "perturbation"), dtype=torch.float64
        )
        total, expected = total + epsilon, torch.zeros_like(case.genomes)
        for sign, p in signed:
            activation = case.activation(case.genomes + sign * scale * bounds * epsilon[p], exact=exact)
            state, loss = states[sign, p], 0.0
            for t in range(first, last):
                assert state.step == t
                at_step, gradient = case.problem.gradient(state, case.batches, activation)
                loss += float(at_step.mean()) / (last - first)
                state = case.problem.advance(state, gradient)
            states[sign, p] = state
            expected += sign * loss * total[p] / (2 * scale * pairs * bounds)
        torch.testing.assert_close(result.gradient, expected, rtol=1e-9, atol=1e-12)
    assert carry is None


def test_validation_rows_judge_every_particle_by_any_error():
    case = small_case(networks=2, steps=3)
    x, y = case.batches.x[:9], case.batches.y[:9]
    judged = Validation(x, y, lambda z, y: 1 - (z.argmax(-1) == y).double().mean(-1))
    problem, scale, pairs = dataclasses.replace(case.problem, validation=judged), 5.0, 4
    result = Es(scale, pairs).estimate(problem, case.parameters, case.batches, case.activation(), 3, seed=2)
    bounds = initial_bounds(case.spec, torch.float64)
    epsilon = torch.randn(pairs, *case.genomes.shape, generator=generator(2, "perturbation"), dtype=torch.float64)
    genomes = case.genomes + torch.cat([0 * epsilon[:1], epsilon, -epsilon]).squeeze(1) * scale * bounds
    losses = evaluate_population(problem, case.spec, genomes, case.parameters, case.batches, 3).outer_loss
    slope = (losses[1 : 1 + pairs] - losses[1 + pairs :]) / (2 * scale * pairs)
    assert slope.abs().max() > 0
    torch.testing.assert_close(result.gradient, torch.einsum("p,pmkw->mkw", slope, epsilon) / bounds)
    assert result.outer_loss == pytest.approx(float(losses[0]))


def test_every_particle_has_its_own_functions_whatever_sets_the_networks_use():
    spec, perturbation = ActivationSpec("sin", 2, (4,)), Perturbation(0.3, 2)
    genomes = initial_genomes(spec, 0, sets=3, dtype=torch.float64)
    functions = (torch.tensor([[0, 1, 4], [2, 3, 5]], dtype=torch.int32),)
    epsilon = perturbation.draw(genomes, 7)
    perturbed = perturbation.particles(BankActivation(TableBank(spec, genomes), functions), epsilon)
    a = torch.randn(2, 5, 3, generator=generator(0, "a"), dtype=torch.float64)
    step = 0.3 * initial_bounds(spec, torch.float64) * epsilon
    for q, move in enumerate([0 * step[0], step[0], step[1], -step[0], -step[1]]):
        alone = BankActivation(TableBank(spec, genomes + move), functions)
        ours = perturbed.of_networks(slice(2 * q, 2 * q + 2))
        assert torch.equal(ours.value_slope(a, 0)[0], alone.value_slope(a, 0)[0])


@pytest.mark.parametrize("estimator", [Es(1.0, 8), Pes(6, 1.0, 8)], ids=repr)
def test_a_perturbed_classifier_that_diverges_is_seen_in_the_outer_loss(estimator):
    (problem, *rest), _ = follower()
    target = float((rest[2].bank.genomes * problem.network.direction).sum())
    limited = dataclasses.replace(problem, network=dataclasses.replace(problem.network, limit=target + 1e-6))
    assert math.isfinite(estimator.estimate(problem, *rest, seed=0).outer_loss)
    result = estimator.estimate(limited, *rest, seed=0)
    assert torch.isfinite(result.losses).all()  # of the set itself
    assert result.outer_loss == math.inf
    assert not torch.isfinite(result.gradient).all()


def test_the_seed_decides_the_perturbations():
    arguments, _ = follower()
    first, same, other = (Es().estimate(*arguments, seed=seed).gradient for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("estimator", "name"), [(Es(), "es"), (Pes(), "pes")])
def test_without_a_seed_nothing_is_drawn(estimator, name):
    arguments, _ = follower()
    with pytest.raises(ValueError, match=f"the estimator {name} draws perturbations: give a seed"):
        estimator.estimate(*arguments)


@pytest.mark.parametrize("make", [lambda: Es(0.0), lambda: Es(0.1, 0), lambda: Pes(5, -1.0), lambda: Pes(5, 0.1, 0)])
def test_a_perturbation_needs_a_size_and_a_pair(make):
    words = r"perturbation > 0 and pairs >= 1 must hold for es and pes, but got \(perturbation="
    with pytest.raises(ValueError, match=words):
        make()


def test_a_piece_needs_a_step():
    with pytest.raises(ValueError, match="length >= 1 must hold for the estimator pes, but got length=0"):
        Pes(0)


def test_a_carry_holds_what_every_particle_needs():
    arguments, _ = follower()
    carry = Pes(2, pairs=3).estimate(*arguments, seed=0).carry
    assert isinstance(carry.state, TrainState)
    assert (carry.state.step, len(carry.state.parameters)) == (2, 7 * 2)
    assert carry.perturbation.shape == (3, 1, 2, SPEC.genome_size)
