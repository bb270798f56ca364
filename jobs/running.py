"""Starting, resuming and extending runs from the terminal: progress while they run, the verdict at their end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jobs.descent import as_it_may_go_on, extended, made, made_as_fork
from jobs.display import Display
from jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from jobs.results import print_verdict, verdict_json
from jobs.terminal import AS_IT_IS, console, print_json
from search.booking import Booking
from search.conditions import Wanted, conditions
from search.config import RunConfig, methods, stored_config
from search.config_errors import ConfigError, Problem, checked
from search.config_tables import ResourcesConfig
from search.launch import Account, drive
from search.limits import briefly
from search.location import Location
from search.plan import Plan, Watch
from search.ray_setup import check_resources, cluster_nodes
from search.recipes import load_recipe, overridden
from search.run_folder import RunFolder, is_run, open_run
from search.schema import Status
from search.task_data import with_data
from search.warm_start import gather

RECIPES = Path(str(files("jobs"))) / "recipes"


@dataclass(frozen=True)
class How:
    """How a run is driven, as the command line says it.

    Attributes:
        address: of a Ray cluster; None for one that is started.
        workers: units at the same time; None for what the run's resources say.
        as_json: answer with one JSON object.
        other_code: go on although the code is not that which made the run.
    """

    address: str | None = None
    workers: int | None = None
    as_json: bool = False
    other_code: bool = False

    def of(self, resources: ResourcesConfig) -> ResourcesConfig:
        """The same resources, with another number of workers if one is asked for."""
        if self.workers is None:
            return resources
        return checked(ResourcesConfig, resources.model_dump() | {"workers": self.workers})


def start(
    recipe: str,
    overrides: Sequence[str],
    out: Location,
    how: How,
    *,
    resume: bool,
    dry: bool,
    fork_of: Location | None = None,
) -> None:
    """Load a recipe, make its run folder and drive it; leaves the process with its exit code."""
    config = load_recipe(recipe, overrides, folder=RECIPES)
    config = config.model_copy(update={"resources": how.of(config.resources)})
    config = with_data(config, f"recipe {recipe}")
    if dry:
        _show_plan(config, out, as_json=how.as_json)
        return
    _require_machines(config.resources, how)
    if fork_of is not None:
        run = made_as_fork(open_run(fork_of), config, out, quiet=how.as_json)
    elif resume and is_run(out / config.name):
        run = as_it_may_go_on(open_run(out / config.name), config, quiet=how.as_json)
    else:
        run = made(config, out, quiet=how.as_json)
    _drive(run, config.resources, how)


def go_on(path: Location, how: How) -> None:
    """Drive an existing run to its end; leaves the process with its exit code."""
    run = open_run(path)
    config = with_data(stored_config(run.info.config, run.path), str(path))
    resources = how.of(config.resources)
    _require_machines(resources, how)
    _drive(run, resources, how)


def extend(path: Location, overrides: Sequence[str], how: How, *, trials: int) -> None:
    """Give a run more trials, perhaps from a wider space, and drive it; leaves the process with its exit code."""
    run = open_run(path)
    before = stored_config(run.info.config, run.path)
    source = f"the extension of {run.path}"
    config = overridden(before.model_dump(mode="json"), [*overrides, f"search.trials={trials}"], source)
    config = with_data(config, source)
    resources = how.of(before.resources)
    _require_machines(resources, how)
    _drive(extended(run, config, quiet=how.as_json), resources, how)


def fork(path: Location, overrides: Sequence[str], out: Location | None, how: How) -> None:
    """Make a run of another's configuration with changes, and drive it; leaves the process with its exit code."""
    origin = open_run(path)
    stored = stored_config(origin.info.config, origin.path).model_dump(mode="json")
    source = f"the fork of {origin.path}"
    config = with_data(overridden(stored, overrides, source), source)
    resources = how.of(config.resources)
    _require_machines(resources, how)
    _drive(made_as_fork(origin, config, out or origin.path.parent, quiet=how.as_json), resources, how)


def judge_more(
    path: Location,
    changes: Mapping[str, Any],
    how: How,
    *,
    best: int | None,
    trials: Sequence[str],
    tasks: tuple[str, ...] | None,
    curvature: str | None,
) -> None:
    """Evaluate sets of a run at further sizes or with more networks; leaves the process with its exit code.

    Args:
        path: the run.
        changes: other values of keys of ``[evaluation]``.
        how: it is driven.
        best: how many of the best trials of each method are judged.
        trials: ids of others that are.
        tasks: titles of those that they are judged on, instead of the run's.
        curvature: ``curvature.method``, instead of the run's.
    """
    from search.evaluate import Request
    from search.found_set import best_trials, found_set, unique

    run = open_run(path)
    config = stored_config(run.info.config, run.path)
    wanted = config.evaluation
    # The same limits as in a recipe, and the same words when they are not kept.
    asked = config.model_dump()
    asked["evaluation"] |= changes
    if curvature is not None:
        asked["curvature"]["method"] = curvature
    if tasks is not None:
        if not tasks:
            raise ConfigError([Problem("--task", "''", "must name a task")], "ldnn evaluate")
        known = {one.title: one.model_dump() for one in wanted.tasks}
        others = [name for name in tasks if name != config.task.title]
        asked["evaluation"]["tasks"] = [known.get(name, {"name": name}) for name in others]
    config = with_data(checked(RunConfig, asked, "ldnn evaluate"), "ldnn evaluate")
    evaluation = config.evaluation
    own = () if tasks is not None and config.task.title not in tasks else (config.task,)
    try:
        for trial in trials:
            found_set(run.store, trial)
    except ValueError as error:
        raise ConfigError([Problem("--trial", "", str(error))], "ldnn evaluate") from None
    ids = unique([*trials, *best_trials(run.store, best or (0 if trials else max(wanted.best, 1)))])
    if not ids:
        raise ConfigError([Problem("", "", "no trial has ended well yet, so there is no set to judge")], str(path))
    request = Request(
        ids,
        evaluation.widths,
        evaluation.depths,
        evaluation.seeds,
        usual=evaluation.usual,
        controls=evaluation.controls,
        curvature=config.curvature,
        spectral_bias=evaluation.spectral_bias,
        initial_variance=evaluation.initial_variance,
        wanted=Wanted((*own, *evaluation.tasks), evaluation.architectures, evaluation.mixings),
    )
    resources = how.of(config.resources)
    _require_machines(resources, how)
    _drive(run, resources, how, search=False, request=request)


def _drive(run: RunFolder, resources: ResourcesConfig, how: How, **options: Any) -> None:
    display = Display(run, quiet=how.as_json)
    begin: Callable[[Plan, Account], Watch] = display.begin

    def say(account: Account) -> None:
        display.stop()
        _end(run, account, as_json=how.as_json)
        sys.stdout.flush()

    def leave(account: Account) -> NoReturn:
        briefly(say, account)
        # Not sys.exit: the thread that hangs is the main one, and would have to do the rest.
        os._exit(EXIT_FAILED)

    with _asked_to_stop(display.say_stopping) as stop, display:
        options |= {"other_code": how.other_code}
        account = drive(run, resources, begin, address=how.address, stop=stop, leave=leave, **options)
    sys.exit(_end(run, account, as_json=how.as_json))


def _end(run: RunFolder, account: Account, *, as_json: bool) -> int:
    """Say how it ended, on the terminal or as JSON, and return the exit code."""
    failed = [one for one in account.problems if one[1].status is not Status.DIVERGED]
    if account.gave_up or account.hung:
        code = EXIT_FAILED
    else:
        code = EXIT_INTERRUPTED if account.interrupted else EXIT_FAILED if failed or not _any_ok(run) else EXIT_DONE
    report = None if account.interrupted else _write_report(run)
    if as_json:
        print_json(_summary(run, account, code, report))
    else:
        _say_end(run, account, code, report)
    return code


def _write_report(run: RunFolder) -> Location:
    from analysis import write_report

    return write_report(run.path)


def _any_ok(run: RunFolder) -> bool:
    return Status.OK in run.store.read("trials", columns=["status"])["status"].to_pylist()


def _say_end(run: RunFolder, account: Account, code: int, report: Location | None) -> None:
    out = console()
    if code == EXIT_INTERRUPTED:
        out.print(f"Interrupted. What is finished is on disk; go on with `ldnn resume {run.path}`", **AS_IT_IS)
        return
    if account.gave_up:
        limit = stored_config(run.info.config, run.path).search.max_failures
        out.print(
            f"Stopped: {limit} trials have failed (search.max_failures). See `ldnn status {run.path}` for the reasons; "
            f"`ldnn resume {run.path}` goes on",
            **AS_IT_IS,
        )
    if account.hung:
        out.print(
            "Stopped: a unit in this process did not end in time, and only the process can be ended. What is finished "
            f"is on disk; `ldnn resume {run.path}` goes on, with `--workers 1` also past units that hang",
            **AS_IT_IS,
        )
    for unit, outcome in account.problems:
        out.print(f"{unit.key} {outcome.status}: {outcome.note}", **AS_IT_IS)
    if report is None:
        return
    print_verdict(run.path)
    out.print(f"\nRun:    {run.path}\nReport: {report}", **AS_IT_IS)


def _summary(run: RunFolder, account: Account, code: int, report: Location | None) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "exit_code": code,
        "finished": account.finished,
        "skipped": account.skipped,
        "quarantined": [str(part) for part in account.quarantined],
        "gave_up": account.gave_up,
        "hung": account.hung,
        "warnings": account.warnings,
        "problems": [{"unit": u.key, "status": o.status, "note": o.note} for u, o in account.problems],
        "report": None if report is None else str(report),
        "verdict": None if report is None else verdict_json(run.path),
    }


def _require_machines(resources: ResourcesConfig, how: How) -> None:
    """Refuse what the machines cannot do, before anything is made or started."""
    address, workers, spread = how.address, resources.workers, resources.workers_per_trial
    booking = Booking(resources.threads, resources.gpus_per_trial, spread, resources.gpus_per_worker)
    if address is not None and workers == 0:
        problem = Problem("--workers", "0", "a cluster (--address) is used by workers: at least 1")
        raise ConfigError([problem], "the command line")
    if address is None:
        import torch

        if resources.device == "cuda" and not torch.cuda.is_available():
            problem = Problem("resources.device", '"cuda"', "this machine has no CUDA device; allowed here: cpu, auto")
            raise ConfigError([problem], "the configuration")
        cores = workers * len(booking.bundles) * resources.threads  # Ray is told so of this machine
        nodes = [{"CPU": float(cores), "GPU": float(torch.cuda.device_count())}]
    else:
        nodes = cluster_nodes(address)
    if workers:
        check_resources(nodes, booking, workers=workers)


def _show_plan(config: RunConfig, out: Location, *, as_json: bool) -> None:
    warm = gather(config)
    if as_json:
        print_json(config.model_dump(mode="json"))
        return
    evaluation, names = config.evaluation, methods(config)
    arms = config.ldnn.num_types + 1 + len(evaluation.controls)
    networks = (arms * len(names) * evaluation.best + len(evaluation.usual)) * evaluation.seeds
    networks *= len(evaluation.widths) * len(evaluation.depths) * len(conditions(config, Wanted()))
    spread = config.resources.workers_per_trial
    lines = [
        f"run       {out / config.name}",
        f"search    {config.search.trials} trials of each of {', '.join(names)} on {config.task.title}, "
        f"K = {config.ldnn.num_types} from {config.ldnn.base}, width {config.ldnn.width}",
        f"sampled   {', '.join(config.search.space) or 'nothing'}, by {config.search.sampler}"
        f"{'' if len(config.search.objectives) == 1 else ' for ' + ', '.join(config.search.objectives)}",
        *([] if warm is None else [f"warmed    {warm}"]),
        f"evaluate  about {networks} networks, widths {', '.join(map(str, evaluation.widths))}"
        f"{''.join(f', also on {task.title}' for task in evaluation.tasks)}",
        *([f"scheduler {_scheduler_words(config)}"] if config.search.scheduler != "none" else []),
        f"workers   {config.resources.workers}" + (f", each trial with {spread} more for its shards" if spread else ""),
    ]
    console().print("\n".join(lines), **AS_IT_IS)


def _scheduler_words(config: RunConfig) -> str:
    search = config.search
    shares = ", ".join(f"1/{search.reduction**left}" for left in range(search.rungs, 0, -1))
    return f"{search.scheduler}, one of {search.reduction} goes on after {shares} of the inner steps"


@contextmanager
def _asked_to_stop(say: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """INT, TERM and HUP ask once to stop, after which running units end; the second one ends everything at once."""
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say()

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
