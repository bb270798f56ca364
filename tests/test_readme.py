"""The front door stays true: the README's code runs, its links lead somewhere, its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import app
from search.recipes import load_recipe
from tests.jobs.calls import ldnn
from tests.small_runs import drive_here, new_run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that has runs/quickstart, small, and the card of its best set."""
    folder = tmp_path_factory.mktemp("readme")
    drive_here(new_run(folder / "runs", name="quickstart"))
    assert ldnn("export", folder / "runs" / "quickstart", "--out", folder / "set.safetensors").code == 0
    return folder


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_code_runs(code, place):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=place,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_example_is_short():
    assert len(BLOCKS[0].strip().splitlines()) <= 16  # fifteen and the blank line after the imports


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_recipes_are_right(recipe, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(recipe)
    assert load_recipe(str(path), folder=ROOT / "jobs" / "recipes").name == "mine"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs" / "api").glob("*.md"))], ids=lambda page: page.name)
def test_links_into_pages_lead_to_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        if other.suffix == ".md":
            assert anchor in anchors(other), f"{page.name} links to {target}#{anchor}"


def anchors(page):
    """As code hosts make them of headings: small letters, a number behind what occurs again."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = []
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return {f"{one}-{found[:place].count(one)}" if one in found[:place] else one for place, one in enumerate(found)}


def test_commands_exist():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"`ldnn ([a-z]+)", README)) <= known


def test_every_image_has_words():
    assert all(words.strip() for words in re.findall(r"!\[([^\]]*)\]", README))
