"""Runs with Ray: the same numbers with any number of workers, and after kill -9 of the driver at a random moment."""

import os
import random
import re
import signal
import time

import pandas as pd
import pytest

from search.progress import read_progress
from tests.jobs.calls import ldnn, start
from tests.processes import AGENTS, alive, family, name_of
from tests.small_runs import assert_same_rows

pytestmark = [pytest.mark.ray, pytest.mark.slow]

UNITS = 13
"""Of the recipe smoke: four trials, and three sets of arms at three widths."""


def finished(process):
    """Wait for a run to end well."""
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, (out, err)
    return out, err


def published(run):
    return [*run.glob("trials/*.parquet"), *run.glob("evaluations/*.parquet")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of the recipe smoke with two workers."""
    out = tmp_path_factory.mktemp("undisturbed")
    answer = ldnn("search", "smoke", "--out", out, "--workers", 2, "--json")
    assert (answer.code, answer.json["finished"]) == (0, UNITS), answer
    return out / "smoke"


@pytest.fixture
def _no_figures(monkeypatch):
    """The report, which takes seconds, is written by the undisturbed run alone."""
    monkeypatch.setattr("jobs.running._write_report", lambda run: run.path)


def test_an_undisturbed_run_holds_every_row_of_the_recipe(undisturbed):
    tables = {name: pd.read_parquet(undisturbed / name) for name in ("trials", "steps", "activations", "evaluations")}
    for table in tables.values():
        assert {"gradient", "evolution"} <= set(table["method"])
    cells = tables["evaluations"].groupby(["trial_id", "arm", "width"])["seed"].agg(sorted).apply(tuple)
    assert set(tables["evaluations"]["arm"]) == {"mixed", "pure-0", "pure-1", "relu", "silu", "tanh", "sin"}
    assert len(cells) == (2 * 3 + 4) * 3
    assert (cells == (0, 1, 2, 3)).all()
    assert (undisturbed / "report" / "index.html").is_file()


@pytest.mark.usefixtures("_no_figures")
def test_a_run_without_ray_gives_the_same_numbers(undisturbed, tmp_path):
    assert ldnn("search", "smoke", "--out", tmp_path, "--workers", 0, "--json").code == 0
    assert_same_rows(tmp_path / "smoke", undisturbed)


@pytest.mark.usefixtures("_no_figures")
def test_a_run_whose_driver_is_killed_resumes_to_the_same_rows(undisturbed, tmp_path):
    chance = random.Random()  # every time another moment
    units, pause = chance.randrange(1, 10), chance.uniform(0.0, 0.5)
    said = f"killed {pause:.2f} s after {units} units"
    run = tmp_path / "smoke"
    process = start("search", "smoke", "--out", tmp_path, "--workers", 2, start_new_session=True)
    end = time.monotonic() + 100
    while len(published(run)) < units:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(pause)
    descended = family(process.pid) - {process.pid}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in published(run)}
    try:
        # At once, while Ray's processes may still be there: nobody waits after a crash.
        answer = ldnn("resume", run, "--json")
        assert answer.code == 0, (said, answer)
        assert {path: path.read_bytes() for path in before} == before, said
        assert_same_rows(run, undisturbed)
        end = time.monotonic() + 30
        while (left := {name_of(pid) for pid in alive(descended)} - AGENTS) and time.monotonic() < end:
            time.sleep(0.1)
        assert left == set(), said
    finally:
        for pid in alive(descended):
            os.kill(pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            pipe.close()


def test_one_worker_gives_the_same_numbers_as_two_although_it_is_killed_once(undisturbed, tmp_path):
    run = tmp_path / "smoke"
    process = start("search", "smoke", "--out", tmp_path, "--workers", 1, "--set", "resources.checkpoint_seconds=0.01")
    end = time.monotonic() + 100
    while not (running := read_progress(run / "logs")) or not list(run.glob(f"checkpoints/{next(iter(running))}-*-s*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)
    [(trial, state)] = running.items()
    assert state["pid"] in family(process.pid) - {process.pid}
    os.kill(state["pid"], signal.SIGKILL)
    _, err = finished(process)
    # Another process has gone on in the middle of the trial, and the numbers are those of a trial run at once.
    assert re.search(rf"{trial} ok in .*; went on after step \d+", err)
    attempts = pd.read_parquet(run / "trials").sort_values("attempt")
    assert attempts.query(f"trial_id == '{trial}'")["status"].tolist() == ["killed", "ok"]
    (run / "trials" / f"part-{trial}-a0.parquet").unlink()
    assert_same_rows(run, undisturbed)
