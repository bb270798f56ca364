"""The report: one HTML file that needs no network and no scripts, with figures and a CSV table beside it.

All files of a report are made in a folder of their own and then take the places of earlier ones, the page last.
"""

from __future__ import annotations

import base64
import csv
import io
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.comparison import compare
from analysis.figures import FIGURES, METHODS_COMPARED, QUESTIONS, REGIMES_COMPARED
from analysis.figures.passport import passport_heat_data, scale_passport_figure
from analysis.judgement import verdict
from analysis.load import Run, load_run
from analysis.passport import Passport
from analysis.passport_file import write_passport
from analysis.passport_table import passport_tables
from analysis.regime_tables import regime_tables
from analysis.statistics import MIN_PAIRS
from analysis.style import save_figure
from analysis.tables import (
    accuracy_tables,
    advantage_tables,
    comparison_tables,
    cost_table,
    failures_table,
    pareto_tables,
    settings_rows,
    trials_table,
)
from search.store import Location, read_unjudged, storage_at


@dataclass(frozen=True)
class _Picture:
    """A figure as the page shows it, between two widths in CSS pixels."""

    name: str
    title: str
    caption: str
    limits: str
    source: str
    narrowest: int
    widest: int


@dataclass(frozen=True)
class _Missing:
    """A figure that the run has no data for."""

    title: str
    needs: str
    command: str


@dataclass(frozen=True)
class _Group:
    """The figures that answer one question."""

    anchor: str
    question: str
    pictures: tuple[_Picture, ...]
    compares_methods: bool
    compares_regimes: bool


_FEWEST_PIXELS: Final = 54
"""Per inch of a figure: on a narrower page it is scrolled and no longer shrunk.  Most figures fit on a phone then."""
_MOST_PIXELS: Final = 118
"""Per inch of a figure: on a wider page it is not made larger."""


def write_report(run: Run | str | Location, out: str | Path | None = None) -> Location:
    """Write the report of a run, replacing an earlier one at once.

    Beside the HTML file come ``figures/`` (PNG and SVG) and ``cross_size.csv``, in an object store as objects.

    Args:
        run: the run, or where it lies.
        out: the HTML file; ``report/index.html`` of the run if not given.

    Returns:
        The HTML file.

    Raises:
        RunFolderError: the path is not a run folder, or a table cannot be read.
        OSError: the report cannot be written.
    """
    run = run if isinstance(run, Run) else load_run(run)
    page = run.path / "report" / "index.html" if out is None else Path(out)
    with tempfile.TemporaryDirectory(prefix="ldnn-report-") as folder:
        _write(run, Path(folder) / page.name)
        _publish(Path(folder), page.parent, last=page.name)
    return page


def save_passport(run: Run, passport: Passport) -> list[Location]:
    """Write ``report/passport-<trial>.parquet``, and ``.png`` and ``.svg`` if anything could be compared.

    Returns:
        The files, replaced if they were there.

    Raises:
        OSError: they cannot be written.
    """
    name = f"passport-{passport.trial_id}"
    data = passport_heat_data(passport)
    with tempfile.TemporaryDirectory(prefix="ldnn-passport-") as folder:
        write_passport(passport, Path(folder) / f"{name}.parquet")
        if len(data):
            save_figure(scale_passport_figure(data), folder, name)
        return _publish(Path(folder), run.path / "report")


def _publish(folder: Path, place: Location, *, last: str = "") -> list[Location]:
    """Put the files of a folder in a place, the one of that name last."""
    storage = storage_at(place)
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    for name in sorted(names, key=lambda name: name == last):
        storage.replace(name, (folder / name).read_bytes())
    return [place / name for name in names]


def _write(run: Run, page: Path) -> None:
    judged = verdict(run)
    (page.parent / "cross_size.csv").write_text(csv_text(judged.sizes), encoding="utf-8")
    pictures, missing = _figures(run, page.parent / "figures")
    drawn = {question: [name for name in recipes if name in pictures] for question, recipes in QUESTIONS.items()}
    answered = {question: names for question, names in drawn.items() if names or question == METHODS_COMPARED}
    groups = [
        _Group(
            f"question-{place}",
            question,
            tuple(pictures[name] for name in names),
            question == METHODS_COMPARED,
            question == REGIMES_COMPARED,
        )
        for place, (question, names) in enumerate(answered.items(), start=1)
    ]
    comparison = compare(run)
    text = _template().render(
        run=run,
        facts=_facts(run),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=judged,
        elsewhere=[sentence for sentence in judged.sentences if sentence not in judged.headlines],
        advantages=[*passport_tables(run), *advantage_tables(judged)],
        accuracies=list(accuracy_tables(judged)),
        comparison=comparison,
        comparisons=list(comparison_tables(comparison)),
        groups=groups,
        regimes=list(regime_tables(run)),
        missing=missing,
        pareto=list(pareto_tables(run)),
        trials=trials_table(run),
        failures=failures_table(run),
        costs=cost_table(run),
        settings=list(settings_rows(dict(run.config))),
        provenance=list(_provenance(run)),
        repeat=_repeat(run),
        min_pairs=MIN_PAIRS,
    )
    page.write_text(text, encoding="utf-8")


def csv_text(table: pd.DataFrame) -> str:
    """A frame as CSV in which no text cell can be taken for a formula by a spreadsheet."""
    guarded = table.copy()
    for column in guarded.columns[[pd.api.types.is_string_dtype(kind) for kind in guarded.dtypes]]:
        guarded[column] = [_guarded(cell) for cell in guarded[column]]
    buffer = io.StringIO()
    guarded.to_csv(buffer, index=False, quoting=csv.QUOTE_MINIMAL)
    return buffer.getvalue()


def _guarded(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _figures(run: Run, folder: Path) -> tuple[dict[str, _Picture], list[_Missing]]:
    """All figures that the run has data for, by name, and the others."""
    pictures: dict[str, _Picture] = {}
    missing: list[_Missing] = []
    for name, recipe in FIGURES.items():
        data = recipe.data(run)
        if data.empty:
            missing.append(_Missing(recipe.title, recipe.needs, _command(run, name)))
            continue
        drawn = recipe.draw(data)
        _, svg = save_figure(drawn, folder, name)
        source = "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()
        widths = [round(drawn.get_figwidth() * pixels) for pixels in (_FEWEST_PIXELS, _MOST_PIXELS)]
        pictures[name] = _Picture(name, recipe.title, recipe.caption, recipe.limits, source, *widths)
    return pictures, missing


def _command(run: Run, name: str) -> str:
    """The command that makes a figure's rows, with the run's own place, and its own recipe where it is recorded."""
    command = FIGURES[name].command.replace("RUN", shlex.quote(_place(run)))
    recorded = run.info.get("command")
    if isinstance(recorded, list) and len(recorded) > 2 and recorded[1] == "search":
        new = shlex.quote(f"{run.name}-{name.replace('_', '-')}")
        command = command.replace("RECIPE", f"{shlex.quote(str(recorded[2]))} --set name={new}")
    return command


def _place(run: Run) -> str:
    """The run folder with its parent: enough to repeat a command, and nothing of the machine's layout."""
    if not isinstance(run.path, Path):
        return str(run.path)
    return "/".join(part for part in run.path.parts[-2:] if part not in {"/", "..", "."})


def _repeat(run: Run) -> str:
    """The command that makes the run again: as recorded, or else by the name of its recipe and its seed."""
    command = run.info.get("command")
    if isinstance(command, list) and len(command) > 1:
        # The program by its name: where it was installed, or what started it, is no part of the recipe.
        return shlex.join(["ldnn", *map(str, command[1:])])
    if isinstance(command, str) and command:
        return command
    name = str(run.config.get("name") or run.name)
    return f"ldnn search {shlex.quote(name)} --set seed={run.config.get('seed', 0)}"


def _facts(run: Run) -> list[tuple[str, str]]:
    trials, evaluations = run.trials, run.evaluations
    statuses = ", ".join(f"{amount} {status}" for status, amount in trials["status"].value_counts().items())
    facts = [
        ("made", str(run.info.get("created_at", "unknown"))[:19].replace("T", " ")),
        ("trial attempts", statuses or "none finished yet"),
        ("trained networks", f"{len(evaluations)}, {int(evaluations['diverged'].sum())} of them diverged"),
        ("code", str(run.info.get("code_version", "unknown"))),
    ]
    if run.left_out:
        facts.append(("damaged parts left out", str(len(run.left_out))))
    if notes := read_unjudged(storage_at(run.path)):
        facts.append(("batches of networks not judged", str(len(notes))))
    return facts


def _provenance(run: Run) -> Iterator[tuple[str, str]]:
    """Everything that run.json says except the configuration, and what the rows say about machines."""
    rest = {key: value for key, value in run.info.items() if key not in {"config", "command"}}
    yield from settings_rows(rest)
    for column in ("device", "threads"):
        values = sorted({str(value) for table in (run.trials, run.evaluations) for value in table[column].dropna()})
        if values:
            yield f"{column} (of the rows)", ", ".join(values)
    for bad in run.left_out:
        yield "left out", f"{bad.table}/{bad.path.name}: {bad.reason}"
    for note in read_unjudged(storage_at(run.path)):
        yield "not judged", f"{note['unit']}: {note['status']}, {note['error']}"


def _template() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("analysis", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("report.html.j2")


def _unbroken(sentence: str) -> str:
    """A sentence whose numbers stay together with their intervals and units when lines are broken."""
    kept = re.sub(r"\[[^\[\]]*\]", lambda found: found[0].replace(" ", "\u00a0"), sentence)
    return re.sub(r"(?<=\d) (?=[%\[])", "\u00a0", kept)
