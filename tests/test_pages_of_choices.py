"""Every task, kind of network and regime has its place in the docs: what it is, its keys, a command that starts."""

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from search.config_judging import RegimeConfig
from search.config_types import ArchitectureName, MixingName, OptimizerName, TaskName
from tests.jobs.calls import ldnn

DOCS = Path(__file__).parent.parent / "docs"


def page(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def sections(name):
    """Title → text of the sections of a page."""
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page(name), re.MULTILINE | re.DOTALL))


def commands(text):
    """Indented command lines, with those that go on in the next line put together."""
    joined = text.replace("\\\n", " ")
    return [line.split("#")[0].strip() for line in joined.splitlines() if line.startswith("    ldnn ")]


@pytest.mark.parametrize("task", get_args(TaskName))
def test_a_task_has_a_section_with_a_command(task):
    titles = [title for title in sections("tasks") if task in title.split(", ")]
    assert len(titles) == 1, task
    assert commands(sections("tasks")[titles[0]]), task


@pytest.mark.parametrize("kind", get_args(ArchitectureName))
def test_a_kind_of_network_has_a_section_with_ranges_and_a_command(kind):
    text = sections("networks")[kind]
    assert "`width`" in text or "`ldnn.width`" in text
    assert "`depth`" in text or "`ldnn.depth`" in text
    assert "parameters" in text
    [command] = commands(text)
    assert kind == "mlp" or f"ldnn.architecture={kind}" in command


def test_mixings_schedules_and_optimisers_are_named():
    assert [name for name in get_args(MixingName) if f"`{name}`" not in page("networks")] == []
    schedules = get_args(RegimeConfig.model_fields["schedule"].annotation)
    assert [name for name in schedules if f"| `{name}` |" not in sections("regimes")["Schedules"]] == []
    assert [name for name in get_args(OptimizerName) if f"| `{name}` |" not in sections("regimes")["Optimisers"]] == []


def test_keys_of_a_regime_have_their_defaults():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \| [^|]* \|$", sections("regimes")["Keys"], re.MULTILINE))
    assert list(rows) == list(RegimeConfig.model_fields)
    for name, field in RegimeConfig.model_fields.items():
        default = field.default
        words = "none" if default == () else f"{default:g}" if isinstance(default, float) else str(default)
        assert rows[name].strip("`") == words, name


@pytest.mark.parametrize("name", ["networks", "regimes"])
def test_commands_and_recipes_of_the_page_can_be_started(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL):
        if text.startswith("description"):
            (tmp_path / f"{name}.toml").write_text(text)
    searches = [line for line in commands(page(name)) if line.startswith("ldnn search")]
    for command in [*searches, *([f"ldnn search {name}.toml"] if (tmp_path / f"{name}.toml").exists() else [])]:
        answer = ldnn(*shlex.split(command)[1:], "--dry-run")
        assert answer.code == 0, f"{command}: {answer.err}"
