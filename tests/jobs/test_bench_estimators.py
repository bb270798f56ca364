"""The comparison of estimators measures what it says: bias, variance, whole loops, budgets."""

import pytest
import torch

from jobs.bench import Conditions
from jobs.bench.estimators import error_figures, loop_gradient, whole_loop
from jobs.bench.outer_search import OUTER_RATES, held_out_loss, measure_progress
from jobs.bench.work import EXACT, canonical, contenders
from ldnn_core.estimators import Pes, Truncated


def gradients(repeats, weights, mean=1.0, spread=0.3):
    source = torch.Generator().manual_seed(1)
    return mean + spread * torch.randn(repeats, weights, generator=source, dtype=torch.float64)


def test_an_estimator_that_finds_half_of_the_gradient_has_half_of_it_as_bias():
    exact = gradients(50, 4)
    figures = error_figures(0.5 * exact, exact)
    truth = exact.mean(dim=0).square().sum()
    assert figures["cosine"] == pytest.approx(1)
    assert figures["bias"] == pytest.approx(-0.5)
    assert figures["error_variance"] == pytest.approx(float(0.25 * exact.var(dim=0).sum() / truth))
    assert figures["bias_norm"] ** 2 + figures["bias_noise"] ** 2 == pytest.approx(0.25)
    assert figures["variance"] == pytest.approx(figures["error_variance"])


def test_noise_alone_is_no_bias():
    exact = gradients(400, 30)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    figures = error_figures(exact + 5 * noise, exact)
    assert abs(figures["bias"]) < 4 * figures["bias_sem"]
    assert figures["bias_sem"] == pytest.approx(5 / (30 * 400) ** 0.5, rel=0.15)  # of one component among 30
    assert figures["error_variance"] == pytest.approx(25, rel=0.1)  # 30 · 25, in units of ‖ḡ‖² = 30
    assert figures["bias_noise"] == pytest.approx((25 / 400) ** 0.5, rel=0.1)
    assert figures["bias_norm"] < figures["bias_noise"]
    assert figures["cosine"] < 0.3


def test_a_bias_across_the_gradient_is_seen_in_the_norm_alone():
    exact = torch.zeros(10, 2, dtype=torch.float64)
    exact[:, 0] = 2.0
    across = exact + torch.tensor([0.0, 1.0], dtype=torch.float64)
    figures = error_figures(across, exact)
    assert (figures["bias"], figures["bias_norm"], figures["error_variance"]) == (0.0, 0.5, 0.0)


@pytest.mark.parametrize("name", ["truncated, carried", "pes"])
def test_a_whole_loop_is_all_its_pieces(name):
    work = canonical("cpu", steps=5, width=6)
    results = whole_loop(contenders(2)[name], work)
    assert [len(result.losses) for result in results] == [2, 2, 1]


def test_unequal_pieces_count_by_their_lengths():
    work = canonical("cpu", steps=7, width=6, dtype=torch.float64)
    carried, whole = (loop_gradient(Truncated(3, carried=c), work) for c in (True, False))
    torch.testing.assert_close(carried, whole, rtol=1e-9, atol=1e-15)


def test_pieces_of_one_loop_draw_different_perturbations_and_repeats_too():
    work = canonical("cpu", steps=4, width=6)
    first, second = (result.carry for result in whole_loop(Pes(1, pairs=1), work)[:2])
    assert not torch.equal(second.perturbation, 2 * first.perturbation)
    assert not torch.equal(loop_gradient(Pes(4), work, 0), loop_gradient(Pes(4), work, 1))


def test_a_network_of_the_work_is_the_one_of_its_number():
    third, alone = canonical("cpu", steps=3, width=6, networks=3).only(2), canonical("cpu", steps=3, width=6, first=2)
    assert torch.equal(third.parameters, alone.parameters)
    assert torch.equal(third.batches.rows, alone.batches.rows)
    assert torch.equal(third.outer_step().losses, alone.outer_step().losses)


def test_the_held_out_loss_is_the_outer_loss_of_the_held_out_classifiers():
    judge = canonical("cpu", steps=4, width=6, networks=3)
    assert held_out_loss(judge, judge.genomes) == pytest.approx(judge.outer_step().outer_loss, rel=1e-5)


def test_searches_are_compared_at_the_best_rate_and_at_both_budgets():
    estimators = {"unrolled": EXACT, "slow": EXACT}
    at_steps, at_seconds = measure_progress(Conditions(quick=True), estimators, {"unrolled": 1.0, "slow": 1000.0})
    for size in (*at_steps, *at_seconds):
        assert size["drop"] == max(size[f"drop_at_{rate:g}"] for rate in OUTER_RATES)
    assert at_steps[0]["drop"] == at_steps[1]["drop"] > 0  # the same estimator
    assert at_seconds[0] == at_steps[0]
    assert (at_seconds[1]["inner_steps"], at_seconds[1]["drop"]) == (0, 0)  # nothing can be paid for
