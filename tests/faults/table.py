"""The table of faults: which there are, which tests inject them, and what came of it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

FAULTS: Final = Path(__file__).with_name("faults.toml")
BEGIN: Final = "<!-- made by `make test-faults`: begin -->"
END: Final = "<!-- end -->"
HEAD: Final = ("#", "fault", "how it is tried", "times", "rows lost", "doubled", "changed")
_KINDS: Final = ("lost", "doubled", "changed")


@dataclass(frozen=True)
class Fault:
    """One entry of `faults.toml`, see there."""

    number: int
    fault: str
    how: str
    rows: str
    tests: tuple[str, ...]

    def has(self, test: str) -> bool:
        """Whether a test, without its parameters, injects this fault."""
        return any(test == one or test.startswith(f"{one}::") for one in self.tests)


def faults() -> list[Fault]:
    """All of them, in their order."""
    entries = tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"]
    return [Fault(**(entry | {"tests": tuple(entry["tests"])})) for entry in entries]


class Tally:
    """A plugin of pytest that counts what tests tell with `tests.faults.harness.tell`, or that they have passed."""

    def __init__(self) -> None:
        self.found: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down how one test went."""
        test = report.nodeid.partition("[")[0]
        counts = self.found.setdefault(test, Counter())
        if report.outcome != "passed":
            counts[report.outcome] += 1
        elif report.when == "call":
            told: dict[str, Any] = dict(report.user_properties)
            counts["times"] += told.get("injections", 1)
            counts.update({kind: told.get(kind, 0) for kind in _KINDS})

    def row(self, fault: Fault) -> tuple[str, ...]:
        """A fault's cells.  Tests that compare rows without telling numbers pass when there are no differences."""
        counts: Counter[str] = Counter()
        for test, found in self.found.items():
            if fault.has(test):
                counts.update(found)
        words = [f"{counts[kind]} {kind}" for kind in ("failed", "skipped") if counts[kind]]
        times = ", ".join([str(counts["times"]), *words])
        harm = [str(counts[kind]) if fault.rows == "compared" else "–" for kind in _KINDS]
        return (str(fault.number), fault.fault, fault.how, times, *harm)


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """The table as it stands in a document."""
    lines = [HEAD, tuple("---:" if name in ("#", *HEAD[3:]) else "---" for name in HEAD), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def written_into(text: str, table: str) -> str:
    """A document with the table between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document must have the lines {BEGIN!r} and {END!r} where the table belongs")
    return f"{before}{begin}\n{table}{end}{after}"
