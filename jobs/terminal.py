"""How commands answer: on a terminal for people, as one line of JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "soft_wrap": True}
"""For lines with paths, which are there to be copied: no line breaks of ours."""


def console() -> Console:
    """Where results are printed; wide enough for a table when nobody watches."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> None:
    """Print a table.

    Args:
        heads: of the columns.
        rows: a cell for each column; plain text as it is, or with a style.
        title: what stands above it, if anything.
        right: heads of columns that are set to the right, as numbers are.
        whole: heads of columns that are as wide as what they hold.
    """
    table = Table(box=box.SIMPLE_HEAD, title=None if title is None else Text(title, "bold"), title_justify="left")
    for head in heads:
        table.add_column(Text(head), justify="right" if head in right else "left", no_wrap=head in whole)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(table)


def print_json(answer: Any) -> None:
    """Print plain values, and paths as text."""
    print(json.dumps(answer, default=os.fspath))  # noqa: T201
