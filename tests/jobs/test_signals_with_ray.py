"""Signals to a driver whose workers are Ray's: what is finished is on disk, the rest is resumable, nothing is left."""

import signal
import time
from pathlib import Path

import pytest

from search.progress import read_progress
from tests.jobs.calls import ldnn, start
from tests.processes import AGENTS, alive, family, name_of

pytestmark = [pytest.mark.ray, pytest.mark.faults]

LONG = ["gradient.outer_steps=100000", "method=gradient", "search.wave=2", "resources.checkpoint_seconds=1"]


def running(run, process):
    """Wait until a trial runs; all processes that the driver has started by then."""
    end = time.monotonic() + 200
    while not read_progress(run / "logs"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return family(process.pid) - {process.pid}


def nothing_left(pids):
    end = time.monotonic() + 60
    while (left := {name_of(pid) for pid in alive(pids)}) and time.monotonic() < end:
        time.sleep(0.1)
    return left <= AGENTS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_the_first_signal_lets_running_trials_end_and_publish(tmp_path, monkeypatch, number):
    monkeypatch.setattr("jobs.running._write_report", lambda run: run.path)
    run = tmp_path / "smoke"
    process = start("search", "smoke", "--out", tmp_path, "--workers", 2, start_new_session=True)
    descended = running(run, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "go on with `ldnn resume" in out
    done = len(list(run.glob("trials/*.parquet")))
    assert 1 <= done <= 3  # those that were running, and perhaps one that had just ended
    assert {trial["state"] for trial in ldnn("status", run, "--json").json["trials"]} == {"ok", "waiting"}
    assert nothing_left(descended)
    answer = ldnn("resume", run, "--workers", 0, "--json")
    assert (answer.code, answer.json["skipped"]) == (0, done)


def test_the_second_one_stops_at_once_and_leaves_neither_processes_nor_folders(tmp_path):
    run, settings = tmp_path / "smoke", [part for one in LONG for part in ("--set", one)]
    process = start("search", "smoke", "--out", tmp_path, "--workers", 2, *settings, start_new_session=True)
    descended = running(run, process)
    [scratch] = {
        Path(word.removeprefix("--temp-dir=").removeprefix("--temp_dir="))
        for pid in alive(descended)
        for word in name_of(pid).split("\0")
        if word.startswith(("--temp-dir=", "--temp_dir="))
    }
    assert scratch.exists()
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert nothing_left(descended)
    assert not scratch.exists()
    assert not (run / ".driver.json").exists()
    assert {trial["state"] for trial in ldnn("status", run, "--json").json["trials"]} == {"waiting"}
