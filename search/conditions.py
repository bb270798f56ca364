"""Under which conditions sets are judged, beside size and seed: task, kind of network, mixing, training regime.

A run is judged as if its configuration said so: a condition turns the run's configuration into that under which some
networks are judged, and back into the few words that a unit's payload carries where they differ from the run's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from search.config import RunConfig
from search.config_judging import RegimeConfig
from search.config_tasks import TaskTable, task_table
from search.config_types import ArchitectureName, MixingName
from search.schema import TABLES, USUAL_TRIAL
from search.store import Store


@dataclass(frozen=True)
class Wanted:
    """What is asked for instead of what the run says; None for that.

    Attributes:
        tasks: on which sets are judged.
        architectures: kinds of network.
        mixings: where types are told apart.
    """

    tasks: tuple[TaskTable, ...] | None = None
    architectures: tuple[ArchitectureName, ...] | None = None
    mixings: tuple[MixingName, ...] | None = None


def conditions(run: RunConfig, wanted: Wanted) -> list[RunConfig]:
    """The run's configuration under each condition, every task with every kind of network, mixing and regime.

    Kinds of network for images are left out on tasks without.
    """
    evaluation, ldnn = run.evaluation, run.ldnn
    tasks = (run.task, *evaluation.tasks) if wanted.tasks is None else wanted.tasks
    architectures = wanted.architectures or evaluation.architectures or (ldnn.architecture,)
    mixings = wanted.mixings or evaluation.mixings or (ldnn.mixing,)
    found = [_under(run, *each) for each in product(tasks, architectures, mixings, run.regimes)]
    return [one for one in found if one.ldnn.architecture == "mlp" or one.task.image_size != 0]


def judged_under(
    run: RunConfig, wanted: Wanted, trial_ids: tuple[str, ...]
) -> Iterator[tuple[RunConfig, tuple[str, ...]]]:
    """Each condition with those that are judged under it: the sets of trials, and once also the usual activations.

    A usual activation is the same however types are mixed: it is judged as if they were mixed as in the run.
    """
    with_usual: list[RunConfig] = []
    for condition in conditions(run, wanted):
        unmixed = condition.model_copy(update={"ldnn": condition.ldnn.model_copy(update={"mixing": run.ldnn.mixing})})
        if unmixed in with_usual:
            yield condition, trial_ids
            continue
        with_usual.append(unmixed)
        if condition == unmixed:
            yield condition, (*trial_ids, USUAL_TRIAL)
        else:
            yield condition, trial_ids
            yield unmixed, (USUAL_TRIAL,)


def difference(condition: RunConfig, run: RunConfig) -> dict[str, Any]:
    """What a payload says of a condition: nothing of what is the run's own."""
    own: dict[str, Any] = {}
    if condition.task != run.task:
        own["task"] = condition.task.model_dump(mode="json")
    if condition.regime != run.regime:
        own["regime"] = condition.regime.name
    own |= {
        name: getattr(condition.ldnn, name)
        for name in ("architecture", "mixing")
        if getattr(condition.ldnn, name) != getattr(run.ldnn, name)
    }
    return own


def condition_of(payload: Mapping[str, Any], run: RunConfig) -> RunConfig:
    """The configuration under which a unit's networks are judged."""
    task = task_table(payload["task"]) if "task" in payload else run.task
    regimes = {regime.name: regime for regime in run.regimes}
    regime = regimes[payload.get("regime", run.regime.name)]
    architecture, mixing = (payload.get(name, getattr(run.ldnn, name)) for name in ("architecture", "mixing"))
    return _under(run, task, architecture, mixing, regime)


def title(condition: RunConfig, run: RunConfig) -> str:
    """A condition as part of a key: the task, and what is not the run's own."""
    more = {name: value for name, value in difference(condition, run).items() if name != "task"}
    return "-".join([condition.task.title, *(str(value).replace("_", "-") for value in more.values())])


def condition_columns(condition: RunConfig, table: str) -> dict[str, Any]:
    """What the rows of a table say of a condition."""
    columns = {
        "task": condition.task.title,
        "architecture": condition.ldnn.architecture,
        "mixing": condition.ldnn.mixing,
        "lr_protocol": condition.evaluation.lr_protocol,
        "regime": condition.regime.name,
    }
    return {name: value for name, value in columns.items() if name in TABLES[table].names}


def rows_under(
    condition: RunConfig, store: Store, table: str, columns: Sequence[str], trial_id: str | None = None
) -> list[dict[str, Any]]:
    """The rows of a table that were made under a condition, of all trials or of one, whose parts are known by name.

    Args:
        condition: as a run's configuration.
        store: of the run.
        table: one that has columns of conditions.
        columns: which ones are read beside them.
        trial_id: None for all trials.
    """
    wanted = condition_columns(condition, table)
    keys = None if trial_id is None else [key for key in store.keys(table) if key.startswith(f"{trial_id}-")]
    rows = store.read(table, columns=[*columns, *wanted], keys=keys).to_pylist()
    # Rows of earlier code do not say their regime: they had the plain one.
    return [row for row in rows if all((row[name] or "plain") == value for name, value in wanted.items())]


def _under(
    run: RunConfig, task: TaskTable, architecture: ArchitectureName, mixing: MixingName, regime: RegimeConfig
) -> RunConfig:
    ldnn = run.ldnn.model_copy(update={"architecture": architecture, "mixing": mixing})
    return run.model_copy(update={"task": task, "ldnn": ldnn, "regime": regime})
