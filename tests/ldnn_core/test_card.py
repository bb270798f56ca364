"""What a card says of its functions is true of them."""

import pytest
import torch

from ldnn_core.activations import ExactBank, TableBank
from ldnn_core.card import ObservedInputs, make_card, table_errors, windows
from ldnn_core.lowering_error import error_bounds
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from tests.ldnn_core.cards import SPECS, small_card


def on_the_table(card, points=30_001):
    low, high = card.spec.grid.ends
    x = torch.linspace(low + 1e-4, high - 1e-4, points, dtype=torch.float64)
    return x.view(1, -1, 1).expand(1, -1, card.spec.num_types).contiguous(), torch.arange(card.spec.num_types)[None]


@pytest.mark.parametrize("name", SPECS)
def test_errors_are_those_of_the_table_against_the_sub_networks(name):
    card = small_card(name)
    x, types = on_the_table(card)
    x = x.requires_grad_()
    value, slope = ExactBank(card.spec, card.genomes.unsqueeze(0)).value_slope(x, types)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    table = TableBank(card.spec, card.genomes.unsqueeze(0)).value_slope_curvature(x.detach(), types)
    told = (card.errors.value, card.errors.slope, card.errors.curvature)
    for looked_up, own, errors in zip(table, (value, slope, curvature), told, strict=True):
        found = (looked_up - own.detach()).abs().amax((0, 1))
        claimed = torch.tensor(errors, dtype=torch.float64)
        assert (found <= 1.02 * claimed + 1e-13).all()
        assert (found >= 0.7 * claimed - 1e-13).all()


def test_errors_are_below_the_proven_bounds():
    card = small_card()
    bounds = error_bounds(card.spec, card.genomes.unsqueeze(0))
    assert max(card.errors.value) <= bounds.value
    assert max(card.errors.slope) <= bounds.slope
    assert max(card.errors.curvature) <= bounds.curvature


def test_errors_grow_with_the_cells():
    spec = ActivationSpec("sin", 1, (8,), table_scale=16)
    genomes = initial_genomes(spec, 0, dtype=torch.float64)[0]
    fine, coarse = make_card(SPECS["sin"], initial_genomes(SPECS["sin"], 0)[0]), make_card(spec, genomes)
    assert coarse.errors.value[0] > 100 * fine.errors.value[0]
    moved = table_errors(spec, genomes, coarse.coefficients + torch.tensor([1e-3, 0, 0, 0]))
    assert moved.value[0] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", SPECS)
def test_the_lipschitz_bound_is_the_largest_slope(name):
    card = small_card(name)
    x, types = on_the_table(card, 200_001)
    steepest = TableBank(card.spec, card.genomes.unsqueeze(0)).value_slope(x, types)[1].abs().amax((0, 1))
    told = torch.tensor(card.lipschitz, dtype=torch.float64)
    assert (steepest <= told * (1 + 1e-12)).all()
    assert (steepest >= told * (1 - 1e-3)).all()


def test_gain_and_offset_normalise():
    card = small_card("normalised")
    plain = ActivationSpec("tanh", 3, (6, 5), 0.5)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    weight = torch.exp(-z * z / 2)
    y = ExactBank(plain, card.genomes[None]).value(z.view(1, -1, 1).expand(1, -1, 3), torch.arange(3)[None])[0]
    y = card.gain * y + card.offset
    mean = (y * weight[:, None]).sum(0) / weight.sum()
    variance = ((y - mean).square() * weight[:, None]).sum(0) / weight.sum()
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-9, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(mean), atol=1e-9, rtol=0)


def test_a_card_does_not_change_with_the_genomes_it_was_made_of():
    genomes = initial_genomes(SPECS["sin"], 0, dtype=torch.float64)[0]
    card = make_card(SPECS["sin"], genomes)
    before = card.genomes.clone()
    genomes.zero_()
    assert torch.equal(card.genomes, before)


def test_windows_cover_a_grid_or_are_spread_over_it():
    small = ActivationSpec("sin", 2, (8,))
    assert [(first, grid) for first, grid in windows(small, 16)] == [(0, small.grid)]
    large = ActivationSpec("sin", 2, (512,), table_range=100.0, table_scale=64)
    parts = windows(large, 16)
    assert len(parts) == 16
    assert parts[0][0] == 0
    assert parts[-1][0] + parts[-1][1].cells == large.grid.cells
    for first, grid in parts:
        assert torch.equal(grid.knots(), large.grid.knots()[first : first + grid.cells + 1])


@pytest.mark.parametrize("bad", [(1.0, 1.0, 0.5, 1), (0.0, 1.0, 0.0, 1), (0.0, 1.0, 1.1, 1), (0.0, 1.0, 0.5, 0)])
def test_an_impossible_range_of_inputs_is_refused(bad):
    with pytest.raises(ValueError, match="low < high"):
        ObservedInputs(*bad)


def test_genomes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="genomes must have shape"):
        make_card(SPECS["sin"], torch.zeros(2, 3))
