"""What runs were told to do: in what their settings differ, and in which unit their outer loss is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from analysis.load import Run
from analysis.merit import LOSS, metric_of
from analysis.words import NOTHING, count

_ABOUT_NO_RESULT: Final = ("name", "description", "seed", "method", "resources", "search.trials", "search.max_retries")
"""Settings that say what a run is called, how much of it there is, and where it runs."""

_SECTIONS: Final = {"gradient": ("gradient", "both"), "evolution": ("evolution", "both")}
"""Sections that matter only to runs of some methods."""

_MOST: Final = 8

_SQUARED_ERROR_TASKS: Final = frozenset({"van_der_pol"})


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys with their values."""
    for key, value in settings.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from flat_settings(value, name)
        else:
            yield name, value


def differing_settings(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """Settings that have different values in some of the runs: dotted key → name of the run → value as text.

    What says nothing about results (name, seed, number of trials, resources) is passed over, and so are the settings of
    a method in runs that do not use it, and runs that do not say what they were told.
    """
    told = {_name(run, runs): _that_matter(run) for run in runs if run.config}
    keys = sorted({key for settings in told.values() for key in settings})
    found = {}
    for key in keys:
        values = {name: settings[key] for name, settings in told.items() if key in settings}
        # A run of an earlier version may lack a setting; a run without the method lacks its section.
        if len(set(values.values())) > 1:
            found[key] = values
    return found


def pooling_sentence(runs: Sequence[Run]) -> str | None:
    """A sentence that names the settings in which pooled runs differ, or None if there are none."""
    found = differing_settings(runs)
    if not found:
        return None
    parts = [
        f"{key} ({'; '.join(f'{value} in {name}' for name, value in values.items())})"
        for key, values in list(found.items())[:_MOST]
    ]
    rest = f", and {count(len(found) - _MOST, 'more setting')}" if len(found) > _MOST else ""
    return f"These runs are pooled though their settings differ: {', '.join(parts)}{rest}."


def outer_loss_unit(runs: Sequence[Run]) -> str:
    """The unit of the column ``outer_loss``, which follows from what the objective measures."""
    units = {_unit(run) for run in runs}
    return units.pop() if len(units) == 1 else "of different units"


def regressions(runs: Sequence[Run]) -> set[str]:
    """What tables call the tasks whose networks are judged by loss, as far as their names or evaluations tell it."""
    named = {title for run in runs for title, name in run.tasks.items() if name in _SQUARED_ERROR_TASKS}
    return named.union(*(run.evaluations.loc[metric_of(run.evaluations) == LOSS, "task"] for run in runs))


def _unit(run: Run) -> str:
    objective = run.config.get("objective")
    by_loss = next(iter(run.tasks), "") in regressions([run])
    if isinstance(objective, Mapping) and objective.get("measure") == "val_accuracy":
        return "1 - skill" if by_loss else "share of wrong answers"
    return "squared error" if by_loss else "nat"


def _that_matter(run: Run) -> dict[str, str]:
    method = str(run.config.get("method", "both"))
    idle = tuple(section for section, methods in _SECTIONS.items() if method not in methods)
    passed_over = (*_ABOUT_NO_RESULT, *idle)
    return {
        key: NOTHING if value is None or value == {} else str(value)
        for key, value in flat_settings(run.config)
        if not any(key == name or key.startswith(f"{name}.") for name in passed_over)
    }


def _name(run: Run, runs: Sequence[Run]) -> str:
    alike = [other for other in runs if other.name == run.name]
    return run.name if len(alike) == 1 else str(run.info.get("run_id", run.path))
