"""A trial from its configuration to its rows, in this process and without Ray."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldnn_core.estimators import Unrolled
from ldnn_core.subnetwork import initial_genomes
from search import gradient
from search.config import TrialConfig
from search.recorder import recorded_steps
from search.schema import TABLES, Status
from search.setting import Setting
from search.store import Store
from search.trial import run_trial
from tests.small_runs import tiny_trial

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["gradient", "evolution"]
DIVERGING = {"ldnn": {"base": "relu"}, "inner": {"optimizer": "sgd", "lr": 1e6}}


def numbers(records):
    """Everything but times."""
    trial = {key: value for key, value in records.trial.items() if key not in {"started_at", "wall_seconds"}}
    steps = [{key: value for key, value in row.items() if key != "wall_seconds"} for row in records.steps]
    return json.loads(json.dumps([trial, steps, records.activations]))


def publish(records, root):
    """The rows through the checks of the store, and back."""
    store = Store.create(root)
    common = {"run_id": "r", "trial_id": "t", "attempt": 0}
    for table, found in (("trials", [records.trial]), ("steps", records.steps), ("activations", records.activations)):
        if found:
            store.publish(table, "t-a0", [row | common for row in found])
    return {table: store.read(table).to_pylist() for table in ("trials", "steps", "activations")}


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_leaves_rows_that_the_tables_accept(method, tmp_path):
    records = run_trial(tiny_trial(method))
    assert records.status is Status.OK
    tables = publish(records, tmp_path)
    [trial] = tables["trials"]
    assert trial["status"] == "ok"
    assert 0 < trial["score"] < 1
    assert trial["score_sem"] >= 0
    assert trial["error"] is None
    assert (trial["width"], trial["depth"], trial["num_types"], trial["subnet_hidden"]) == (10, 1, 2, [4])
    assert TrialConfig.model_validate(json.loads(trial["config"])) == tiny_trial(method)
    assert all(set(TABLES[name].names) == set(found[0]) for name, found in tables.items())
    assert {row["method"] for name in tables for row in tables[name]} == {method}


def test_a_gradient_trial_counts_its_steps_and_its_inner_steps():
    records = run_trial(tiny_trial("gradient", gradient={"classifiers": 2}))
    assert [row["step"] for row in records.steps] == [0, 1, 2, 3]
    assert [row["inner_steps_total"] for row in records.steps] == [0, 10, 20, 30]
    assert (records.trial["outer_steps"], records.trial["inner_steps_total"]) == (3, 30)
    assert ["val_accuracy" in row for row in records.steps] == [True, False, False, True]
    assert "outer_loss" not in records.steps[-1]
    assert (records.trial["estimator"], records.trial["algorithm"]) == ("unrolled", None)


def test_an_evolution_trial_counts_its_generations_and_its_inner_steps():
    records = run_trial(tiny_trial("evolution", evolution={"classifiers": 2}))
    assert [row["step"] for row in records.steps] == [0, 1, 2]
    assert [row["inner_steps_total"] for row in records.steps] == [40, 80, 120]
    assert (records.trial["outer_steps"], records.trial["inner_steps_total"]) == (3, 120)
    for row in records.steps:
        assert row["population_best"] == row["outer_loss"] <= row["population_mean"]
        assert row["diversity"] > 0
    assert (records.trial["estimator"], records.trial["algorithm"]) == (None, "genetic")


@pytest.mark.parametrize("method", METHODS)
def test_recorded_curves_are_the_functions_of_their_genomes(method):
    records = run_trial(tiny_trial(method))
    x = np.linspace(-10, 10, 100)
    for row in records.activations:
        w1, b1, w2, b2 = np.split(np.array(row["genome"]), [4, 8, 12])
        expected = np.tanh(x) + 0.2 * (np.tanh(np.outer(x, w1) + b1) @ w2 + b2)
        np.testing.assert_allclose(row["curve"], expected, rtol=1e-12, atol=1e-12)
    last = max(row["step"] for row in records.steps)
    assert [(row["step"], row["type_index"], row["final"]) for row in records.activations] == [
        (0, 0, False),
        (0, 1, False),
        (last, 0, True),
        (last, 1, True),
    ]


def test_the_search_lowers_its_own_loss():
    changes = {"ldnn": {"subnet_scale": 1.0}, "inner": {"steps": 20, "lr": 0.03}}
    records = run_trial(
        tiny_trial("gradient", gradient={"outer_steps": 15, "classifiers": 2, "outer_lr": 3.0}, **changes)
    )
    losses = [row["outer_loss"] for row in records.steps[:-1]]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.03


@pytest.mark.parametrize(
    "changes",
    [
        {"ldnn": {"num_types": 1}},
        {"ldnn": {"num_types": 3}},
        {"ldnn": {"depth": 2}},
        {"ldnn": {"base": "relu", "subnet_hidden": [4, 3]}},
        {"inner": {"noise": 0.1}, "gradient": {"classifiers": 2}, "evolution": {"classifiers": 2}},
        {"inner": {"optimizer": "adam", "loss_window": 2}},
        {"gradient": {"estimator": "first_order"}, "evolution": {"algorithm": "sep_cma_es"}},
        {"gradient": {"outer_steps": 1}, "evolution": {"generations": 1}},
        {"search": {"records": 50}},
    ],
    ids=lambda changes: "-".join(f"{key}" for table in changes.values() for key in table),
)
@pytest.mark.parametrize("method", METHODS)
def test_every_option_reaches_the_end(method, changes, tmp_path):
    records = run_trial(tiny_trial(method, **changes))
    assert records.status is Status.OK, records.trial["error"]
    publish(records, tmp_path)
    types = changes.get("ldnn", {}).get("num_types", 2)
    assert sum(row["final"] for row in records.activations) == types
    assert all((row["type_distance"] is None) == (types == 1) for row in records.steps)


def test_noise_changes_the_search():
    quiet, noisy = (run_trial(tiny_trial("gradient", inner={"noise": noise})) for noise in (0.0, 0.5))
    assert quiet.steps[0]["outer_loss"] != noisy.steps[0]["outer_loss"]
    assert quiet.steps[0]["val_accuracy"] == noisy.steps[0]["val_accuracy"]  # probes are trained without


def test_the_same_seed_gives_the_same_numbers_again_and_in_another_process():
    code = """
import json, sys
from tests.small_runs import tiny_trial
from tests.search.test_trial import numbers
from search.trial import run_trial
print(json.dumps([numbers(run_trial(tiny_trial(method, 1))) for method in ("gradient", "evolution")]))
"""
    first = [numbers(run_trial(tiny_trial(method, 1))) for method in METHODS]
    torch.manual_seed(123)
    again = [numbers(run_trial(tiny_trial(method, 1))) for method in METHODS]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert again == first
    assert json.loads(done.stdout) == first


def test_another_number_is_another_search():
    first, second = (run_trial(tiny_trial("gradient", number)) for number in (0, 1))
    assert first.steps[0]["outer_loss"] != second.steps[0]["outer_loss"]


def score(setting: Setting, genomes: torch.Tensor) -> tuple[float, float]:
    return setting.scored(setting.score_accuracies(genomes, setting.config.sizes))


def test_all_trials_of_a_run_are_scored_by_the_same_networks():
    settings = [Setting.of(tiny_trial(method, number), "cpu") for method, number in (("gradient", 0), ("evolution", 3))]
    genomes = initial_genomes(settings[0].spec, 5)[0]
    assert score(settings[0], genomes) == score(settings[1], genomes)
    assert settings[0].probe(genomes) == settings[1].probe(genomes)
    other_run = Setting.of(tiny_trial("gradient", 0, seed=1), "cpu")
    assert score(other_run, genomes) != score(settings[0], genomes)


def test_a_score_is_a_mean_with_its_standard_error():
    setting = Setting.of(tiny_trial("gradient"), "cpu")
    genomes = initial_genomes(setting.spec, 5)[0]
    many = Setting.of(tiny_trial("gradient", search={"score_networks": 2}), "cpu")
    pair = score(many, genomes)
    # Of two numbers the mean and its standard error, half their distance, give both back, and those are
    # shares of 160 validation rows.
    for accuracy in (pair[0] - pair[1], pair[0] + pair[1]):
        assert accuracy * 160 == pytest.approx(round(accuracy * 160), abs=1e-9)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("gradient", r"outer step 0: outer loss (nan|inf), .* a smaller inner.lr or gradient.outer_lr may help"),
        (
            "evolution",
            r"generation 0: all 4 candidates diverged; a smaller inner.lr or evolution.mutation_scale may help",
        ),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged(method, words, tmp_path):
    records = run_trial(tiny_trial(method, **DIVERGING))
    assert records.status is Status.DIVERGED
    [trial] = publish(records, tmp_path)["trials"]
    assert trial["status"] == "diverged"
    assert trial["score"] is None
    assert trial["error_type"] == "Diverged"
    assert re.fullmatch(words, trial["error"])
    assert trial["outer_steps"] == 0
    assert trial["inner_steps_total"] == (5 if method == "gradient" else 20)
    assert records.steps == []


def test_a_trial_that_diverges_late_keeps_what_it_found_before(monkeypatch, tmp_path):
    class NanAtThird(Unrolled):
        calls = 0

        def estimate(self, *arguments, **options):
            type(self).calls += 1
            result = super().estimate(*arguments, **options)
            return dataclasses.replace(result, outer_loss=math.nan) if self.calls == 3 else result

    monkeypatch.setitem(gradient.ESTIMATORS, "unrolled", NanAtThird)
    records = run_trial(tiny_trial("gradient", gradient={"outer_steps": 5}))
    assert records.status is Status.DIVERGED
    assert "outer step 2: outer loss nan" in records.trial["error"]
    tables = publish(records, tmp_path)
    assert [row["step"] for row in tables["steps"]] == [0, 1]
    assert (records.trial["outer_steps"], records.trial["inner_steps_total"]) == (2, 15)
    assert not any(row["final"] for row in tables["activations"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("the bolt is loose"), Status.FAILED),
        (MemoryError("no room"), Status.OOM),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"), Status.OOM),
    ],
    ids=["failed", "memory", "allocator"],
)
def test_an_exception_becomes_a_status_and_words(monkeypatch, error, status, tmp_path):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("search.trial.search_by_gradient", fail)
    records = run_trial(tiny_trial("gradient"))
    assert records.status is status
    [trial] = publish(records, tmp_path)["trials"]
    assert (trial["error_type"], trial["error"]) == (type(error).__name__, str(error))
    assert trial["score"] is None


def test_a_person_can_interrupt_a_trial(monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("search.trial.search_by_gradient", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_trial(tiny_trial("gradient"))


@pytest.mark.parametrize("method", METHODS)
def test_every_step_is_reported(method):
    seen = []
    records = run_trial(tiny_trial(method), lambda done, total, loss: seen.append((done, total, loss)))
    last = records.steps[-1]["step"]
    assert [done for done, _, _ in seen] == [row["step"] for row in records.steps]
    assert {total for _, total, _ in seen} == {last}
    assert seen[0][2] == records.steps[0]["outer_loss"]


def test_probes_do_not_count_as_time_of_the_search(monkeypatch):
    from search import recorder

    clock = [0.0]
    monkeypatch.setattr(recorder.time, "perf_counter", lambda: clock[0])

    def slow_probe(self, genomes):
        clock[0] += 100.0
        return 0.5

    monkeypatch.setattr(Setting, "probe", slow_probe)
    records = run_trial(tiny_trial("gradient", search={"records": 4}))
    assert [row["wall_seconds"] for row in records.steps] == [0.0] * 4


@pytest.mark.parametrize(("last", "records", "expected"), [(10, 3, {0, 5, 10}), (2, 50, {0, 1, 2}), (0, 2, {0})])
def test_recorded_steps_are_spread_evenly_with_both_ends(last, records, expected):
    assert recorded_steps(last, records) == expected
