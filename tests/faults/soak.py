"""A long search of small trials with two workers of Ray, watched from outside: ``python -m tests.faults.soak``.

Says how memory and open files of the driver, and its rate, change from tenth to tenth of the trials, and what is left
behind; draws the memory. Exit code 1 if memory or files grow, something is left, or the rate is not constant.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from search.run_folder import open_run
from tests.faults.harness import started_in, temporary_folder_of_their_own
from tests.jobs.calls import ROOT
from tests.small_runs import new_run

SOAK: Final[dict[str, Any]] = {
    "method": "gradient",
    "ldnn": {"width": 6, "subnet_hidden": [2]},
    "inner": {"steps": 2},
    "gradient": {"outer_steps": 2},
    "search": {"wave": 20, "startup_trials": 10, "probe_networks": 1, "score_networks": 2},
    "evaluation": {"best": 0, "usual": []},
}
"""Laid over `tests.small_runs.TINY`: trials of some hundredths of a second, so that the search is what is watched."""

MOST_GROWTH: Final = 0.10
"""Of memory and rate, from the second tenth of the trials to the last."""


@dataclass(frozen=True)
class Sample:
    """The driver at one moment.

    Attributes:
        seconds: since its start.
        trials: that are on disk.
        megabytes: of memory in use (2^20 bytes, resident).
        files: that it has open.
        work: seconds of processor time that it has used.
    """

    seconds: float
    trials: int
    megabytes: float
    files: int
    work: float


def sample(pid: int, trials: Path, began: float) -> Sample:
    """Look at a process and at the folder of its trials.

    Raises:
        OSError: it has ended.
    """
    root = Path(f"/proc/{pid}")
    resident = next(line for line in (root / "status").read_text().splitlines() if line.startswith("VmRSS"))
    fields = (root / "stat").read_text().rpartition(")")[2].split()
    work = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    files = len(os.listdir(root / "fd"))  # noqa: PTH208 - what matters is their number
    megabytes = int(resident.split()[1]) / 1024
    return Sample(time.monotonic() - began, len(os.listdir(trials)), megabytes, files, work)  # noqa: PTH208


def watched(run: Path) -> tuple[list[Sample], int]:
    """Drive a run in a process of its own; samples of it, and its exit code."""
    began = time.monotonic()
    command = [sys.executable, "-m", "jobs", "resume", str(run), "--workers", "2", "--json"]
    with (run.parent / "driver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        samples = []
        while process.poll() is None:
            with suppress(OSError, StopIteration, IndexError):
                samples.append(sample(process.pid, run / "trials", began))
            time.sleep(0.5)
    return samples, process.returncode


def tenths(samples: list[Sample], written: Sequence[float]) -> list[dict[str, float]]:
    """The driver at the end of every tenth of the trials, with the rates within it.

    Args:
        samples: from before the first trial on.
        written: when each trial's row was, seconds, in this order.  By these the rate is taken: samples that come when
            all trials are on disk are of the report, which loads what draws its figures.
    """
    searching = [one for one in samples if 0 < one.trials < len(written)]
    rows, before, began = [], searching[0], written[0]
    for tenth in range(1, 11):
        last = len(written) * tenth // 10 - 1
        now = next((one for one in searching if one.trials > last), searching[-1])
        done = max(now.trials - before.trials, 1)
        rows.append(
            {
                "trials": last + 1,
                "megabytes": now.megabytes,
                "files": now.files,
                "trials per second": len(written) / 10 / (written[last] - began),
                "driver's ms per trial": 1000 * (now.work - before.work) / done,
            }
        )
        before, began = now, written[last]
    return rows


def draw(samples: list[Sample], path: Path) -> None:
    """Memory over trials, as a figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [one for one in samples if 0 < one.trials < samples[-1].trials]
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.plot([one.trials for one in shown], [one.megabytes for one in shown], color="#33608c")
    top = 1.1 * max(one.megabytes for one in shown)
    axes.set(xlabel="trials on disk", ylabel="driver's memory (MiB)", ylim=(0, top))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Drive, watch, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--figure", type=Path, help="where to draw the driver's memory")
    given = parser.parse_args()
    with temporary_folder_of_their_own(os.environ.__setitem__) as folder:
        changes = SOAK | {"search": SOAK["search"] | {"trials": given.trials}}
        (folder / "runs").mkdir()
        run = new_run(folder / "runs", **changes).path
        load = os.getloadavg()[0]
        samples, code = watched(run)
        time.sleep(5)
        here = {os.getpid()}
        left = {
            "processes": len(started_in(str(folder)) - here),
            "folders": len([path for path in folder.iterdir() if path.name != "runs"]),
        }
        moments = open_run(run).store.read("trials", columns=["created_at"])["created_at"].to_pylist()
        written = sorted(moment.timestamp() for moment in moments)
        rows = tenths(samples, written)
        log = (run.parent / "driver.log").read_text()[-500:]
    first, last = rows[1], rows[-1]
    grown = {key: last[key] / first[key] - 1 for key in ("megabytes", "files", "trials per second")}
    lines = ["| trials | driver's memory (MiB) | open files | trials per second | driver's ms per trial |"]
    lines.append("|---:|---:|---:|---:|---:|")
    for row in rows:
        memory, files, rate, work = (row[key] for key in list(row)[1:])
        lines.append(f"| {row['trials']:.0f} | {memory:.0f} | {files:.0f} | {rate:.2f} | {work:.0f} |")
    print("\n".join(lines))
    loads = {"load before": load, "load after": os.getloadavg()[0]}
    print(json.dumps({"code": code, "grown": grown, "left": left, **loads}))
    if given.figure:
        draw(samples, given.figure)
    if code:
        print(log, file=sys.stderr)
    kept = max(grown["megabytes"], grown["files"], abs(grown["trials per second"])) <= MOST_GROWTH
    return int(code != 0 or any(left.values()) or not kept)


if __name__ == "__main__":
    sys.exit(main())
