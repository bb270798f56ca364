"""What ``ldnn replay`` answers."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from jobs.errors import EXIT_DONE, EXIT_FAILED
from jobs.terminal import AS_IT_IS, console, print_json
from search.config_errors import ConfigError, Problem
from search.location import Location
from search.provenance import code_version, library_versions
from search.run_folder import open_run


def show_replay(path: Location, trial_id: str, *, as_json: bool) -> None:
    """Run a trial again and say how it came out; leaves the process with its exit code.

    Raises:
        ConfigError: there is no such trial, or it has no numbers of its own.
    """
    from search.replay import replay
    from search.work import threads_limited

    run = open_run(path)
    rows = run.store.read("trials", columns=["threads"], keys=run.store.attempts(trial_id)).to_pylist()
    threads = next((row["threads"] for row in rows if row["threads"]), 1)
    try:
        with threads_limited(threads):
            found = replay(run, trial_id)
    except ValueError as error:
        raise ConfigError([Problem("--trial", "", str(error))], "ldnn replay") from None
    code = EXIT_DONE if found.equal else EXIT_FAILED
    if as_json:
        answer = {"run": str(run.path), "equal": found.equal, **asdict(found)}
        print_json(answer)
        sys.exit(code)
    out = console()
    rows_of = ", ".join(f"{count} of {table}" for table, count in found.compared.items())
    if found.equal:
        out.print(f"{trial_id} is equal to the bit: rows {rows_of}.", **AS_IT_IS)
        sys.exit(code)
    out.print(f"{trial_id} differs (rows compared: {rows_of}):", **AS_IT_IS)
    for one in found.differences:
        out.print(f"  {one}", **AS_IT_IS)
    then, now = json.loads(found.stored["versions"] or "{}"), library_versions()
    libraries = [f"{name} {old} -> {now.get(name)}" for name, old in then.items() if now.get(name) != old]
    version, dirty = code_version()
    words = "with" if dirty or found.stored["code_dirty"] else "without"
    out.print(
        f"Run then with {found.stored['code_version']} on {found.stored['device']}, now with {version} on cpu, "
        f"{words} uncommitted changes; libraries that differ: {', '.join(libraries) or 'none'}.",
        **AS_IT_IS,
    )
    sys.exit(code)
