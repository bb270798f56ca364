"""Inject all faults and print the table of what came of them: ``python -m tests.faults [--write] [options of pytest]``.

With ``--write`` the table is put into docs/reliability.md.  The moments at which processes are killed are other ones
every time; a test that fails names the seed that repeats them, ``LDNN_FAULTS_SEED``.
"""

from __future__ import annotations

import sys

import pytest

from tests.faults.table import Tally, faults, markdown, written_into
from tests.jobs.calls import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def main(arguments: list[str]) -> int:
    """Run every test that a fault names, those with the marker too."""
    known, tally = faults(), Tally()
    tests = list(dict.fromkeys(test for fault in known for test in fault.tests))
    options = [one for one in arguments if one != "--write"]
    usual = ["-o", "addopts=", "-q", "--strict-markers", "-n", "2", "--dist", "loadfile"]
    code = pytest.main([*usual, *options, *tests], plugins=[tally])
    table = markdown(tally.row(fault) for fault in known)
    print(f"\n{table}")
    if "--write" in arguments and code == 0:
        PAGE.write_text(written_into(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
