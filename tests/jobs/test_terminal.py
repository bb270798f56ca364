"""What is printed is what was found: no name or message is taken for a sign of the terminal's."""

from rich.text import Text

from jobs.terminal import print_table


def test_tables_have_their_cells_as_they_are(capsys):
    print_table(
        ("what", "number"), [("[red]:car:", "1"), (Text("styled", "red"), "20")], title="a [b]", right=("number",)
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "a [b]"
    assert lines[2].split() == ["what", "number"]
    assert lines[4:6] == ["  [red]:car:        1", "  styled           20"]
