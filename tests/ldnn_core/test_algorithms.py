"""What every evolution algorithm must hold."""

import pytest
import torch

from ldnn_core.algorithms import ALGORITHMS, CmaEs, Genetic
from ldnn_core.subnetwork import ActivationSpec

SPEC = ActivationSpec("sin", 2, (4,))
TARGET = torch.full((2, SPEC.genome_size), 0.3)


@pytest.fixture(params=ALGORITHMS)
def make(request):
    return lambda seed=0, **options: ALGORITHMS[request.param](SPEC, seed, population=12, **options)


def sphere(candidates):
    return (candidates - TARGET).square().mean(dim=(1, 2))


def run(algorithm, generations):
    for _ in range(generations):
        algorithm.tell(sphere(algorithm.ask()))
    return algorithm


def test_candidates_have_the_shape_of_sets(make):
    assert make().ask().shape == (12, 2, SPEC.genome_size)
    assert make().incumbent().shape == (2, SPEC.genome_size)


def test_a_known_optimum_is_approached(make):
    start = run(make(mutation_scale=0.3), 1)
    before = float(sphere(start.incumbent().unsqueeze(0)))
    after = float(sphere(run(start, 150).incumbent().unsqueeze(0)))
    assert after < 0.2 * before


def test_equal_seeds_repeat_and_others_differ(make):
    first, again, other = (run(make(seed), 3).ask() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("told", [True, False], ids=["between generations", "before tell"])
def test_a_restored_algorithm_goes_on_bit_for_bit(make, told):
    whole, stopped, resumed = make(), make(), make(seed=9)
    run(whole, 4)
    run(stopped, 4)
    if not told:
        whole_asked, stopped_asked = whole.ask(), stopped.ask()
        resumed.restore(stopped.state())
        whole.tell(sphere(whole_asked))
        resumed.tell(sphere(stopped_asked))
    else:
        resumed.restore(stopped.state())
    assert torch.equal(run(whole, 3).ask(), run(resumed, 3).ask())


def test_losses_that_are_not_finite_count_as_worst(make):
    algorithm = make()
    candidates = algorithm.ask()
    losses = sphere(candidates)
    losses[0], losses[1], losses[2] = float("nan"), float("inf"), -float("inf")
    algorithm.tell(losses)
    assert torch.isfinite(algorithm.ask()).all()
    assert torch.isfinite(algorithm.incumbent()).all()


def test_one_loss_per_candidate_is_needed(make):
    algorithm = make()
    algorithm.ask()
    with pytest.raises(ValueError, match="one loss for each of 12 candidates is needed"):
        algorithm.tell(torch.zeros(3))


def test_elites_survive_unchanged():
    algorithm = Genetic(SPEC, 0, population=8, elites=2)
    first = algorithm.ask()
    losses = sphere(first)
    algorithm.tell(losses)
    kept = first[losses.argsort()[:2]]
    assert torch.equal(algorithm.ask()[:2], kept)


def test_without_mutation_children_are_made_of_their_parents_types():
    algorithm = Genetic(SPEC, 0, population=8, elites=0, mutation_scale=0.0, crossover_rate=1.0)
    parents = algorithm.ask()
    algorithm.tell(sphere(parents))
    for child in algorithm.ask():
        for k in range(2):
            assert any(torch.equal(child[k], parent[k]) for parent in parents)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population": 4, "elites": 4}, r"elites < population must hold, but got \(elites=4, population=4\)"),
        ({"population": 4, "tournament": 5}, r"tournament <= population must hold"),
    ],
)
def test_a_population_that_is_too_small_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Genetic(SPEC, 0, **options)


def test_sep_cma_es_needs_four_candidates():
    with pytest.raises(ValueError, match="population >= 4 must hold for sep_cma_es, but got population=3"):
        CmaEs(SPEC, 0, population=3, separable=True)
