"""The API reference is that of the code at hand, and every public name says what it takes."""

import inspect
import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import analysis
import ldnn_core
from search.config import RunConfig
from search.schema import TABLES

pytest.importorskip("griffe")
ROOT = Path(__file__).parent.parent
API = ROOT / "docs" / "api"


@pytest.fixture(scope="module")
def make():
    sys.path.insert(0, str(API))
    try:
        yield import_module("make")
    finally:
        sys.path.remove(str(API))


@pytest.fixture(scope="module")
def made(make):
    return make.pages()


@pytest.fixture(scope="module")
def public(make):
    return [one for modules in make.public_names().values() for names in modules.values() for one in names]


def test_the_pages_are_up_to_date(made):
    for name, text in made.items():
        assert (API / name).read_text(encoding="utf-8") == text, f"{name}: run `python docs/api/make.py`"
    assert {path.name for path in API.glob("*.md")} == {*made, "README.md"}


@pytest.mark.parametrize("package", [ldnn_core, analysis])
def test_every_exported_name_has_an_entry(package, made):
    entries = re.findall(r"^### (\w+)$", made[f"{package.__name__}.md"], re.MULTILINE)
    assert sorted(entries) == sorted(package.__all__)


def test_names_of_search_can_be_imported_from_where_the_page_says(make):
    for module, names in make.SEARCH.items():
        for name in names:
            assert hasattr(import_module(module), name), f"{module}.{name}"


def test_every_public_name_says_what_it_is(public):
    assert [one.path for one in public if not one.docstring] == []
    methods = [
        member
        for one in public
        if one.is_class
        for member in one.members.values()
        if not member.is_alias and member.is_function and not member.name.startswith("_")
    ]
    assert len(methods) > 50
    assert [one.path for one in methods if not one.docstring] == []


def arguments_without_words(found):
    """Arguments of a function or class that its docstring does not name."""
    words = set(re.findall(r"\w+", found.docstring.value))
    names = [one.name for one in found.parameters if one.name not in ("self", "cls")]
    return [name for name in names if name not in words]


def test_every_argument_of_a_public_name_is_described(public, make):
    called = [one for one in public if one.is_function or (one.is_class and not make.has_no_arguments(one))]
    assert len(called) > 70
    missing = {one.path: arguments_without_words(one) for one in called}
    assert {path: names for path, names in missing.items() if names} == {}


def test_a_missing_argument_is_found(tmp_path):
    import griffe

    (tmp_path / "taken.py").write_text('def f(one, two):\n    """Takes one."""\n')
    module = griffe.load("taken", search_paths=[tmp_path], docstring_parser="google")
    assert arguments_without_words(module["f"]) == ["two"]


def test_the_signature_is_that_which_python_knows(made):
    """An independent reader: inspect, for functions without annotations that griffe would write otherwise."""
    for package in (ldnn_core, analysis):
        page = made[f"{package.__name__}.md"]
        for name in package.__all__:
            if inspect.isfunction(getattr(package, name)):
                block = re.search(rf"^### {name}\n\n```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)
                assert block, name
                for argument in inspect.signature(getattr(package, name)).parameters:
                    assert re.search(rf"[(,*\s]{argument}[:,)=]", block[1]), f"{name}: {argument}"


def test_every_key_and_column_is_there(made):
    page = made["configuration.md"]
    for table in ("ldnn", "inner", "gradient", "evolution", "search", "evaluation", "regime", "resources"):
        section = page.partition(f"## [{table}]\n")[2].partition("\n## ")[0]
        keys = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert keys == list(RunConfig.model_fields[table].annotation.model_fields), table
    for table, schema in TABLES.items():
        section = made["tables.md"].partition(f"## {table}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == schema.names, table


def test_ranges_are_those_that_are_checked(made):
    assert "| `num_types` | whole number ≥ 1 and ≤ 3 | `2` |" in made["configuration.md"]
    assert "| `momentum` | number ≥ 0 and < 1 | `0.9` |" in made["configuration.md"]


def test_links_within_the_pages_lead_somewhere(made):
    for name, text in made.items():
        heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors, seen = {}, Counter()
        for head in heads:  # as code hosts make them
            plain = re.sub(r"[^\w -]", "", head).replace(" ", "-").lower()
            anchors[f"{plain}-{seen[plain]}" if seen[plain] else plain] = head
            seen[plain] += 1
        for words, target in re.findall(r"\[`?([^]`]+)`?\]\(#([^)]+)\)", text):
            assert anchors[target] == words, f"{name} links to #{target}"
