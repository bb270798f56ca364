import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import search
from search import driver_lock as module
from search.driver_lock import driver_lock
from search.durable import StoreError
from search.provenance import hostname
from search.run_folder import RunFolder, RunFolderError, create

DRIVER = """
import sys, time; from pathlib import Path
from search.driver_lock import driver_lock; from search.run_folder import open_run
with driver_lock(open_run(Path(sys.argv[1]))):
    print("driving", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create(tmp_path, "x", {}, seed=0)


@pytest.fixture
def other(run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that drives the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(run.path)],
        cwd=Path(search.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "driving\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_driver_is_refused_naming_the_first(run: RunFolder, other: subprocess.Popen[str]) -> None:
    words = rf"x is being driven by process {other.pid} on {hostname()} since \d{{4}}-.*\. Wait for it or end it"
    with pytest.raises(RunFolderError, match=words), driver_lock(run):
        pass
    assert other.poll() is None


def test_a_killed_driver_is_taken_over(run: RunFolder, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    with driver_lock(run) as previous:
        assert previous is not None
        assert (previous.host, previous.pid) == (hostname(), other.pid)
        assert json.loads((run.path / ".driver.json").read_text())["pid"] == os.getpid()
    with driver_lock(run) as previous:
        assert previous is None


def test_a_second_driver_in_the_same_process_is_refused(run: RunFolder) -> None:
    with driver_lock(run):
        with pytest.raises(RunFolderError, match=f"is being driven by process {os.getpid()}"), driver_lock(run):
            pass
        with pytest.raises(RunFolderError, match="is being driven by process"), driver_lock(run):
            pass


@pytest.mark.parametrize("text", ["", "[]", "5", '{"pid": 1}', '{"host": "h", "pi'])
def test_a_torn_holder_file_is_no_obstacle(run: RunFolder, text: str) -> None:
    (run.path / ".driver.json").write_text(text)
    with driver_lock(run) as previous:
        assert previous is None
        (run.path / ".driver.json").write_text(text)
        with pytest.raises(RunFolderError, match="driven by a process starting just now"), driver_lock(run):
            pass


def test_the_lock_is_dropped_when_driving_fails(run: RunFolder) -> None:
    with pytest.raises(KeyError, match="boom"), driver_lock(run):
        raise KeyError("boom")
    with driver_lock(run) as previous:
        assert previous is None


def test_a_run_folder_that_vanishes_while_driven_hides_nothing(run: RunFolder) -> None:
    def drive() -> None:
        with driver_lock(run):
            shutil.rmtree(run.path)
            raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        drive()


def test_a_lock_or_holder_file_that_cannot_be_written_is_said(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / ".driver.json").mkdir()
    with pytest.raises(StoreError, match=r"could not write .*driver.json: Is a directory"), driver_lock(run):
        pass
    (run.path / ".driver.json").rmdir()

    def acquire(_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(module.FileLock, "acquire", acquire)
        with pytest.raises(StoreError, match=r"could not lock .*x: Read-only file system"), driver_lock(run):
            pass
    with driver_lock(run):
        pass
