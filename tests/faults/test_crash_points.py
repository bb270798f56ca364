"""The driver ends, as under SIGKILL, exactly at each named step of publishing, for parts of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.durable import CRASH_EXIT, CRASH_POINTS
from search.run_folder import RunFolder
from tests.faults.harness import Damage, damage, done, still_there, tell
from tests.jobs.calls import ROOT, ldnn
from tests.small_runs import new_run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

PARTS = ("trials/part-gradient-0001", "evaluations/part-")
"""The part that makes a trial done, in the middle of a run, and the first of the judgements."""


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("part", PARTS, ids=["trials", "evaluations"])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_driver_that_ends_at_a_step_of_publishing_loses_and_repeats_nothing(
    undisturbed: RunFolder, tmp_path: Path, record_property: Callable[[str, object], None], point: str, part: str
) -> None:
    run = new_run(tmp_path).path
    died = subprocess.run(
        [sys.executable, "-m", "jobs", "resume", str(run), "--workers", "0", "--json"],
        cwd=ROOT,
        env={**os.environ, "LDNN_CRASH_POINT": f"{point}@{part}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert died.returncode == CRASH_EXIT, died.stderr
    seen = done(run)
    there = any(f"{path.parent.name}/{path.name}".startswith(part) for path in seen)
    assert there == (point in ("linked", "unlinked", "published"))
    answer = ldnn("resume", run, "--workers", 0, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["skipped"] == len(seen)
    assert still_there(seen)
    harm = damage(run, undisturbed.path)
    tell(record_property, 1, harm)
    assert harm == Damage()
