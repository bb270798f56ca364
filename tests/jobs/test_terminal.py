"""What is printed is what was found: no name or message is taken for a sign of the terminal's."""

import pytest
from rich.text import Text

from jobs.errors import InputError, user_errors
from jobs.terminal import AS_IT_IS, console, print_table


def test_tables_have_their_cells_as_they_are(capsys):
    print_table(
        ("what", "number"), [("[red]:car:", "1"), (Text("styled", "red"), "20")], title="a [b]", right=("number",)
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "a [b]"
    assert lines[2].split() == ["what", "number"]
    assert lines[4:6] == ["  [red]:car:        1", "  styled           20"]


def test_paths_are_printed_as_they_are(capsys):
    console().print("runs/:car:/[1]", **AS_IT_IS)
    with pytest.raises(SystemExit), user_errors():
        raise InputError("no such run: runs/:car:/[red]")
    told = capsys.readouterr()
    assert told.out == "runs/:car:/[1]\n"
    assert told.err == "error: no such run: runs/:car:/[red]\n"
