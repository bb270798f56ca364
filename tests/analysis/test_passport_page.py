"""The page about passports stays true: its example gives what it shows, and its rules are those of the code."""

import contextlib
import io
import re
from pathlib import Path

from analysis import Label, Rules, Standing
from analysis.significance import EXACT, needed_pairs

PAGE = (Path(__file__).parents[2] / "docs" / "passport.md").read_text(encoding="utf-8")


def test_the_example_gives_what_the_page_shows():
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL).groups()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "passport.md", "exec"), {})
    assert said.getvalue() == shown


def test_labels_standings_and_numbers_are_those_of_the_code():
    assert all(f"`{label}`" in PAGE for label in Label)
    assert all(str(standing) in PAGE for standing in Standing)
    rules = Rules()
    assert (rules.margin, rules.collapse_share) == ({"accuracy": 0.01, "loss": 0.05}, 0.2)
    assert (rules.min_sizes, rules.min_width_ratio, rules.min_depth_ratio) == (3, 4, 2)
    assert rules.visible("accuracy") == 2 * rules.margin["accuracy"]
    assert [needed_pairs(sizes) for sizes in (1, 5, 10)] == [6, 8, 9]
    assert f"exact for up to {EXACT} differences" in PAGE
