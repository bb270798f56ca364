"""How far a running trial is, as people are told."""

import json
import os
import subprocess
import sys

import pytest

from search import progress
from search.progress import ProgressFile, clear_progress, read_progress, silent


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_progress_is_readable_while_a_trial_runs_and_gone_after_it(tmp_path, clock):
    report = ProgressFile(tmp_path, "gradient-0003")
    assert read_progress(tmp_path) == {}
    clock[0] += 2.5
    report(4, 10, 1.25)
    state = read_progress(tmp_path)["gradient-0003"]
    assert (state["done"], state["total"], state["loss"], state["seconds"]) == (4, 10, 1.25, 2.5)
    assert state["pid"] == os.getpid()
    report.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_at_most_once_a_second(tmp_path, clock):
    report = ProgressFile(tmp_path, "a")
    seen = []
    for step in range(12):
        report(step, 12, 0.0)
        seen.append(read_progress(tmp_path)["a"]["done"])
        clock[0] += 0.25
    assert seen == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]


def test_a_folder_that_is_gone_stops_nothing(tmp_path):
    report = ProgressFile(tmp_path / "gone", "a")
    report(1, 2, 0.0)
    report.close()
    assert read_progress(tmp_path / "gone") == {}


def test_a_file_that_cannot_be_removed_stops_nothing(tmp_path):
    (tmp_path / "a.progress.json").mkdir()
    ProgressFile(tmp_path, "a").close()


def write(folder, key, **changes):
    state = {"done": 1, "total": 2, "loss": 0.0, "seconds": 3.0, "host": progress.hostname(), "pid": os.getpid()}
    (folder / f"{key}.progress.json").write_text(json.dumps(state | changes))


def test_what_a_killed_process_left_does_not_count_as_running(tmp_path):
    write(tmp_path, "alive")
    write(tmp_path, "dead", pid=dead_pid())
    write(tmp_path, "elsewhere", pid=dead_pid(), host="another-machine")
    assert set(read_progress(tmp_path)) == {"alive", "elsewhere"}


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"done": 1}', "\x00"])
def test_files_that_say_nothing_are_passed_over(tmp_path, content):
    (tmp_path / "odd.progress.json").write_text(content)
    (tmp_path / "bytes.progress.json").write_bytes(b"\xff\xfe")
    write(tmp_path, "alive")
    assert set(read_progress(tmp_path)) == {"alive"}


def test_leftovers_are_cleared_and_nothing_else(tmp_path):
    write(tmp_path, "left")
    (tmp_path / "left.progress.123").write_text("{")
    (tmp_path / "driver.log").write_text("kept")
    clear_progress(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["driver.log"]
    clear_progress(tmp_path / "gone")


def test_a_report_to_nobody_does_nothing():
    assert silent(1, 2, 3.0) is None
