"""Kill -9 of a driver with two workers of Ray, at random moments, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from subprocess import Popen

import pytest

from tests.faults.harness import LONG_RUN, Damage, chance_of_this_run, damage, done, still_there, tell
from tests.jobs.calls import ldnn, start
from tests.small_runs import new_run

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

KILLS_OF_A_RUN = 5


def wait_for_a_moment(process: Popen[str], run: Path, chance: Random) -> str:
    """Somewhere while the driver starts, or a moment after some units more have ended."""
    if chance.random() < 0.2:
        pause = chance.uniform(0.2, 8)
        time.sleep(pause)
        return f"{pause:.2f} s after the start"
    wanted, pause = len(done(run)) + chance.randrange(4), chance.uniform(0, 0.4)
    end = time.monotonic() + 120
    while len(done(run)) < wanted and process.poll() is None:
        assert time.monotonic() < end, "no unit has ended in two minutes"
        time.sleep(0.005)
    time.sleep(pause)
    return f"{pause:.2f} s after {wanted} units"


@pytest.mark.usefixtures("no_report", "short")
@pytest.mark.parametrize("number", range(4))
def test_a_run_whose_driver_is_killed_five_times_ends_as_one_that_never_was(
    whole: Path, tmp_path: Path, record_property: Callable[[str, object], None], number: int
) -> None:
    chance, seed = chance_of_this_run()
    told = [f"{seed}, run {number}"]
    kills, harm = 0, Damage()
    while kills < KILLS_OF_A_RUN:
        # Should a run end before its turn to be killed has come, another one goes on.
        (tmp_path / f"{kills}").mkdir()
        run, seen = new_run(tmp_path / f"{kills}", **LONG_RUN).path, {}
        while kills < KILLS_OF_A_RUN:
            process = start("resume", run, "--workers", 2, "--json")
            told.append(wait_for_a_moment(process, run, chance))
            hit = process.poll() is None
            process.kill()
            process.communicate()
            kills += hit
            assert still_there(seen), told
            seen |= done(run)
            if not hit:
                assert process.returncode == 0, told
                break
        answer = ldnn("resume", run, "--json")  # at once, while processes of the last one may still be there
        assert answer.code == 0, (told, answer.err)
        assert still_there(seen), told
        harm += damage(run, whole)
    tell(record_property, kills, harm)
    assert harm == Damage(), told
