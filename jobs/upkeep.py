"""Looking a run over, and making one file of each table."""

from __future__ import annotations

import sys
from dataclasses import asdict

from rich.text import Text

from jobs.errors import EXIT_DONE, EXIT_FAILED
from jobs.terminal import console, print_json, print_table
from search.compaction import compact_run
from search.location import Location
from search.run_folder import open_run
from search.verification import verify_run


def show_verification(path: Location, *, as_json: bool) -> None:
    """Print what is found; leaves the process with its exit code."""
    run = open_run(path)
    found = verify_run(run)
    code = EXIT_DONE if found.is_sound else EXIT_FAILED
    if as_json:
        told = {"run": str(run.path), "run_id": run.info.run_id, "sound": found.is_sound, **asdict(found)}
        print_json(told)
        sys.exit(code)
    out = console()
    counts = ", ".join(f"{found.rows[table]} rows of {table}" for table in found.rows if found.parts[table])
    out.print(f"{sum(found.parts.values())} parts: {counts or 'no rows'}.")
    if found.findings:
        fault = Text("fault", "bold red")
        cells = [(fault if one.is_fault else "note", one.table, one.what) for one in found.findings]
        print_table(("", "table", "finding"), cells)
    faults = sum(finding.is_fault for finding in found.findings)
    if faults:
        out.print(
            f"{faults} faults. `ldnn resume {run.path}` moves damaged parts away and does their work again.",
            markup=False,
        )
    else:
        out.print("Sound: seals, schema, keys, configuration and origin of all rows are as they should be.")
    sys.exit(code)


def compact_and_show(path: Location, *, remove_parts: bool, as_json: bool) -> None:
    """Compact a run and print what became of its tables."""
    run = open_run(path)
    tables = compact_run(run, remove_parts=remove_parts)
    if as_json:
        print_json({"run": str(run.path), "tables": [asdict(one) for one in tables]})
        return
    out = console()
    for one in tables:
        if one.parts:
            kept = "parts removed" if one.replaced is None else f"parts kept in {one.replaced}"
            sizes = f"{one.bytes_before / 1e6:.1f} MB became {one.bytes_after / 1e6:.1f} MB"
            out.print(f"{one.table}: {one.parts} parts into one file of {one.rows} rows; {sizes}; {kept}", markup=False)
        elif one.rows:
            out.print(f"{one.table}: one file of {one.rows} rows already")
    if not any(one.rows for one in tables):
        out.print("There are no finished rows to compact.")
