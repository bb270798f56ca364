"""Kill -9 of the process that a trial runs in, at a random moment of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from search.progress import read_progress
from tests.faults.harness import LONG_RUN, Damage, chance_of_this_run, damage, tell
from tests.jobs.calls import start
from tests.small_runs import new_run

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

DEATHS_OF_A_RUN = 5
A_TRIAL = 0.1
"""Seconds that one takes: with longer waits most have ended before they can be killed, and the run before five are."""


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("number", range(2))
def test_trials_whose_process_is_killed_are_tried_again_and_no_other_notices(
    whole: Path, tmp_path: Path, record_property: Callable[[str, object], None], number: int
) -> None:
    chance, seed = chance_of_this_run()
    run = new_run(tmp_path, **LONG_RUN).path
    process = start("resume", run, "--workers", 2, "--json")
    killed: list[str] = []
    end = time.monotonic() + 400
    while len(killed) < DEATHS_OF_A_RUN:
        assert process.poll() is None, (seed, number, killed, process.communicate())
        assert time.monotonic() < end, (seed, number, killed)
        time.sleep(0.01)
        running = {trial: state["pid"] for trial, state in read_progress(run / "logs").items() if trial not in killed}
        if running:
            trial = chance.choice(sorted(running))
            time.sleep(chance.uniform(0, A_TRIAL))
            if read_progress(run / "logs").get(trial, {}).get("pid") == running[trial]:
                os.kill(running[trial], signal.SIGKILL)
                killed.append(trial)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (seed, number, out, err)
    trials = pd.read_parquet(run / "trials")
    again = trials[trials["status"] == "killed"]["trial_id"].tolist()
    # One that was killed after its row was on disk has no further attempt: it is done.
    assert set(again) <= set(killed), seed
    assert len(again) == len(set(again)), seed
    harm = damage(run, whole)
    tell(record_property, len(killed), harm)
    assert harm == Damage(), (seed, number, killed)
