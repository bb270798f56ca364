"""The outer loop by gradient with every estimator: what configurations ask for, and inner loops done in pieces."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from ldnn_core.estimators import Es, FirstOrder, Pes, Truncated, Unrolled
from ldnn_core.subnetwork import initial_genomes
from search.config_tables import GradientConfig
from search.gradient import make_estimator, outer_gradient
from search.schema import Status
from search.setting import Setting
from search.trial import run_trial
from tests.small_runs import tiny_run, tiny_trial

DRAWS = {"perturbation": 0.2, "pairs": 3}
FIVE_STEPS = {
    "unrolled": ({}, [5, 5, 5, 5]),
    "truncated": ({"truncation": 2}, [5, 5, 5, 5]),
    "truncated, carried": ({"truncation": 2, "carried": True}, [2, 2, 1, 2]),
    "first_order": ({}, [5, 5, 5, 5]),
    "es": (DRAWS, [35, 35, 35, 35]),
    "pes": (DRAWS | {"truncation": 3}, [21, 14, 21, 14]),
}
"""Estimator → its options, and the inner steps of each of four outer steps when T = 5."""


def searched(name, number=0, **changes):
    options = {"estimator": name.partition(",")[0], "outer_steps": 4, **FIVE_STEPS[name][0]}
    return run_trial(tiny_trial("gradient", number, gradient=options, **changes))


def seen(records):
    """What does not depend on the clock."""
    return [[row.get(key) for key in ("outer_loss", "gradient_norm", "type_distance")] for row in records.steps]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Unrolled()),
        ({"estimator": "truncated", "truncation": 7}, Truncated(7)),
        ({"estimator": "truncated", "carried": True}, Truncated(20, carried=True)),
        ({"estimator": "first_order"}, FirstOrder()),
        ({"estimator": "es"} | DRAWS, Es(0.2, 3)),
        ({"estimator": "pes", "truncation": 7} | DRAWS, Pes(7, 0.2, 3)),
    ],
)
def test_the_estimator_is_the_one_that_the_configuration_names(options, expected):
    assert make_estimator(GradientConfig(**options)) == expected


@pytest.mark.parametrize("name", FIVE_STEPS)
def test_inner_steps_are_those_of_every_network_and_piece(name):
    records = searched(name)
    assert records.status is Status.OK, records.trial["error"]
    totals = [row["inner_steps_total"] for row in records.steps]
    assert [after - before for before, after in pairwise(totals)] == FIVE_STEPS[name][1]


@pytest.mark.parametrize("name", ["truncated, carried", "pes"])
def test_classifiers_are_fresh_when_the_inner_loop_is_over(name, monkeypatch):
    asked, original = [], Setting.classifiers

    def spy(self, problem, outer_step, count, first=0):
        asked.append(outer_step)
        return original(self, problem, outer_step, count, first)

    monkeypatch.setattr(Setting, "classifiers", spy)
    searched(name)
    assert asked == ([0, 3] if name == "truncated, carried" else [0, 2])


def test_pieces_as_long_as_the_inner_loop_search_like_the_estimators_of_whole_loops():
    whole, es = searched("unrolled"), searched("es")
    carried = {"estimator": "truncated", "outer_steps": 4, "truncation": 5, "carried": True}
    assert seen(run_trial(tiny_trial("gradient", gradient=carried))) == seen(whole)
    pes = {"estimator": "pes", "outer_steps": 4, "truncation": 9, **DRAWS}
    assert seen(run_trial(tiny_trial("gradient", gradient=pes))) == seen(es)


@pytest.mark.parametrize("name", ["es", "pes"])
def test_draws_follow_from_the_seed_of_the_trial(name):
    assert seen(searched(name)) == seen(searched(name))
    assert seen(searched(name)) != seen(searched(name, 1))


def test_every_outer_step_draws_other_perturbations(monkeypatch):
    seeds, original = [], Es.estimate

    def spy(self, *arguments, seed, **options):
        seeds.append(seed)
        return original(self, *arguments, seed=seed, **options)

    monkeypatch.setattr(Es, "estimate", spy)
    searched("es")
    searched("es", 1)
    assert len(set(seeds)) == len(seeds) == 8


def test_the_set_follows_after_every_piece():
    records = searched("truncated, carried")
    sizes = [row["step_size"] for row in records.steps[:-1]]
    assert len(sizes) == 4
    assert min(sizes) > 0


@pytest.mark.parametrize("name", ["truncated, carried", "pes"])
def test_every_size_has_an_inner_loop_of_its_own_to_go_on_with(name):
    options = {"estimator": name.partition(",")[0], "outer_steps": 4, **FIVE_STEPS[name][0]}
    setting = Setting.of(tiny_trial("gradient", gradient=options, objective={"widths": [6, 12]}), "cpu")
    genomes = initial_genomes(setting.spec, 5)[0]
    both = outer_gradient(setting, 0, genomes)
    again = outer_gradient(setting, 1, genomes, both.unfinished)
    for width, loop in zip((6, 12), both.unfinished, strict=True):
        alone = Setting.of(tiny_trial("gradient", gradient=options, ldnn={"width": width}), "cpu")
        first = outer_gradient(alone, 0, genomes)
        assert torch.equal(loop.carry.state.parameters, first.unfinished[0].carry.state.parameters)
        part = outer_gradient(alone, 1, genomes, first.unfinished)
        again = replace(again, gradient=again.gradient - part.gradient / 2)
    torch.testing.assert_close(again.gradient[0], torch.zeros_like(genomes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["es", "pes"])
def test_accuracy_can_be_the_objective_of_differences(name):
    records = searched(name, objective={"measure": "val_accuracy"})
    assert records.status is Status.OK, records.trial["error"]
    errors = [160 * row["outer_loss"] for row in records.steps[:-1]]
    assert errors == pytest.approx([round(error) for error in errors], abs=1e-3)  # shares of 160 validation rows
    with pytest.raises(
        ValidationError, match=r"objective\.measure is a loss unless .* gradient\.estimator is es or pes"
    ):
        tiny_run(objective={"measure": "val_accuracy"})


def test_pieces_have_no_usual_activation_to_be_compared_with():
    for options in ({"estimator": "pes"}, {"estimator": "truncated", "carried": True}):
        with pytest.raises(ValidationError, match=r"objective\.relative_to = 'nothing' when outer steps are pieces"):
            tiny_run(gradient=options, objective={"relative_to": "relu"})
        assert tiny_run(gradient=options, objective={"relative_to": "relu"}, method="evolution")


@pytest.mark.parametrize("name", FIVE_STEPS)
def test_divergence_ends_the_trial_whatever_the_estimator(name):
    diverging = {"ldnn": {"base": "relu"}, "inner": {"optimizer": "sgd", "lr": 1e6, "steps": 5}}
    records = searched(name, **diverging)
    assert records.status is Status.DIVERGED
    assert "a smaller inner.lr or gradient.outer_lr may help" in records.trial["error"]
