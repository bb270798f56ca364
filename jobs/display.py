"""Progress of a run: a live line on a terminal, a quiet line per finished unit elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobs.terminal import AS_IT_IS
from search.launch import Account
from search.plan import Outcome, Plan, Unit, Watch
from search.progress import progress_folder, read_progress
from search.run_folder import RunFolder
from search.schema import Status

_REFRESH_SECONDS = 1.0


class Display:
    """Shows done/total, the best score so far, what runs now, failures and the time that is left.

    Args:
        run: whose progress files say how far running trials are.
        quiet: show nothing at all.
    """

    def __init__(self, run: RunFolder, *, quiet: bool) -> None:
        self._run = run
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._live = self._console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[best]}"),
            TextColumn("{task.fields[running]}"),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._progress.add_task("starting", total=None, left="", best="", running="")
        self._plan: Plan | None = None
        self._best: tuple[float, str] | None = None
        self._failures = 0
        self._running: dict[str, float] = {}
        self._seconds = 0.0
        self._ended_units = 0
        self._stopping = False
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Display:
        self._progress.start()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Show the last state, and leave the terminal to others."""
        self._ended.set()
        self._ticker.join()
        self._refresh()
        self._progress.stop()

    def begin(self, plan: Plan, account: Account) -> Watch:
        """Say what was found, and return what is told about every unit."""
        self._plan = plan
        for warning in account.warnings:
            self._say(f"warning: {warning}")
        for part in account.quarantined:
            self._say(f"moved to quarantine: {part}")
        if account.skipped:
            self._say(f"{account.skipped} of {plan.total} units are done already")
        self._refresh()
        return self._watch

    def say_stopping(self) -> None:
        """Say soon that a request to stop was heard; may be called by a handler of signals, which must not print."""
        self._stopping = True

    def _watch(self, event: str, unit: Unit, outcome: Outcome | None) -> None:
        if outcome is None:
            self._running[unit.key] = time.monotonic()
            return
        seconds = time.monotonic() - self._running.pop(unit.key, time.monotonic())
        kind = unit.payload["kind"]
        self._seconds += seconds
        self._ended_units += 1
        is_problem = outcome.status not in (Status.OK, Status.PRUNED)
        if is_problem:
            self._failures += 1
        elif kind == "trial" and outcome.status is Status.OK and not outcome.paused:
            self._best = max(self._best or (0.0, ""), (outcome.score, unit.key), key=lambda best: best[0])
        done = f"{self._plan.done}/{self._plan.total}" if self._plan else ""
        if not self._live or is_problem:
            word = "paused" if outcome.paused else outcome.status
            self._say(f"[{done}] {unit.key} {word} in {seconds:.0f} s: {outcome.note}")
        self._refresh()

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, **AS_IT_IS)

    def _tick(self) -> None:
        said = False
        while not self._ended.wait(_REFRESH_SECONDS):
            if self._stopping and not said:
                said = True
                self._say("stopping: running units end first; interrupt once more to stop at once")
            self._refresh()

    def _refresh(self) -> None:
        if self._plan is None or not self._live:
            return
        states = read_progress(progress_folder(self._run.path))
        running = []
        for key in sorted(self._running):
            state = states.get(key)
            running.append(f"{key} {100 * state['done'] // max(state['total'], 1)} %" if state else key)
        failures = f", {self._failures} not ok" if self._failures else ""
        self._progress.update(
            self._task,
            description=self._run.info.name,
            total=self._plan.total,
            completed=self._plan.done,
            best=f"best {100 * self._best[0]:.1f} % ({self._best[1]}){failures}" if self._best else failures,
            running=", ".join(running[:4]),
            left=self._time_left(),
        )

    def _time_left(self) -> str:
        """A rough guess: what is left, at the mean duration of what has ended, shared by what runs together."""
        if not self._ended_units or self._plan is None:
            return ""
        left = (self._plan.total - self._plan.done) * self._seconds / self._ended_units / max(len(self._running), 1)
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"
