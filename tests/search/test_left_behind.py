"""Processes that a killed driver has left running are ended by the next one, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from search import ray_setup

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system shows no environments")


def started(scratch: Path | str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, ray_setup.SCRATCH_VARIABLE: str(scratch)}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    end = time.monotonic() + 30
    while (
        str(scratch).encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
    ):  # before it is another program
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def test_only_those_of_the_folder_are_ended(tmp_path: Path):
    own, other, longer = started(tmp_path), started(tmp_path / "x"), started(f"{tmp_path}y")
    try:
        assert ray_setup.end_left_behind(tmp_path) == [own.pid]
        assert own.wait(30) == -signal.SIGKILL
        assert (other.poll(), longer.poll()) == (None, None)
    finally:
        for process in (own, other, longer):
            process.kill()
            process.wait()


def test_a_new_driver_ends_what_an_abandoned_folder_names_and_leaves_a_living_drivers(monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as base:
        monkeypatch.setattr(tempfile, "tempdir", base)
        abandoned = Path(base) / "ldnn-ray-abandoned"
        abandoned.mkdir()
        os.utime(abandoned, (0, 0))
        process = started(abandoned)
        try:
            with ray_setup.scratch() as living:
                os.utime(living, (0, 0))
                process.wait(30)
                assert not abandoned.exists()
                at_work = started(living)
                try:
                    with ray_setup.scratch():
                        assert at_work.poll() is None
                finally:
                    at_work.kill()
                    at_work.wait()
        finally:
            process.kill()
            process.wait()
        assert list(Path(base).iterdir()) == []
