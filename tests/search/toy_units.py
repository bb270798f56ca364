"""Work for tests of the runner with Ray; workers import it by name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from search.plan import Outcome, Unit
from search.schema import USUAL_TRIAL, Status


def work(unit: Unit, folder: str) -> Outcome:
    """Do what the unit's payload says, and publish one file, whose name may not be there already."""
    time.sleep(unit.payload.get("nap", 0.0))
    if unit.attempt < unit.payload.get("deaths", 0):
        if unit.payload.get("segfault"):
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # not Ray's own, which writes many lines first
            os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(3)
    if unit.payload.get("raises"):
        raise ValueError("this unit raises")
    about = {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "torch": "torch" in sys.modules}
    with (Path(folder) / f"{unit.key}-{unit.attempt}.json").open("x") as file:
        json.dump(about, file)
    return Outcome(Status.OK, unit.payload["number"] / 10, values={"flatness": 3.0 * unit.payload["number"]})


def hangs(unit: Unit, **arguments: Any) -> Outcome:
    """A run's own work, but for a batch of a found set, which hangs once, and one of usual activations, always."""
    from search.work import do_unit

    if unit.payload["kind"] == "evaluation" and unit.payload["width"] == 6:
        usual = unit.payload["trial_id"] == USUAL_TRIAL
        if usual or (unit.attempt == 0 and unit.payload["trial_id"].startswith("gradient")):
            # It does not even hear that it is to end.
            os.kill(os.getpid(), signal.SIGSTOP)
    return do_unit(unit, **arguments)
