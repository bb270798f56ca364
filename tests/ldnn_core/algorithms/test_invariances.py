"""What must make no difference to a search."""

import pytest
import torch

from ldnn_core.algorithms import ALGORITHMS
from tests.ldnn_core.algorithms.cases import AROUND_A_MEAN, Quadratic, make, points, run

MEAN = {"openai_es": "mean", "snes": "mean", "sep_cma_es": "_mean", "cma_es": "_mean"}
ellipsoid = Quadratic(condition=100.0)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "transform", [lambda y: 1e-3 * y + 7, torch.log, lambda y: y**3, torch.atan], ids=["affine", "log", "cube", "atan"]
)
def test_only_the_order_of_losses_counts(name, transform):
    plain = run(make(name), ellipsoid, 10)
    transformed = run(make(name), lambda genomes: transform(ellipsoid(genomes)), 10)
    assert torch.equal(plain.ask(), transformed.ask())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_falling_transform_does_count(name):
    plain = run(make(name), ellipsoid, 3)
    assert not torch.equal(plain.ask(), run(make(name), lambda genomes: -ellipsoid(genomes), 3).ask())


@pytest.mark.parametrize("name", AROUND_A_MEAN)
def test_a_start_moved_together_with_the_optimum_moves_the_whole_search(name):
    far = 5.0
    plain, moved = make(name, mutation_scale=0.2), make(name, mutation_scale=0.2)
    state = moved.state()
    state[MEAN[name]] = state[MEAN[name]] + far
    moved.restore(state)
    units = moved.incumbent() / points(moved.incumbent()).view(moved.incumbent().shape)
    # Eigenvectors of a covariance near the identity turn with the last digit, so that cma_es draws otherwise later on.
    generations = 1 if name == "cma_es" else 10
    run(plain, ellipsoid, generations)
    run(moved, lambda genomes: ellipsoid(genomes - far * units), generations)
    torch.testing.assert_close(points(moved.incumbent()), points(plain.incumbent()) + far, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["openai_es", "snes"])
def test_candidates_of_equal_loss_count_alike(name):
    """With two values of the loss, any order of the good ones and of the bad ones gives the same mean."""
    algorithm = make(name)
    start = algorithm.incumbent()
    candidates = algorithm.ask()
    good = torch.tensor([0, 3, 4, 5, 9, 10])
    losses = torch.ones(12)
    losses[good] = 0.0
    algorithm.tell(losses)
    step = (points(algorithm.incumbent()) - points(start)).float()
    weights = torch.full((12,), -1.0)
    weights[good] = 1.0
    towards = (points(candidates) * weights.unsqueeze(1)).sum(dim=0).float()
    if name == "openai_es":  # Adam's first step is the sign of the gradient
        step, towards = step.sign(), towards.sign()
    cosine = torch.nn.functional.cosine_similarity(step, towards, dim=0)
    assert cosine > 0.999


def test_cma_es_searches_a_rotated_function_as_the_function_itself():
    """Number by number, when the same normal numbers are laid along rotated axes: R maps one run onto the other."""
    rotation = Quadratic(rotated=True).axes
    plain, rotated = make("cma_es", mutation_scale=0.3), make("cma_es", mutation_scale=0.3)
    start = rotated.state()
    rotated.restore(start | {"_mean": rotation @ start["_mean"]})
    for _ in range(5):
        candidates = plain.ask()
        decomposed = plain.state()
        rotated.restore(rotated.state() | {"_B": rotation @ decomposed["_B"], "_D": decomposed["_D"]})
        torch.testing.assert_close(points(rotated.ask()) @ rotation, points(candidates), rtol=0, atol=1e-5)
        plain.tell(ellipsoid(candidates))
        rotated.tell(ellipsoid(candidates))
    one, other = plain.state(), rotated.state()
    torch.testing.assert_close(other["_C"], rotation @ one["_C"] @ rotation.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(other["_mean"], rotation @ one["_mean"], rtol=0, atol=1e-12)
    torch.testing.assert_close(other["_sigma"], one["_sigma"], rtol=1e-12, atol=0)
