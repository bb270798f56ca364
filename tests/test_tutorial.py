"""Who follows docs/tutorial.md gets from one end to the other: its commands and programs run, in order, made small."""

import contextlib
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.jobs.calls import ldnn

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SMALLER = {
    "search": ["--set", "scale=smoke", "--workers", "0"],
    "evaluate": ["--widths", "20,50,100", "--seeds", "2", "--workers", "0"],
}
"""Options that are added to a command of the page."""
FEWER = (("range(15)", "range(1)"), ("range(5)", "range(2)"), ("epochs=10", "epochs=1"), ("cv=3", "cv=2"))
"""What is replaced in its programs."""
INSTALLING = ("python3 -m venv", ".venv/bin/python -m pip install", ". .venv/bin/activate")


def commands():
    return [line for kind, code in BLOCKS if kind == "sh" for line in code.splitlines()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each block but the shown outputs leaves, in the order of the page, in a folder like a checkout's."""
    place = tmp_path_factory.mktemp("tutorial")
    (place / "docs").symlink_to(ROOT / "docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        yield place, [(kind, code, do(kind, code, place)) for kind, code in BLOCKS if kind != "text"]
    sys.modules.pop("estimator", None)


def do(kind, code, place):
    if kind == "toml":
        (place / "first.toml").write_text(code)
        return ""
    if kind == "python":
        return program(code)
    return "".join(command(line) for line in code.splitlines() if not line.startswith(INSTALLING))


def program(code):
    for old, new in FEWER:
        code = code.replace(old, new)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "docs/tutorial.md", "exec"), {"__name__": "__main__"})
    return out.getvalue()


def command(line):
    name, *arguments = shlex.split(line)
    if name == "cp":
        shutil.copy(*arguments)
        return ""
    assert name == "ldnn", line
    answer = ldnn(*arguments, *SMALLER.get(arguments[0], []))
    assert answer.code == 0, f"{line}\n{answer.err}"
    return answer.out


def without_numbers(text):
    """The words of an output, one line each, without numbers and what depends on them."""
    return [words for line in text.splitlines() if (words := " ".join(re.findall(r"[A-Za-z_-]{3,}", line)))]


def test_every_block_runs_and_says_something(answers):
    place, done = answers
    assert [kind for kind, _, _ in done].count("python") >= 5
    silent = [code for kind, code, out in done if kind == "python" and not out.strip()]
    assert silent == []
    for name in ("set.safetensors", "set.png", "runs/first/report/index.html", "figures/activation_curves.png"):
        assert (place / name).stat().st_size > 0


def test_it_is_installed_as_the_makefile_does():
    [line] = [line for line in commands() if " install " in line]
    makefile = (ROOT / "Makefile").read_text()
    assert "--constraint constraints.txt --editable" in line
    assert "--constraint constraints.txt --editable" in makefile
    extra = re.search(r"\[(\w+)\]", line)[1]
    assert re.search(rf"^{extra} = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_what_is_shown_has_the_form_of_what_comes(answers):
    _, done = answers
    printed = "\n".join(out for _, _, out in done)
    there = set(without_numbers(printed))
    shown = [code for kind, code in BLOCKS if kind == "text"]
    tables = [code for code in shown if not code.startswith("•")]
    heads = [without_numbers(code)[0] for code in tables]
    assert [head for head in heads if head not in there] == []
    # Sentences depend on numbers, but what they speak about does not.
    for words in (
        "mixed (gradient-0000)",
        "gradient-0000: ",
        "relu-equal",
        "untrained",
        "the set",
        "set.safetensors 20",
    ):
        assert words in printed
        assert words in PAGE


def test_pictures_are_small_and_described():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", PAGE)
    assert len(pictures) == 4
    for words, path in pictures:
        assert len(words) > 40
        assert (ROOT / "docs" / path).stat().st_size < 150_000
