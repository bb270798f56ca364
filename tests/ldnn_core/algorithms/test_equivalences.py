"""Each algorithm against its formulas written out, or against itself with a part switched off."""

import numpy as np
import pytest
import torch
from cmaes import CMA, SepCMA

from ldnn_core.algorithms import Genetic, OpenaiEs, Snes
from ldnn_core.algorithms.openai_es import antithetic_gradient
from ldnn_core.algorithms.ranks import centred_ranks, utilities
from ldnn_core.randomness import derive_seed, generator
from tests.ldnn_core.algorithms.cases import SPEC, Quadratic, curve_change, make, points, run

ellipsoid = Quadratic(condition=100.0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "normal"))


# Ranks


def test_centred_ranks_run_from_minus_to_plus_one_half():
    assert centred_ranks(torch.tensor([3.0, 1.0, float("inf"), 2.0, 9.0])).tolist() == [0.0, -0.5, 0.5, -0.25, 0.25]


def test_utilities_are_those_of_the_paper():
    raw = np.maximum(0, np.log(6 / 2 + 1) - np.log(np.arange(1, 7)))
    expected = raw / raw.sum() - 1 / 6
    found = utilities(torch.tensor([5.0, 0.0, 1.0, 4.0, 3.0, 2.0])).numpy()
    np.testing.assert_allclose(found, expected[[5, 0, 1, 4, 3, 2]], rtol=1e-12)


@pytest.mark.parametrize("weights", [centred_ranks, utilities])
def test_equal_losses_share_their_weights(weights):
    distinct, tied = weights(torch.tensor([0.0, 1.0, 2.0, 3.0])), weights(torch.tensor([0.0, 1.0, 1.0, 3.0]))
    assert tied[1] == tied[2] == (distinct[1] + distinct[2]) / 2
    assert (tied[0], tied[3]) == (distinct[0], distinct[3])
    assert weights(torch.full((7,), float("inf"))).abs().max() < 1e-15


# OpenAI-ES


def test_on_a_linear_function_the_estimate_is_the_gradient_seen_through_the_noise():
    """(L⁺ - L⁻) / 2σ = a · ε, so that the estimate is Eᵀ E a / pairs: a itself when Eᵀ E is the identity."""
    size, sigma = 6, 0.7
    a, noise = normal(size), normal(4, size)
    values = torch.cat([sigma * noise @ a, -sigma * noise @ a]) + 3
    torch.testing.assert_close(antithetic_gradient(noise, values) / sigma, noise.T @ noise @ a / 4)
    orthogonal = torch.linalg.qr(normal(size, size)).Q * size**0.5
    values = torch.cat([sigma * orthogonal @ a, -sigma * orthogonal @ a])
    torch.testing.assert_close(antithetic_gradient(orthogonal, values) / sigma, a)


def test_pairs_are_symmetric_about_the_mean():
    algorithm = make("openai_es")
    mean, candidates = algorithm.incumbent(), algorithm.ask()
    torch.testing.assert_close(candidates[:6] + candidates[6:], (2 * mean).expand(6, -1, -1))


def test_openai_es_is_adam_on_ranked_pairs():
    sigma, rate, decay = 0.2, 0.05, 0.1
    algorithm = OpenaiEs(SPEC, 0, population=12, mutation_scale=sigma, mean_lr=rate, weight_decay=decay)
    theta, m, v = points(algorithm.incumbent()).numpy(), 0.0, 0.0
    for t in range(1, 8):
        candidates = points(algorithm.ask()).numpy()
        values = ((candidates - 0.3) ** 2) @ ellipsoid.curvatures.numpy() / 2
        algorithm.tell(torch.from_numpy(values))
        u = values.argsort().argsort() / 11 - 0.5
        epsilon = (candidates[:6] - theta) / sigma
        g = sum((u[i] - u[6 + i]) * epsilon[i] for i in range(6)) / 12 + decay * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(points(algorithm.incumbent()).numpy(), theta, atol=2e-5)


def test_weight_decay_pulls_towards_zero():
    algorithm = make("openai_es", weight_decay=1.0)
    before = points(algorithm.incumbent())
    algorithm.ask()
    algorithm.tell(torch.zeros(12))  # equal losses: nothing but the decay moves the mean, by Adam's first step
    torch.testing.assert_close(points(algorithm.incumbent()), before - 0.1 * before.sign(), rtol=0, atol=1e-5)


# SNES


def test_snes_follows_its_formulas():
    algorithm = Snes(SPEC, 0, population=12, mutation_scale=0.2)
    size = 2 * SPEC.genome_size
    mean, sigmas = points(algorithm.incumbent()).numpy(), np.full(size, 0.2)
    rate = (3 + np.log(size)) / (5 * np.sqrt(size))
    raw = np.maximum(0, np.log(7) - np.log(np.arange(1, 13)))
    by_rank = raw / raw.sum() - 1 / 12
    for _ in range(7):
        candidates = points(algorithm.ask()).numpy()
        values = ((candidates - 0.3) ** 2) @ ellipsoid.curvatures.numpy() / 2
        algorithm.tell(torch.from_numpy(values))
        s = (candidates - mean) / sigmas
        u = by_rank[values.argsort().argsort()]
        mean = mean + sigmas * (u @ s)
        sigmas = sigmas * np.exp(rate / 2 * (u @ (s**2 - 1)))
        np.testing.assert_allclose(points(algorithm.incumbent()).numpy(), mean, atol=2e-5)
        np.testing.assert_allclose(algorithm.state()["sigmas"].numpy(), sigmas, rtol=1e-4)


def test_snes_without_a_rate_of_sigma_keeps_sigma_and_without_one_of_the_mean_the_mean():
    fixed = make("snes", sigma_rate=0.0)
    mean = fixed.incumbent()
    run(fixed, ellipsoid, 5)
    assert (fixed.state()["sigmas"] == 0.1).all()
    assert not torch.equal(fixed.incumbent(), mean)
    resting = make("snes", mean_rate=0.0)
    assert torch.equal(run(resting, ellipsoid, 5).incumbent(), mean)
    assert not (resting.state()["sigmas"] == 0.1).any()


# CMA-ES


@pytest.mark.parametrize(("name", "package"), [("sep_cma_es", SepCMA), ("cma_es", CMA)])
def test_cma_es_is_the_package_used_by_hand(name, package):
    ours = make(name, 5, mutation_scale=0.2)
    by_hand = package(
        mean=ours.state()["_mean"].numpy(),
        sigma=0.2,
        population_size=12,
        seed=derive_seed(5, name.replace("_", "-")) % 2**32,
    )
    for generation in range(8):
        candidates = np.stack([by_hand.ask() for _ in range(12)])
        losses = ellipsoid(ours.ask())
        asked = ours.state()["asked"].numpy()
        # The full one multiplies in another order than the package, which rounds differently; told the same, both move
        # alike to the last digit.
        exactly = {"rtol": 0, "atol": 0 if name == "sep_cma_es" else 1e-12}
        np.testing.assert_allclose(asked, candidates, **exactly, err_msg=f"generation {generation}")
        ours.tell(losses)
        by_hand.tell(list(zip(asked, losses.tolist(), strict=True)))
        assert np.array_equal(ours.state()["_mean"].numpy(), by_hand.mean)
        assert np.array_equal(ours.state()["_C"].numpy(), by_hand._C)
        assert ours.step_size() == by_hand._sigma


# Without mutation


@pytest.mark.parametrize("name", ["openai_es", "snes"])
def test_without_mutation_all_candidates_are_the_mean(name):
    algorithm = make(name, mutation_scale=0.0)
    candidates = algorithm.ask()
    assert torch.equal(candidates, algorithm.incumbent().expand_as(candidates))
    assert torch.equal(run(algorithm, ellipsoid, 2).ask(), candidates)


@pytest.mark.parametrize("name", ["sep_cma_es", "cma_es"])
def test_with_ever_smaller_mutations_candidates_become_the_mean(name):
    algorithm = make(name, mutation_scale=1e-30)
    candidates = algorithm.ask()
    assert torch.equal(candidates, algorithm.incumbent().expand_as(candidates))


# The genetic algorithm


def test_elites_survive_unchanged():
    algorithm = Genetic(SPEC, 0, population=8, elites=2)
    first = algorithm.ask()
    losses = ellipsoid(first)
    algorithm.tell(losses)
    assert torch.equal(algorithm.ask()[:2], first[losses.argsort()[:2]])


@pytest.mark.parametrize("mutation", ["weights", "function"])
def test_without_mutation_children_are_made_of_their_parents_types(mutation):
    options = {"elites": 0, "mutation_scale": 0.0, "crossover_rate": 1.0, "mutation": mutation}
    algorithm = Genetic(SPEC, 0, population=8, **options)
    parents = algorithm.ask()
    algorithm.tell(ellipsoid(parents))
    for child in algorithm.ask():
        for k in range(2):
            assert any(torch.equal(child[k], parent[k]) for parent in parents)


def test_both_mutations_breed_the_same_when_their_lengths_are_zero():
    weights, function = (
        run(Genetic(SPEC, 0, mutation=mutation, mutation_scale=0.0), ellipsoid, 5)
        for mutation in ("weights", "function")
    )
    assert torch.equal(weights.ask(), function.ask())


def test_step_sizes_adapt_themselves_and_are_the_changes_of_the_curves():
    """With the whole population in each tournament and no crossover, every child is a step from the best."""
    options = {"elites": 0, "tournament": 8, "crossover_rate": 0.0}
    algorithm = Genetic(SPEC, 0, population=8, mutation="function", mutation_scale=0.05, **options)
    parents = algorithm.ask()
    losses = ellipsoid(parents)
    algorithm.tell(losses)
    children = algorithm.ask()
    sigmas = algorithm.state()["sigmas"]
    assert len(set(sigmas.tolist())) == 8
    best = parents[losses.argmin()].expand_as(children)
    for k in range(2):
        changes = curve_change(SPEC, best[:, k].double(), children[:, k].double())
        torch.testing.assert_close(changes, sigmas.double(), rtol=2e-3, atol=0)
