"""The gallery is what its list says, every figure of the reports is in it, and its pictures can be made again."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from analysis.figures import FIGURES
from search.recipes import list_recipes
from tests.analysis.conftest import RunFolder, fill
from tests.jobs.calls import ldnn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RECIPES = {name for name, _ in list_recipes(ROOT / "jobs" / "recipes")}


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(gallery):
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), "run `python docs/gallery.py`"


def test_every_figure_that_there_is_can_be_seen(gallery):
    shown = {line.get("figure") for entry in gallery.entries() for line in entry["pictures"]}
    assert set(FIGURES) - shown == set()
    assert shown - {None} <= set(FIGURES)


def test_every_picture_is_there_and_said_in_words(gallery):
    for entry in gallery.entries():
        assert entry["recipe"] in RECIPES
        for line in entry["pictures"]:
            path = gallery.picture_of(entry, line)
            assert (DOCS / path).read_bytes().startswith(b"\x89PNG"), path
            assert line["seen"].endswith("."), path
            assert line["seen"].count(". ") <= 1, f"{path}: a sentence or two"
            if path.startswith("figures/gallery/"):
                assert (DOCS / path).stat().st_size < 150_000, path
    drawn = {gallery.picture_of(entry, line) for entry in gallery.entries() for line in entry["pictures"]}
    there = {path.relative_to(DOCS).as_posix() for path in (DOCS / "figures" / "gallery").iterdir()}
    assert there <= drawn, "a picture that no line shows"


def test_every_entry_says_how_and_from_which_code(gallery):
    for entry in gallery.entries():
        assert re.search(r"\b[0-9a-f]{7}\b|\.md", entry["commit"]), entry["title"]
        assert all(command.startswith("ldnn ") for command in entry["commands"]), entry["title"]


def test_the_searches_of_the_gallery_can_be_started(gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    (tmp_path / "first.toml").write_text(re.search(r"```toml\n(.*?)```", tutorial, re.DOTALL)[1])
    for entry in gallery.entries():
        for command in entry["commands"]:
            _, name, *arguments = shlex.split(command)
            if name == "search":
                answer = ldnn(name, *arguments, "--dry-run")
                assert answer.code == 0, answer.err
                run = re.search(r"runs/(\S+)", answer.out)[1]
                assert run == entry["name"], entry["title"]


def test_pictures_are_drawn_from_a_run(gallery, tmp_path, monkeypatch):
    fill(RunFolder(tmp_path / "quick"), trials=1, widths=(20, 50))
    lines = [{"figure": "outer_loss"}, {"figure": "arm_violins", "file": "elsewhere.png"}, {"file": "card.png"}]
    monkeypatch.setattr(gallery, "entries", lambda: [{"name": "quick", "pictures": lines}])
    drawn = gallery.draw(str(tmp_path / "quick"), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in drawn] == ["figures/gallery/quick-outer_loss.png"]
    assert drawn[0].read_bytes().startswith(b"\x89PNG")


def test_a_run_without_an_entry_is_said(gallery, tmp_path):
    fill(RunFolder(tmp_path / "unheard"), trials=1, widths=(20,))
    with pytest.raises(ValueError, match=r"must have an entry in gallery\.toml .*, but is 'unheard'"):
        gallery.draw(str(tmp_path / "unheard"))
