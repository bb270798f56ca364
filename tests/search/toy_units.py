"""Work for tests of the runner with Ray; workers import it by name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from search.plan import Outcome, Unit
from search.schema import Status


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
