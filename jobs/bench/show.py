"""Figures of the benchmarks on the terminal or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.text import Text

from jobs.bench import check_names, run_benchmarks
from jobs.bench._base import THREADS, Conditions, DisagreementError, Result, Size, device_name
from jobs.errors import EXIT_FAILED, say_error
from jobs.terminal import console, print_json, print_table


def show_benchmarks(names: Sequence[str], *, device: str, quick: bool, as_json: bool) -> None:
    """Run the named benchmarks, or all, and print what they found; a missed target is no failure.

    Raises:
        typer.BadParameter: an unknown benchmark, or a device that is not there.
    """
    try:
        check_names(names)
        conditions = Conditions.on(device, quick=quick)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        results = run_benchmarks(names, conditions)
    except DisagreementError as error:
        say_error(error)
        sys.exit(EXIT_FAILED)
    if as_json:
        print_json([result.record() for result in results])
        return
    print_results(results)


def print_results(results: Sequence[Result]) -> None:
    """One table of the figures, then one of the sizes behind each."""
    out, rows = console(), []
    for result in results:
        sign = "≥" if result.at_least else "≤"
        unit = "" if result.unit == "ratio" else f" {result.unit}"
        target = "" if result.target is None else f"{sign} {result.target:g}{unit}"
        rows.append((result.id, result.what, f"{result.value:.3g}{unit}", target, met_in_words(result)))
    numbers = ("value", "target")
    print_table(("id", "figure", *numbers, "met"), rows, right=numbers, whole=(*numbers, "met"))
    for result in results:
        _print_sizes(result)
        if result.check:
            errors = ", ".join(f"{what} {error:.1e}" for what, error in result.check.items())
            out.print(f"reference agrees with ours; relative errors: {errors}")
    if results:
        conditions = results[0].conditions
        out.print(f"{device_name(conditions.device)}, {THREADS} thread, float32; best times of alternating runs")
        if conditions.quick:
            out.print("quick sizes: these figures cannot be compared with targets or with other runs")


def met_in_words(result: Result) -> str | Text:
    """``met``, ``MISSED``, ``not comparable`` or, where there is no target, nothing."""
    if result.conditions.quick:
        return "not comparable"
    if result.met is None:
        return ""
    return Text("met", "green") if result.met else Text("MISSED", "bold red")


def _print_sizes(result: Result) -> None:
    keys = {key: key.replace("_", " ") for size in result.sizes for key in size}
    numbers = [head for key, head in keys.items() if key not in ("who", "peak_of")]
    cells = [[_cell(size, key) for key in keys] for size in result.sizes]
    print_table(list(keys.values()), cells, title=f"{result.id}: sizes", right=numbers)


def _cell(size: Size, head: str) -> str:
    value = size.get(head, "")
    return f"{value:.3g}" if isinstance(value, float) else str(value)
