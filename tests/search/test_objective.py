"""Trials that try their sets at several sizes, and learning rates tuned per arm and size."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from ldnn_core.subnetwork import initial_genomes
from search.config import TrialConfig, trial_config
from search.config_errors import ConfigError, checked
from search.evaluate import Request
from search.evolution import evaluate_candidates
from search.found_set import found_set
from search.gradient import outer_gradient
from search.schema import UNIQUE_KEYS, Status
from search.setting import Setting
from search.trial import run_trial
from tests.small_runs import drive_here, new_run, tiny_run, tiny_trial

METHODS = ["gradient", "evolution"]
TWO = {"widths": [6, 12]}


def setting(method="gradient", **objective):
    return Setting.of(tiny_trial(method, objective=objective), "cpu")


def alone(width, method="gradient", **objective):
    return Setting.of(tiny_trial(method, ldnn={"width": width}, objective=objective), "cpu")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("measure", ["train_loss", "val_loss"])
def test_a_trial_over_several_sizes_ends_well_and_says_which(method, measure):
    records = run_trial(tiny_trial(method, objective={"measure": measure, "widths": [6, 12], "depths": [1, 2]}))
    assert records.status is Status.OK
    assert (records.trial["widths"], records.trial["depths"]) == ([6, 12], [1, 2])
    assert (records.trial["width"], records.trial["depth"]) == (None, None)
    networks = 1 if method == "gradient" else 4
    assert records.trial["inner_steps_total"] == 3 * 4 * 5 * networks


def test_the_gradient_over_sizes_is_that_of_the_mean_of_their_losses():
    genomes = initial_genomes(setting().spec, 5)[0]
    both = outer_gradient(setting(**TWO), 0, genomes)
    parts = [outer_gradient(alone(width), 0, genomes) for width in (6, 12)]
    assert both.outer_loss == pytest.approx(sum(part.outer_loss for part in parts) / 2, rel=1e-6)
    torch.testing.assert_close(both.gradient, (parts[0].gradient + parts[1].gradient) / 2, rtol=1e-5, atol=1e-8)


def test_the_gradient_of_the_worst_size_is_that_of_this_size_alone():
    genomes = initial_genomes(setting().spec, 5)[0]
    worst = outer_gradient(setting(over="worst", **TWO), 0, genomes)
    parts = [outer_gradient(alone(width), 0, genomes) for width in (6, 12)]
    expected = max(parts, key=lambda part: part.outer_loss)
    torch.testing.assert_close(worst.gradient, expected.gradient, rtol=1e-6, atol=0)


def test_candidates_are_judged_at_every_size_and_their_losses_combined():
    genomes = initial_genomes(setting().spec, 5, sets=3)
    both = evaluate_candidates(setting("evolution", over="worst", **TWO), 0, genomes)
    parts = [evaluate_candidates(alone(width, "evolution"), 0, genomes) for width in (6, 12)]
    torch.testing.assert_close(both.outer_loss, torch.maximum(parts[0].outer_loss, parts[1].outer_loss))
    assert both.inner_steps == 2 * parts[0].inner_steps


def test_both_methods_mean_the_same_objective():
    objective = {"over": "mean_minus_spread", "relative_to": "sin", "closeness_weight": 0.3, "measure": "val_loss"}
    genomes = initial_genomes(setting().spec, 5)[0]
    by_gradient = outer_gradient(setting(**objective, **TWO), 2, genomes).outer_loss
    config = tiny_trial("evolution", objective=objective | TWO)
    as_gradient = config.model_copy(update={"seed": setting().config.seed})
    by_evolution = evaluate_candidates(Setting.of(as_gradient, "cpu"), 2, genomes.unsqueeze(0)).outer_loss
    assert by_gradient == pytest.approx(float(by_evolution), rel=1e-5)


def test_a_usual_activation_can_be_subtracted():
    genomes = torch.zeros_like(initial_genomes(setting().spec, 0)[0])  # the base function, tanh, itself
    relative = outer_gradient(setting(relative_to="tanh", **TWO), 0, genomes)
    plain = outer_gradient(setting(**TWO), 0, genomes)
    assert relative.outer_loss == pytest.approx(0.0, abs=1e-5)
    torch.testing.assert_close(relative.gradient, plain.gradient, rtol=1e-6, atol=0)
    assert relative.inner_steps == 2 * plain.inner_steps


def test_accuracy_can_be_the_objective_of_evolution_alone():
    config = tiny_run(method="evolution", objective={"measure": "val_accuracy"})
    records = run_trial(trial_config(config, "evolution", 0, {}))
    assert all(0 <= row["outer_loss"] <= 1 for row in records.steps)
    with pytest.raises(ConfigError, match=r"objective\.measure is a loss unless method = 'evolution'"):
        checked(type(config), json.loads(config.model_dump_json()) | {"method": "both"}, "here")


def test_width_cannot_be_sampled_and_named_by_the_objective():
    data = json.loads(tiny_run(objective=TWO).model_dump_json())
    data["search"]["space"]["width"] = {"low": 5, "high": 9}
    with pytest.raises(ConfigError, match="width is not sampled when the objective names widths"):
        checked(type(tiny_run()), data, "here")


def test_stored_trials_of_before_have_the_default_objective():
    stored = json.loads(tiny_trial("gradient").model_dump_json())
    del stored["objective"]
    assert TrialConfig.model_validate(stored).sizes == ((10, 1),)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    run = new_run(
        tmp_path_factory.mktemp("tuned"),
        method="gradient",
        objective=TWO,
        search={"trials": 1},
        evaluation={
            "widths": [6, 20], "seeds": 3, "lr_protocol": "per_arm_size", "lrs": [1e-4, 0.02, 10.0], "tuning_seeds": 4,
            "epochs": 3, "controls": ["mixed-normalized"],
        },
    )  # fmt: skip
    drive_here(run)
    return run


def test_a_tuned_rate_is_the_best_of_its_arm_and_size_by_validation_rows(tuned):
    frame = pd.read_parquet(tuned.path / "evaluations")
    tuning, judged = frame[frame["split"] == "val"], frame[frame["split"] == "test"]
    means = tuning.groupby(["arm", "width", "lr"])["accuracy"].mean()
    assert len(means) == 6 * 2 * 3
    for (arm, width), rates in judged.groupby(["arm", "width"])["lr"]:
        assert set(rates) == {means[arm, width].idxmax()}
        assert len(rates) == 3
    assert set(judged["lr"]) == {0.02}  # no other rate can win: one is too small to learn with, one diverges
    assert set(frame["lr_protocol"]) == {"per_arm_size"}


def test_networks_that_tune_are_other_networks_than_those_that_are_judged(tuned):
    frame = pd.read_parquet(tuned.path / "evaluations").query("lr == 0.02 and arm == 'relu' and width == 6")
    assert frame["weight_norm"].is_unique


def test_the_learned_size_of_a_row_is_the_nearest_of_several(tuned):
    frame = pd.read_parquet(tuned.path / "evaluations").query("arm == 'mixed'")
    assert set(frame[["width", "learned_width"]].itertuples(index=False, name=None)) == {(6, 6), (20, 12)}


def test_asking_for_more_seeds_tunes_to_the_same_rates_and_repeats_no_row(tuned):
    before = pd.read_parquet(tuned.path / "evaluations")
    request = Request(("gradient-0000",), (6,), (1,), 5)
    drive_here(tuned, search=False, request=request)
    after = pd.read_parquet(tuned.path / "evaluations")
    assert not after.duplicated([*UNIQUE_KEYS["evaluations"]]).any()
    more = 2 * (4 + 2)  # two more seeds of each arm: mixed, pure-0, pure-1 and the normalised one; relu and sin
    assert len(after) == len(before) + more
    assert set(after.loc[after["split"] == "test", "lr"]) == {0.02}


def test_the_arm_with_gain_and_offset_is_another_function(tuned):
    frame = pd.read_parquet(tuned.path / "evaluations").query("width == 6 and lr == 0.02").set_index(["arm", "seed"])
    assert not np.allclose(frame.loc["mixed", "loss"].iloc[:3], frame.loc["mixed-normalized", "loss"].iloc[:3])


def test_a_normalised_set_is_stored_with_its_gain_and_judged_with_it(tmp_path):
    changes = {"ldnn": {"normalized": True}, "search": {"trials": 1}, "evaluation": {"controls": ["mixed-normalized"]}}
    run = new_run(tmp_path, method="evolution", **changes)
    drive_here(run)
    rows = pd.read_parquet(run.path / "activations").query("final")
    assert rows["normalized"].all()
    assert (rows["gain"] != 1).all()
    x = np.linspace(-10, 10, 100)
    weight = np.exp(-0.5 * x * x)
    for curve in rows["curve"]:
        mean = (curve * weight).sum() / weight.sum()
        assert abs(mean) < 0.02
        assert abs(((curve - mean) ** 2 * weight).sum() / weight.sum() - 1) < 0.02
    found = found_set(run.store, "evolution-0000")
    assert found.spec.normalized
    assert set(pd.read_parquet(run.path / "evaluations")["arm"]) == {"mixed", "pure-0", "pure-1", "relu", "sin"}
