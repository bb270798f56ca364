"""Figures of the benchmarks on the terminal or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.bench import check_names, run_benchmarks
from jobs.bench._base import THREADS, Conditions, DisagreementError, Result, Size, device_name
from jobs.errors import EXIT_FAILED
from jobs.terminal import console, print_json


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
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(EXIT_FAILED)
    if as_json:
        print_json([result.record() for result in results])
        return
    print_results(results, console())


def print_results(results: Sequence[Result], out: Console) -> None:
    """One table of the figures, then one of the sizes behind each."""
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("id", "figure"):
        table.add_column(head)
    for head in ("value", "target"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("met", no_wrap=True)
    for result in results:
        sign = "≥" if result.at_least else "≤"
        unit = "" if result.unit == "ratio" else f" {result.unit}"
        target = "" if result.target is None else f"{sign} {result.target:g}{unit}"
        words = f"{result.value:.3g}{unit}", target
        table.add_row(result.id, escape(result.what), *words, met_in_words(result))
    out.print(table)
    for result in results:
        out.print(_sizes(result))
        if result.check:
            errors = ", ".join(f"{what} {error:.1e}" for what, error in result.check.items())
            out.print(f"reference agrees with ours; relative errors: {errors}")
    if results:
        conditions = results[0].conditions
        out.print(f"{device_name(conditions.device)}, {THREADS} thread, float32; best times of alternating runs")
        if conditions.quick:
            out.print("quick sizes: these figures cannot be compared with targets or with other runs")


def met_in_words(result: Result) -> str:
    """``met``, ``MISSED``, ``not comparable`` or, where there is no target, nothing."""
    if result.conditions.quick:
        return "not comparable"
    if result.met is None:
        return ""
    return "[green]met[/]" if result.met else "[bold red]MISSED[/]"


def _sizes(result: Result) -> Table:
    heads = list(dict.fromkeys(key for size in result.sizes for key in size))
    table = Table(box=box.SIMPLE_HEAD, title=f"{result.id}: sizes", title_justify="left", title_style="bold")
    for head in heads:
        table.add_column(head.replace("_", " "), justify="left" if head in ("who", "peak_of") else "right")
    for size in result.sizes:
        table.add_row(*(_cell(size, head) for head in heads))
    return table


def _cell(size: Size, head: str) -> str:
    value = size.get(head, "")
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))
