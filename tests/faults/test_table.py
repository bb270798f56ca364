"""The table of faults names all faults and tests that there are, and the page about it is of today."""

from __future__ import annotations

import ast
from types import SimpleNamespace

from tests.faults.table import BEGIN, END, Fault, Tally, faults, written_into
from tests.jobs.calls import ROOT


def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_every_fault_has_tests_that_are_there() -> None:
    assert [fault.number for fault in faults()] == list(range(1, 22))
    for fault in faults():
        assert fault.rows in ("compared", "none")
        assert fault.tests
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file(), test
            assert not name or name in functions_in(file), test


def test_the_page_has_a_row_for_each_fault_without_a_loss() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    lines = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [(row[0], row[1], row[2]) for row in cells] == [(str(one.number), one.fault, one.how) for one in faults()]
    assert {cell for row in cells for cell in row[4:]} == {"0", "–"}
    assert all(int(row[3].partition(",")[0]) >= 1 and "failed" not in row[3] for row in cells)


def test_what_tests_tell_is_summed_and_a_failure_is_said() -> None:
    tally, fault = Tally(), Fault(1, "a", "b", "compared", ("t/x.py::test_a", "t/y.py"))
    told = [("injections", 5), ("lost", 1), ("doubled", 0), ("changed", 2)]
    for node, outcome, properties in (
        ("t/x.py::test_a[0]", "passed", told),
        ("t/x.py::test_a[1]", "passed", told),
        ("t/x.py::test_ab", "passed", told),
        ("t/y.py::TestIt::test_c", "passed", []),
        ("t/y.py::test_d", "failed", []),
    ):
        tally.pytest_runtest_logreport(
            SimpleNamespace(nodeid=node, outcome=outcome, when="call", user_properties=properties)  # type: ignore[arg-type]
        )
    assert tally.row(fault) == ("1", "a", "b", "11, 1 failed", "2", "0", "4")


def test_a_table_is_put_between_its_marks() -> None:
    assert written_into(f"a\n{BEGIN}\nold\n{END}\nb", "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb"
