"""One unit of work: when it returns, its rows are on disk, and only once."""

import json
import os

import pandas as pd
import pytest
import torch

from search.config import canonical
from search.plan import PENALTY, Unit
from search.progress import read_progress
from search.provenance import config_hash
from search.schema import Status
from search.store import StoreError
from search.work import do_unit, resolve_device, threads_limited
from tests.small_runs import new_run, tiny_run


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path)


def trial_unit(method="gradient", number=0, attempt=0, **params):
    payload = {"kind": "trial", "method": method, "number": number, "params": params}
    return Unit(f"{method}-{number:04d}", attempt, payload)


def do(run, unit):
    return do_unit(unit, run=str(run.path), device="cpu")


def test_a_trial_is_on_disk_when_its_unit_is_done(run):
    outcome = do(run, trial_unit(inner_lr=0.02))
    [row] = run.store.read("trials").to_pylist()
    assert outcome.status is Status.OK
    assert outcome.score == row["score"]
    assert outcome.note == f"score {100 * row['score']:.1f} %"
    assert (row["trial_id"], row["attempt"], row["run_id"]) == ("gradient-0000", 0, run.info.run_id)
    assert row["inner_lr"] == 0.02
    assert json.loads(row["params"]) == {"inner_lr": 0.02}
    assert row["threads"] == torch.get_num_threads()
    assert row["device"] == "cpu"
    for table in ("trials", "steps", "activations"):
        assert run.store.keys(table) == {"gradient-0000-a0"}


def test_a_diverged_trial_keeps_its_words(tmp_path):
    run = new_run(tmp_path, ldnn={"base": "relu"}, inner={"optimizer": "sgd"})
    outcome = do(run, trial_unit(inner_lr=1e6))
    assert (outcome.status, outcome.score) == (Status.DIVERGED, PENALTY)
    assert "a smaller inner.lr" in outcome.note
    assert run.store.read("trials", columns=["status"])["status"].to_pylist() == ["diverged"]


def test_a_failed_trial_leaves_its_row_and_nothing_else(run, monkeypatch):
    def fail_late(setting, config, recorder, shards):
        from ldnn_core.subnetwork import initial_genomes

        recorder.step(0, initial_genomes(setting.spec, 0)[0], inner_steps_total=0)
        raise RuntimeError("the bolt is loose")

    monkeypatch.setattr("search.trial.search_by_gradient", fail_late)
    outcome = do(run, trial_unit())
    assert (outcome.status, outcome.score, outcome.note) == (Status.FAILED, PENALTY, "the bolt is loose")
    assert run.store.keys("trials") == {"gradient-0000-a0"}
    assert run.store.keys("steps") == run.store.keys("activations") == set()


def test_the_row_that_makes_a_trial_done_comes_last(run, monkeypatch):
    from search.store import Store

    order, publish = [], Store.publish
    monkeypatch.setattr(Store, "publish", lambda self, table, *rest: order.append(table) or publish(self, table, *rest))
    do(run, trial_unit())
    assert order == ["steps", "activations", "trials"]


@pytest.mark.parametrize("status", ["ok", "diverged"])
def test_a_retry_of_a_trial_that_is_on_disk_does_nothing_again(run, monkeypatch, status):
    score = 0.25 if status == "ok" else None
    row = {"trial_id": "gradient-0000", "attempt": 0, "status": status, "score": score, "error": None}
    run.store.publish("trials", "gradient-0000-a0", [row])
    monkeypatch.setattr("search.work.run_trial", lambda *_, **__: pytest.fail("it was run again"))
    outcome = do(run, trial_unit(attempt=1))
    assert (outcome.status, outcome.score) == (status, score or PENALTY)
    assert run.store.keys("trials") == {"gradient-0000-a0"}


def test_a_retry_of_a_trial_that_was_killed_is_run(run):
    row = {"trial_id": "gradient-0000", "attempt": 0, "status": "killed"}
    run.store.publish("trials", "gradient-0000-a0", [row])
    assert do(run, trial_unit(attempt=1)).status is Status.OK
    assert run.store.keys("steps") == {"gradient-0000-a1"}


def test_networks_are_on_disk_when_their_unit_is_done_and_not_twice(run):
    payload = {
        "kind": "evaluation",
        "trial_id": "usual",
        "width": 6,
        "depth": 1,
        "seeds": [0, 1],
        "arms": ["relu", "sin"],
    }
    outcome = do(run, Unit("usual-w6", 0, payload))
    assert (outcome.status, outcome.note) == (Status.OK, "4 networks")
    again = do(run, Unit("usual-w6-again", 0, payload))
    assert (again.status, again.note) == (Status.OK, "0 networks")
    frame = pd.read_parquet(run.path / "evaluations")
    assert len(frame) == 4
    # Where the work is done changes no number, and so not the hash.
    elsewhere = tiny_run(resources={"workers": 7, "threads": 3})
    assert set(frame["config_hash"]) == {config_hash(canonical(elsewhere))}
    assert (run.path / "evaluations" / "part-usual-w6.parquet").is_file()


def test_progress_is_there_while_a_trial_runs_and_gone_after(run, monkeypatch):
    from search import work

    seen, run_trial = [], work.run_trial

    def watched(config, report, **options):
        def report_and_look(done, total, loss):
            report(done, total, loss)
            seen.append(read_progress(run.path / "logs"))

        return run_trial(config, report_and_look, **options)

    monkeypatch.setattr(work, "run_trial", watched)
    do(run, trial_unit())
    assert seen[0]["gradient-0000"]["total"] == 3
    assert list((run.path / "logs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_told(run):
    (run.path / "steps").chmod(0o500)
    with pytest.raises(StoreError, match="make the run folder readable and writable"):
        do(run, trial_unit())


def test_a_folder_that_is_gone_is_told(run):
    run.path.joinpath("steps").rmdir()
    with pytest.raises(StoreError, match="A folder of the run is missing"):
        do(run, trial_unit())


def test_devices_are_resolved(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match="must be cpu or auto on a machine without a CUDA device, but got 'cuda'"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"


def test_threads_are_limited_for_a_while():
    before = torch.get_num_threads()
    with threads_limited(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
