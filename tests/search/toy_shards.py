"""Bodies for tests of whoever does shards; workers import them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from search.setting import Setting
from search.shards import Arrays


def where(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """What was asked, and by which process it was done."""
    time.sleep(float(shard.get("nap", np.array(0.0))))
    asked = [setting.config.number, outer_step, int(shard["number"])]
    return {"asked": np.array(asked), "pid": np.array(os.getpid())}


def raises(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """An error of the body's own."""
    raise ArithmeticError(f"shard {int(shard['number'])} of step {outer_step} cannot be done")


def raises_or_naps(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """An error for the shard whose number is 1; the others take their time."""
    return raises(setting, outer_step, shard) if int(shard["number"]) == 1 else where(setting, outer_step, shard)


def dies(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """The end of the process, for the shard whose number is 1."""
    if int(shard["number"]) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return where(setting, outer_step, shard)


def stops(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """No end, for the shard whose number is 1 and while the file is not there: the process stops and hears nothing."""
    mark = Path(str(shard["mark"]))
    if int(shard["number"]) == 1 and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return where(setting, outer_step, shard)


def takes_much(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """A gigabyte of zeros."""
    return {"zeros": torch.zeros(2**28).numpy()}
