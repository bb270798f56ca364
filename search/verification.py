"""Looking a run over from end to end: every byte, every key, and where every row says it comes from.

Nothing is changed; `ldnn resume` is what moves damaged parts away and does their work again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from search.config import essential
from search.provenance import config_hash
from search.run_folder import RunFolder
from search.schema import FINISHED, TABLES, UNIQUE_KEYS, USUAL_TRIAL, Status
from search.storage import STAGING
from search.store import QUARANTINE, REPLACED, TRIAL_TABLES, trial_key

_PROVENANCE: Final = ("config_hash", "code_version", "versions", "hostname", "device", "threads")
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or that a person may want to know.

    Attributes:
        is_fault: whether rows are damaged, lost, doubled or of unknown origin; other findings only inform.
        table: name of the table; empty for the run as a whole.
        what: in words.
    """

    is_fault: bool
    table: str
    what: str


@dataclass(frozen=True)
class Verified:
    """What was looked at and what was found.

    Attributes:
        parts: table → keys of its parts, those in a compacted file included.
        rows: table → rows that readers get.
        findings: in the order of the tables.
    """

    parts: dict[str, int]
    rows: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there is no fault."""
        return not any(finding.is_fault for finding in self.findings)


def verify_run(run: RunFolder) -> Verified:
    """Look a run over, which may be running meanwhile.

    Raises:
        StoreError: the folder cannot be read at all.
    """
    findings: list[Finding] = []
    parts: dict[str, int] = {}
    rows: dict[str, int] = {}
    for table in TABLES:
        keys = run.store.keys(table)
        parts[table] = len(keys)
        findings += [
            Finding(True, table, f"{bad.path.name}: {bad.reason}") for bad in run.store.check(table, deep=True)
        ]
        found, _ = run.store.read_checked(table, columns=_columns(table))
        rows[table] = found.num_rows
        findings += [Finding(True, table, what) for what in _faults(run, table, found, keys)]
    findings += _across(run)
    findings += _left_behind(run)
    return Verified(parts, rows, tuple(findings))


def _columns(table: str) -> list[str]:
    wanted = [*UNIQUE_KEYS[table], "run_id", "attempt", "status", "config", "split", *_PROVENANCE]
    return [name for name in dict.fromkeys(wanted) if name in TABLES[table].names]


def _faults(run: RunFolder, table: str, rows: pa.Table, keys: set[str]) -> Iterator[str]:
    """What is wrong with the rows of one table, each by itself and among each other."""
    unique = list(UNIQUE_KEYS[table])
    groups = rows.group_by(unique).aggregate([([], "count_all")])
    again = groups.filter(pc.greater(groups["count_all"], 1))
    if again.num_rows:
        several = again.select(unique).slice(0, _EXAMPLES).to_pylist()
        yield f"{again.num_rows} keys have several rows, which must be unique: {'; '.join(map(_words, several))}"
    foreign = rows.filter(pc.not_equal(pc.fill_null(rows["run_id"], ""), run.info.run_id))
    if foreign.num_rows:
        others = sorted({str(one) for one in foreign["run_id"].to_pylist()})
        yield f"{foreign.num_rows} rows are of another run than {run.info.run_id}: {_some(others)}"
    if table in ("trials", *TRIAL_TABLES):
        said = {trial_key(*one) for one in _pairs(rows, "trial_id", "attempt")}
        if strange := sorted(said ^ keys):
            yield f"{len(strange)} parts have other rows than their names say: {_some(strange)}"
    if table == "trials":
        yield from _wrong_configurations(rows)
        rows = rows.filter(pc.is_in(rows["status"], value_set=pa.array(sorted(map(str, FINISHED)))))
    if table in ("trials", "evaluations"):
        for name in _PROVENANCE:
            if missing := rows[name].null_count:
                yield f"{missing} rows do not say their {name}"
    if table == "evaluations":
        yield from _other_configuration(run, rows)


def _wrong_configurations(trials: pa.Table) -> Iterator[str]:
    """Trials whose configuration does not have the hash that stands beside it."""
    wrong = []
    for row in trials.select(["trial_id", "attempt", "config", "config_hash"]).to_pylist():
        if row["config"] is None:
            continue
        try:
            is_right = config_hash(json.loads(row["config"])) == row["config_hash"]
        except (ValueError, RecursionError):
            is_right = False
        if not is_right:
            wrong.append(trial_key(row["trial_id"], row["attempt"]))
    if wrong:
        yield f"{len(wrong)} rows have another configuration than their config_hash says: {_some(sorted(wrong))}"


def _other_configuration(run: RunFolder, evaluations: pa.Table) -> Iterator[str]:
    """Evaluations by the code that made the run under another configuration than the run's."""
    # Later code may know further fields, so that the same configuration has another hash there.
    own = evaluations.filter(pc.equal(evaluations["code_version"], run.info.code_version))
    # A run that was extended has had several configurations, and its rows are each of its time.
    expected = {config_hash(essential(config)) for config in run.configs}
    if found := sorted({str(one) for one in own["config_hash"].to_pylist()} - expected):
        had = ", ".join(sorted(expected))
        yield f"rows were made under another configuration than any that the run has had ({had}): {_some(found)}"


def _across(run: RunFolder) -> Iterator[Finding]:
    """What the tables say about each other."""
    columns = ["trial_id", "attempt", "status", "copied_from"]
    trials = run.store.read_checked("trials", columns=columns)[0].to_pylist()
    finished = {trial_key(one["trial_id"], one["attempt"]) for one in trials if one["status"] in FINISHED}
    complete = {
        trial_key(one["trial_id"], one["attempt"])
        for one in trials
        if one["status"] in (Status.OK, Status.PRUNED) and one["copied_from"] is None
    }
    for table in TRIAL_TABLES:
        keys = run.store.keys(table)
        if lost := sorted(complete - keys):
            yield Finding(True, table, f"{len(lost)} trials that ended well have no part: {_some(lost)}")
        if orphans := sorted(keys - finished):
            yield Finding(
                False, table, f"{len(orphans)} parts are of attempts that have not finished: {_some(orphans)}"
            )
    known = {one["trial_id"] for one in trials} | {USUAL_TRIAL}
    for table in ("evaluations", "spectra", "spectral_bias", "initial_variance"):
        judged = set(
            run.store.read_checked(table, columns=["trial_id"], dictionaries=True)[0]["trial_id"].unique().to_pylist()
        )
        if unknown := sorted(map(str, judged - known)):
            yield Finding(True, table, f"rows are of trials that there are no rows of: {_some(unknown)}")


def _left_behind(run: RunFolder) -> Iterator[Finding]:
    storage = run.store.storage
    for table in TABLES:
        moved = [name for name in storage.names(f"{QUARANTINE}/{table}") if not name.endswith(".json")]
        if moved:
            yield Finding(False, table, f"{len(moved)} parts lie in {QUARANTINE}/: {_some(moved)}")
    for folder, why in ((STAGING, "that publishing left behind"), (REPLACED, "of parts that were compacted")):
        if names := [name for name in storage.names(folder) if not name.startswith(".")]:
            yield Finding(False, "", f"{folder}/ has {len(names)} files or folders {why}: {_some(names)}")


def _pairs(rows: pa.Table, *names: str) -> set[tuple[Any, ...]]:
    distinct = rows.select(list(names)).group_by(list(names)).aggregate([])
    return {tuple(row[name] for name in names) for row in distinct.to_pylist()}


def _words(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more
