"""Starting, resuming and extending runs from the terminal: progress while they run, the verdict at their end."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any, Final

from jobs.display import Display
from jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from jobs.results import console, print_verdict, verdict_json
from search.config import ResourcesConfig, RunConfig, methods, stored_config
from search.config_errors import ConfigError, Problem, checked
from search.launch import Account, drive
from search.plan import Plan, Watch
from search.recipes import load_recipe
from search.run_folder import RunFolder, create, open_run
from search.schema import Status

RECIPES = Path(str(files("jobs"))) / "recipes"

_AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "soft_wrap": True}
"""For lines with paths, which are there to be copied: no line breaks of ours."""


def start(
    recipe: str,
    overrides: Sequence[str],
    out: Path,
    *,
    resume: bool,
    address: str | None,
    workers: int | None,
    dry: bool,
    as_json: bool,
) -> None:
    """Load a recipe, make its run folder and drive it; leaves the process with its exit code."""
    config = load_recipe(recipe, overrides, folder=RECIPES)
    if workers is not None:
        resources = config.resources.model_dump() | {"workers": workers}
        config = config.model_copy(update={"resources": checked(ResourcesConfig, resources, "--workers")})
    _require_device(config.resources)
    if dry:
        _show_plan(config, out, as_json=as_json)
        return
    described = config.model_dump(mode="json")
    if resume and (out / config.name / "run.json").exists():
        run = open_run(out / config.name)
        as_it_was = replace(run.info, config=stored_config(run.info.config, run.path).model_dump(mode="json"))
        replace(run, info=as_it_was).require_same_config(described, may_change=("resources", "description"))
    else:
        run = create(out, config.name, described, seed=config.seed)
    _drive(run, config.resources, address=address, as_json=as_json)


def go_on(path: Path, *, address: str | None, workers: int | None, as_json: bool) -> None:
    """Drive an existing run to its end; leaves the process with its exit code."""
    run = open_run(path)
    _drive(run, _resources(run, workers), address=address, as_json=as_json)


def judge_more(
    path: Path,
    *,
    best: int | None,
    trials: Sequence[str],
    widths: tuple[int, ...] | None,
    depths: tuple[int, ...] | None,
    seeds: int | None,
    address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Evaluate sets of a run at further sizes or with more networks; leaves the process with its exit code."""
    from search.evaluate import Request, best_trials, found_set, unique

    run = open_run(path)
    config = stored_config(run.info.config, run.path)
    wanted = config.evaluation
    # The same limits as in a recipe, and the same words when they are not kept.
    changed = {"widths": widths, "depths": depths, "seeds": seeds}
    asked = wanted.model_dump() | {key: value for key, value in changed.items() if value is not None}
    evaluation = checked(RunConfig, {**run.info.config, "evaluation": asked}, "ldnn evaluate").evaluation
    try:
        for trial in trials:
            found_set(run.store, trial)
    except ValueError as error:
        raise ConfigError([Problem("--trial", "", str(error))], "ldnn evaluate") from None
    ids = unique([*trials, *best_trials(run.store, best or (0 if trials else max(wanted.best, 1)))])
    if not ids:
        raise ConfigError([Problem("", "", "no trial has ended well yet, so there is no set to judge")], str(path))
    request = Request(ids, evaluation.widths, evaluation.depths, evaluation.seeds)
    _drive(run, _resources(run, workers), address=address, as_json=as_json, search=False, request=request)


def _drive(run: RunFolder, resources: ResourcesConfig, *, address: str | None, as_json: bool, **options: Any) -> None:
    _require_device(resources)
    display = Display(run, quiet=as_json)
    begin: Callable[[Plan, Account], Watch] = display.begin
    with _asked_to_stop(display.say_stopping) as stop, display:
        account = drive(run, resources, begin, address=address, stop=stop, **options)
    failed = [one for one in account.problems if one[1].status is not Status.DIVERGED]
    code = EXIT_INTERRUPTED if account.interrupted else EXIT_FAILED if failed or not _any_ok(run) else EXIT_DONE
    report = None if account.interrupted else _write_report(run)
    if as_json:
        print(json.dumps(_summary(run, account, code, report)))  # noqa: T201
    else:
        _say_end(run, account, code, report)
    sys.exit(code)


def _write_report(run: RunFolder) -> Path:
    from analysis import write_report

    return write_report(run.path)


def _any_ok(run: RunFolder) -> bool:
    return Status.OK in run.store.read("trials", columns=["status"])["status"].to_pylist()


def _say_end(run: RunFolder, account: Account, code: int, report: Path | None) -> None:
    out = console()
    if code == EXIT_INTERRUPTED:
        out.print(f"Interrupted. What is finished is on disk; go on with `ldnn resume {run.path}`", **_AS_IT_IS)
        return
    for unit, outcome in account.problems:
        out.print(f"{unit.key} {outcome.status}: {outcome.note}", **_AS_IT_IS)
    print_verdict(run.path)
    out.print(f"\nRun:    {run.path}\nReport: {report}", **_AS_IT_IS)


def _summary(run: RunFolder, account: Account, code: int, report: Path | None) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "exit_code": code,
        "finished": account.finished,
        "skipped": account.skipped,
        "quarantined": [str(part) for part in account.quarantined],
        "problems": [{"unit": u.key, "status": o.status, "note": o.note} for u, o in account.problems],
        "report": None if report is None else str(report),
        "verdict": None if report is None else verdict_json(run.path),
    }


def _resources(run: RunFolder, workers: int | None) -> ResourcesConfig:
    resources = stored_config(run.info.config, run.path).resources
    if workers is None:
        return resources
    return checked(ResourcesConfig, resources.model_dump() | {"workers": workers}, "--workers")


def _require_device(resources: ResourcesConfig) -> None:
    if resources.device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        problem = Problem("resources.device", '"cuda"', "this machine has no CUDA device; allowed here: cpu, auto")
        raise ConfigError([problem], "the configuration")


def _show_plan(config: RunConfig, out: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(config.model_dump(mode="json")))  # noqa: T201
        return
    evaluation, names = config.evaluation, methods(config)
    networks = (3 * len(names) * evaluation.best + len(evaluation.usual)) * evaluation.seeds
    networks *= len(evaluation.widths) * len(evaluation.depths)
    spread = config.resources.workers_per_trial
    lines = [
        f"run       {out / config.name}",
        f"search    {config.search.trials} trials of each of {', '.join(names)} on {config.task.name}, "
        f"K = {config.ldnn.num_types} from {config.ldnn.base}, width {config.ldnn.width}",
        f"sampled   {', '.join(config.search.space) or 'nothing'}",
        f"evaluate  about {networks} networks, widths {', '.join(map(str, evaluation.widths))}",
        f"workers   {config.resources.workers}" + (f", each trial with {spread} more for its shards" if spread else ""),
    ]
    console().print("\n".join(lines), **_AS_IT_IS)


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
