"""A step in function space changes the curve by what is wanted, whatever the genome."""

import numpy as np
import pytest
import torch

from ldnn_core.algorithms.coordinates import weight_units
from ldnn_core.algorithms.mutation import (
    LONGEST_STEP,
    MUTATIONS,
    mutate_functions,
    mutate_weights,
    steps_to_change,
)
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from tests.ldnn_core.algorithms.cases import curve_change

SPEC = ActivationSpec("sin", 2, (20,))
DEEP = ActivationSpec("zero", 3, (6, 5), 0.5)
NORMALIZED = ActivationSpec("elu", 2, (20,), 1.0, normalized=True)


def change_by_quadrature(spec, genome, other):
    """The root mean square under N(0, 1) by a sum over 16001 points on [-8, 8], in numpy."""
    x = np.linspace(-8, 8, 16001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    def curve(weights):
        h, start = x[:, None], 0
        for depth, (i, o) in enumerate(spec.layer_sizes):
            w, b = weights[start : start + i * o].reshape(i, o), weights[start + i * o : start + i * o + o]
            h, start = h @ w + b, start + i * o + o
            h = h if depth == len(spec.hidden) else np.tanh(h)
        y = spec.scale * h[:, 0] + {"sin": np.sin(x), "zero": 0 * x, "elu": np.where(x > 0, x, np.expm1(x))}[spec.base]
        mean = np.average(y, weights=density)
        return (y - mean) / np.sqrt(np.average((y - mean) ** 2, weights=density)) if spec.normalized else y

    difference = curve(other.double().numpy()) - curve(genome.double().numpy())
    return np.sqrt(np.sum(difference**2 * density) * (x[1] - x[0]))


def mutate(spec, genomes, lengths, kind="function", seed=0):
    lengths = torch.as_tensor(lengths, dtype=genomes.dtype)
    return MUTATIONS[kind](spec, weight_units(spec), genomes, lengths, generator(seed, "mutation"))


@pytest.mark.parametrize("wanted", [1e-9, 1e-4, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("steepness", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("spec", [SPEC, DEEP, NORMALIZED], ids=["one hidden layer", "two", "with gain and offset"])
def test_every_curve_changes_by_what_is_wanted(spec, steepness, wanted):
    genomes = steepness * initial_genomes(spec, 3, sets=3, dtype=torch.float64)
    mutated = mutate(spec, genomes, [wanted, 2 * wanted, 0.5 * wanted])
    for m, factor in enumerate((1.0, 2.0, 0.5)):
        for k in range(spec.num_types):
            found = change_by_quadrature(spec, genomes[m, k], mutated[m, k])
            assert found == pytest.approx(factor * wanted, rel=3e-3), (m, k)


def test_a_step_means_the_same_for_all_genomes_where_one_in_the_weights_does_not():
    """Faint and strong sub-networks: the same Gaussian step moves their curves by very different amounts."""
    genomes = torch.cat([scale * initial_genomes(SPEC, 1) for scale in (0.1, 1.0, 5.0)])
    spread = {}
    for kind in MUTATIONS:
        mutated = mutate(SPEC, genomes, [0.05] * 3, kind)
        changes = curve_change(SPEC, genomes.double().flatten(0, 1), mutated.double().flatten(0, 1))
        spread[kind] = float(changes.max() / changes.min())
    assert spread["function"] < 1.003
    assert spread["weights"] > 2


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_length_of_zero_changes_nothing(kind):
    genomes = initial_genomes(SPEC, 0, sets=3)
    mutated = mutate(SPEC, genomes, [0.0, 0.1, 0.0], kind)
    assert torch.equal(mutated[[0, 2]], genomes[[0, 2]])
    assert not torch.equal(mutated[1], genomes[1])


def test_both_mutations_go_in_the_same_direction():
    genomes = initial_genomes(SPEC, 0, sets=3, dtype=torch.float64)
    steps = {kind: mutate(SPEC, genomes, [0.05] * 3, kind) - genomes for kind in MUTATIONS}
    cosine = torch.nn.functional.cosine_similarity(steps["weights"], steps["function"], dim=2)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("wanted", [1e3, 1e30])
def test_a_change_out_of_reach_ends_at_the_longest_step(wanted):
    genomes = initial_genomes(SPEC, 0, sets=2)
    far = mutate(SPEC, genomes, [wanted, 0.1])
    longest = mutate(SPEC, genomes, [LONGEST_STEP, 0.1], "weights")
    torch.testing.assert_close(far[0], longest[0])
    assert curve_change(SPEC, genomes[0].double(), far[0].double()).max() < wanted
    others = curve_change(SPEC, genomes[1].double(), far[1].double())  # what one cannot have does not hold up the rest
    torch.testing.assert_close(others, torch.full((2,), 0.1, dtype=torch.float64), rtol=2e-3, atol=0)


def test_normalised_curves_cannot_differ_by_more_than_two():
    """They have mean 0 and variance 1."""
    genomes = initial_genomes(NORMALIZED, 0, dtype=torch.float64)
    far, longest = mutate(NORMALIZED, genomes, [2.5]), mutate(NORMALIZED, genomes, [LONGEST_STEP], "weights")
    torch.testing.assert_close(far, longest)


def test_a_change_below_rounding_ends_and_stays_small():
    genomes = initial_genomes(SPEC, 0)
    assert curve_change(SPEC, genomes[0].double(), mutate(SPEC, genomes, [1e-20])[0].double()).max() < 1e-7


def test_a_direction_that_leads_nowhere_ends():
    genomes = initial_genomes(SPEC, 0, dtype=torch.float64)[0]
    steps = steps_to_change(SPEC, genomes, torch.zeros_like(genomes), torch.tensor([0.1, 0.0], dtype=torch.float64))
    assert steps.tolist() == [LONGEST_STEP, 0.0]


def test_each_function_is_found_as_if_it_were_alone():
    genomes = initial_genomes(SPEC, 0, sets=4, dtype=torch.float64).flatten(0, 1)
    directions = initial_genomes(SPEC, 1, sets=4, dtype=torch.float64).flatten(0, 1)
    wanted = torch.logspace(-4, 0, 8, dtype=torch.float64)
    together = steps_to_change(SPEC, genomes, directions, wanted)
    for f in range(8):
        alone = steps_to_change(SPEC, genomes[f : f + 1], directions[f : f + 1], wanted[f : f + 1])
        assert together[f].item() == pytest.approx(alone.item(), rel=1e-9)


def test_few_evaluations_are_enough(monkeypatch):
    calls = []
    original = torch.tanh
    monkeypatch.setattr(torch, "tanh", lambda x: calls.append(len(x)) or original(x))
    genomes = initial_genomes(SPEC, 0, sets=64)
    mutate(SPEC, genomes, torch.logspace(-3, -0.5, 64))
    assert len(calls) <= 20


def test_weights_move_by_their_unit_and_layer():
    genomes = torch.zeros(4000, 1, SPEC.genome_size)
    units = weight_units(SPEC, (2.0, 0.5))
    steps = mutate_weights(SPEC, units, genomes, torch.full((4000,), 0.3), generator(0, "mutation"))
    expected = torch.tensor([2.0] * 40 + [0.5 * 20**-0.5] * 21)
    torch.testing.assert_close(steps.std(dim=0)[0], 0.3 * expected, rtol=0.06, atol=0)
    assert steps.mean(dim=0).abs().max() < 0.05


def test_layer_scales_turn_the_direction_of_a_function_mutation():
    genomes = initial_genomes(SPEC, 0, sets=8, dtype=torch.float64)
    lengths = torch.full((8,), 0.05, dtype=torch.float64)
    units = weight_units(SPEC, (1e-6, 1.0))  # the last layer alone
    steps = mutate_functions(SPEC, units, genomes, lengths, generator(0, "mutation")) - genomes
    assert steps[..., :40].abs().max() < 1e-4 * steps[..., 40:].abs().max()
