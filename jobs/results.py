"""What a run found, on the terminal: the verdict, the comparison, the recipes; as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Final

from analysis import (
    Passport,
    PassportError,
    Run,
    compare,
    headline_passports,
    load_run,
    objectives_of,
    pareto_table,
    passport_table,
    scale_passport,
    verdict,
)
from analysis.figures.regimes import regimes_and_ensembles_data
from analysis.pareto import pareto_sentence
from analysis.passport_table import passport_summary
from analysis.regime_tables import regime_tables
from analysis.tables import Table, accuracy_tables, advantage_tables, comparison_tables, pareto_tables
from jobs.terminal import AS_IT_IS, console, print_json, print_table
from search.location import Location
from search.storage import storage_at
from search.unjudged import read_unjudged, unjudged_words

CLUSTER_FILES: Final = Path(str(files("jobs"))) / "cluster"
_CLUSTER_FILES: Final = {
    "ray-cluster.yaml": "machines reached by SSH: Ray's cluster launcher, `ray up`",
    "rayjob.yaml": "Kubernetes: a RayJob of KubeRay, `kubectl create -f`",
    "slurm.sh": "Slurm: `sbatch`",
}


def print_verdict(path: Location) -> None:
    """The cross-size tables, and in words what holds where the sets were learned."""
    run = load_run(path)
    found = verdict(run)
    _print_tables(accuracy_tables(found, intervals=False), advantage_tables(found))
    _print_tables(regime_tables(run, arms=("mixed",), intervals=False), pareto_tables(run))
    _print_sentences([*found.headlines, *filter(None, [pareto_sentence(run)])])
    _print_sentences(unjudged_words(read_unjudged(storage_at(run.path))))
    if set(run.trials["method"].dropna()) == {"gradient", "evolution"}:
        _print_sentences(compare(run).sentences)


def verdict_json(path: Location) -> dict[str, Any]:
    """The verdict for programs: sentences, a record per set, size and rival, one per trial with all objectives.

    Where networks were trained under several regimes, or kept as snapshots, also one per arm, size and regime.
    """
    run = load_run(path)
    found = verdict(run)
    pareto = {"objectives": list(objectives_of(run)), "trials": _records(pareto_table(run))}
    return {
        "sentences": list(found.sentences),
        "rows": _records(found.table),
        "pareto": pareto,
        "regimes": _records(regimes_and_ensembles_data(run)),
        "not_judged": read_unjudged(storage_at(run.path)),
    }


def show_comparison(paths: Sequence[Location], *, as_json: bool) -> None:
    """Gradient against evolution over all trials of the given runs."""
    runs: list[Run] = [load_run(path) for path in paths]
    found = compare(*runs)
    if as_json:
        answer = {
            "sentences": list(found.sentences),
            "equal_budget": _records(found.equal_budget),
            "final_sets": _records(found.final_sets),
        }
        print_json(answer)
        return
    _print_tables(comparison_tables(found))
    _print_sentences(found.sentences)


def show_passports(
    path: Location, trial_id: str | None, *, lr_protocol: str | None, regime: str | None, as_json: bool
) -> None:
    """Scale passports as tables and sentences, and as files in the report folder of the run.

    Args:
        path: the run.
        trial_id: the trial whose set it is about; the best set of each method if not given.
        lr_protocol: as in `analysis.scale_passport`.
        regime: as in `analysis.scale_passport`.
        as_json: answer with one object instead.

    Raises:
        PassportError: there is nothing to make a passport of.
    """
    from analysis.report import save_passport

    run = load_run(path)
    passports, words = _passports(run, trial_id, lr_protocol, regime)
    if not passports:
        raise PassportError(" ".join(words))
    saved = [[str(place) for place in save_passport(run, passport)] for passport in passports]
    if as_json:
        records = [_passport_record(one, places) for one, places in zip(passports, saved, strict=True)]
        print_json({"passports": records, "left_out": words})
        return
    for passport, places in zip(passports, saved, strict=True):
        _print_tables([passport_table(passport)])
        _print_sentences([*passport.sentences, *passport_summary(passport)])
        console().print(*places, sep="\n", **AS_IT_IS)
    _print_sentences(words)


def _passports(
    run: Run, trial_id: str | None, lr_protocol: str | None, regime: str | None
) -> tuple[list[Passport], list[str]]:
    if trial_id is None:
        return headline_passports(run, lr_protocol=lr_protocol, regime=regime)
    return [scale_passport(run.evaluations, trial_id=trial_id, lr_protocol=lr_protocol, regime=regime)], []


def _passport_record(passport: Passport, places: list[str]) -> dict[str, Any]:
    return {
        "trial_id": passport.trial_id,
        "label": passport.label,
        "words": passport.words,
        "sentences": [*passport.sentences, *passport_summary(passport)],
        "grid": _records(passport.grid),
        "summary": _records(passport.summary),
        "controls": [asdict(control) for control in passport.controls],
        "files": places,
    }


def show_recipes(*, as_json: bool) -> None:
    """Name and purpose of every recipe."""
    from jobs.running import RECIPES
    from search.recipes import list_recipes

    found = list_recipes(RECIPES)
    if as_json:
        print_json([{"name": name, "description": text} for name, text in found])
        return
    print_table(("recipe", "what it is for"), found, whole=("recipe",))


def show_cluster_files(*, as_json: bool) -> None:
    """Where the files for clusters are, and what each is for; every one begins with its instructions."""
    found = [(str(CLUSTER_FILES / name), text) for name, text in _CLUSTER_FILES.items()]
    if as_json:
        print_json([{"path": path, "description": text} for path, text in found])
        return
    for path, text in found:
        console().print(f"{path}\n  {text}", **AS_IT_IS)


def _print_tables(*several: Iterable[Table]) -> None:
    for table in chain(*several):
        right = [column.head for column in table.columns if column.numeric]
        print_table([column.head for column in table.columns], table.rows, title=table.caption, right=right)


def _print_sentences(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console().print(f"• {sentence}", markup=False)


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows as JSON has them: missing values are null."""
    records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return records
