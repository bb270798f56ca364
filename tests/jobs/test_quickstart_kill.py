"""Runs with Ray: the same numbers with any number of workers, and after kill -9 of the driver at a random moment."""

import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.jobs.calls import ldnn, start
from tests.small_runs import assert_same_rows

pytestmark = [pytest.mark.ray, pytest.mark.slow]

UNITS = 13
"""Of the recipe smoke: four trials, and three sets of arms at three widths."""


def family(of):
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {of}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pids):
    living = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            living.add(pid)
    return living


def finished(process):
    """Wait for a run; all its processes end with it."""
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, (out, err)
    return out, err


def published(run):
    return [*run.glob("trials/*.parquet"), *run.glob("evaluations/*.parquet")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of the recipe smoke with two workers."""
    out = tmp_path_factory.mktemp("undisturbed")
    _, err = finished(start("search", "smoke", "--out", out, "--workers", 2))
    assert f"[{UNITS}/{UNITS}]" in err
    return out / "smoke"


def test_an_undisturbed_run_holds_every_row_of_the_recipe(undisturbed):
    tables = {name: pd.read_parquet(undisturbed / name) for name in ("trials", "steps", "activations", "evaluations")}
    for table in tables.values():
        assert {"gradient", "evolution"} <= set(table["method"])
    cells = tables["evaluations"].groupby(["trial_id", "arm", "width"])["seed"].agg(sorted).apply(tuple)
    assert set(tables["evaluations"]["arm"]) == {"mixed", "pure-0", "pure-1", "relu", "silu", "tanh", "sin"}
    assert len(cells) == (2 * 3 + 4) * 3
    assert (cells == (0, 1, 2, 3)).all()
    assert (undisturbed / "report" / "index.html").is_file()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_number_of_workers_changes_no_number(undisturbed, tmp_path, workers):
    if workers == 0:
        assert ldnn("search", "smoke", "--out", tmp_path, "--workers", 0, "--json").code == 0
    else:
        finished(start("search", "smoke", "--out", tmp_path, "--workers", workers))
    assert_same_rows(tmp_path / "smoke", undisturbed)


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
        resumed = start("resume", run)
        _, err = finished(resumed)
        assert f"{len(before)} of" in err or len(before) < units, (said, err)
        assert {path: path.read_bytes() for path in before} == before, said
        assert_same_rows(run, undisturbed)
        answer = ldnn("resume", run, "--json")
        assert (answer.code, answer.json["finished"], answer.json["skipped"]) == (0, 0, UNITS), said
        assert not alive(descended), said
    finally:
        for pid in alive(descended):
            os.kill(pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            pipe.close()


def test_a_worker_that_is_killed_is_replaced_and_the_run_goes_on(undisturbed, tmp_path):
    run = tmp_path / "smoke"
    process = start("search", "smoke", "--out", tmp_path, "--workers", 1)
    end = time.monotonic() + 100
    victim = None
    while victim is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
        answer = ldnn("status", run, "--json") if (run / "run.json").exists() else None
        if answer and answer.code == 0:
            victim = next((trial["pid"] for trial in answer.json["trials"] if trial["state"] == "running"), None)
    assert victim in family(process.pid)
    os.kill(victim, signal.SIGKILL)
    finished(process)
    attempts = pd.read_parquet(run / "trials").sort_values(["trial_id", "attempt"])
    [retried] = attempts.query("status == 'killed'")["trial_id"]
    assert attempts.query(f"trial_id == '{retried}'")["status"].tolist() == ["killed", "ok"]
    for part in (run / "trials").glob(f"part-{retried}-a0.parquet"):
        part.unlink()
    assert_same_rows(run, undisturbed)
