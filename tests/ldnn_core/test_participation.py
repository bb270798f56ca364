"""Participation ratio: closed forms, and the corrected one without bias where there are few inputs."""

import pytest
import torch

from ldnn_core.participation import corrected_participation_ratio, participation_ratio
from ldnn_core.randomness import generator

UNITS = 6
RATIOS = [participation_ratio, corrected_participation_ratio]


def draws(*shape, purpose="draws"):
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def orthogonal(inputs):
    """Even inputs and odd inputs that each have the covariance of equal, uncorrelated units."""
    half = torch.linalg.qr(draws(inputs // 2, UNITS + 1, purpose="basis"))[0]
    # Projecting the mean out first makes the columns orthogonal after centring too.
    ones = torch.ones(inputs // 2, 1, dtype=torch.float64)
    half = torch.linalg.qr(torch.cat([ones, half], dim=1))[0][:, 1 : UNITS + 1]
    return half.repeat_interleave(2, dim=0).unsqueeze(0)


@pytest.mark.parametrize("ratio", RATIOS)
def test_one_direction_gives_one(ratio):
    h = draws(1, 50, 1) * torch.arange(1.0, UNITS + 1, dtype=torch.float64) + 3.0
    assert ratio(h).item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
def test_equal_uncorrelated_units_give_their_number(ratio):
    assert ratio(orthogonal(40)).item() == pytest.approx(UNITS, rel=1e-10)


def test_known_variances_give_the_closed_form():
    variances = torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    h = orthogonal(40) * variances.sqrt()
    expected = float(variances.sum() ** 2 / variances.square().sum())
    assert participation_ratio(h).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("ratio", RATIOS)
def test_neither_scale_nor_offset_nor_rotation_matters(ratio):
    h = draws(1, 40, UNITS) * torch.arange(1.0, UNITS + 1, dtype=torch.float64)
    turned = h @ torch.linalg.qr(draws(UNITS, UNITS, purpose="turn"))[0]
    torch.testing.assert_close(ratio(-3 * turned + 5), ratio(h), rtol=1e-9, atol=0)


@pytest.mark.parametrize("ratio", RATIOS)
def test_networks_of_a_batch_are_measured_as_each_alone(ratio):
    h = draws(4, 30, UNITS)
    alone = torch.cat([ratio(h[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(ratio(h), alone, rtol=1e-12, atol=0)


def spread(units):
    """Independent units of different variance."""
    return torch.linspace(0.5, 2.0, units, dtype=torch.float64).square().diag()


def chained(units):
    """Neighbours are correlated with 0.8."""
    places = torch.arange(units, dtype=torch.float64)
    return 0.8 ** (places[:, None] - places).abs()


def few_directions(units):
    """Five directions and a little of all others."""
    basis = torch.linalg.qr(draws(units, units, purpose="directions"))[0][:, :5]
    return basis @ basis.T + 0.01 * torch.eye(units, dtype=torch.float64)


@pytest.mark.parametrize("covariance", [spread, chained, few_directions])
def test_corrected_ratio_is_unbiased_at_half_as_many_inputs_as_units(covariance):
    units, inputs, samples = 40, 20, 3000
    exact = covariance(units)
    truth = float(exact.trace() ** 2 / exact.square().sum())
    h = draws(samples, inputs, units, purpose="few inputs") @ torch.linalg.cholesky(exact).T
    even, odd = h[:, 0::2], h[:, 1::2]
    # Numerator and denominator are unbiased one by one, so their means over samples make the ratio.
    first, second = torch.stack([torch.cov(x.T) for x in even]), torch.stack([torch.cov(x.T) for x in odd])
    traces = first.diagonal(dim1=1, dim2=2).sum(1) * second.diagonal(dim1=1, dim2=2).sum(1)
    product = (first @ second).diagonal(dim1=1, dim2=2).sum(1)
    assert (traces.mean() / product.mean()).item() == pytest.approx(truth, rel=0.02)
    torch.testing.assert_close(corrected_participation_ratio(h), traces / product, rtol=1e-9, atol=0)
    assert corrected_participation_ratio(h).median().item() == pytest.approx(truth, rel=0.1)
    assert participation_ratio(h).mean().item() < 0.9 * truth


def test_plain_ratio_is_far_too_low_where_there_are_few_inputs():
    exact = spread(40)
    truth = float(exact.trace() ** 2 / exact.square().sum())
    h = draws(500, 20, 40, purpose="few inputs") @ exact.sqrt()
    assert participation_ratio(h).mean().item() < 0.6 * truth


def test_a_constant_layer_has_no_ratio():
    assert torch.isnan(participation_ratio(torch.ones(1, 10, 3))).all()


@pytest.mark.parametrize(
    ("ratio", "inputs", "words"),
    [
        (participation_ratio, 1, "a covariance needs at least 2 inputs, but got 1"),
        (corrected_participation_ratio, 3, "two covariances need at least 4 inputs, but got 3"),
    ],
)
def test_too_few_inputs_are_refused(ratio, inputs, words):
    with pytest.raises(ValueError, match=words):
        ratio(torch.zeros(1, inputs, 2))
