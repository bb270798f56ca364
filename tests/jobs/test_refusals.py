"""Wrong settings, hostile names and hostile files: exit code 2 with rule and way out, before Ray is imported."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.corpora import Case, cases, whole_text, with_base_recipes
from tests.jobs.calls import ROOT, Answer, ldnn
from tests.ldnn_core.spoiled_cards import spoiled

GOLDEN = ROOT / "tests" / "golden" / "run_v1"


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing Ray fails, and so does the only runner that would import it."""
    for module in ("ray", "search.tune", "search.ray_shards"):
        monkeypatch.setitem(sys.modules, module, None)


def assert_refused(answer: Answer, says: list[str]) -> None:
    assert answer.code == 2, answer
    words = " ".join(answer.err.split())
    assert [part for part in says if " ".join(part.split()) not in words] == [], answer.err
    assert "Traceback" not in answer.err
    assert "\x1b" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("case", cases("bad_overrides"), ids=lambda case: case["set"][:40])
def test_a_bad_setting_ends_the_command_before_anything_is_made(case: Case, tmp_path: Path) -> None:
    recipe = with_base_recipes(tmp_path) / "base.toml"
    answer = ldnn("search", recipe, "--set", whole_text(case, "set"), "--out", tmp_path / "runs")
    assert_refused(answer, case["says"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("case", cases("hostile_cards"), ids=lambda case: case["name"])
def test_a_hostile_card_ends_the_command(case: Case, tmp_path: Path) -> None:
    (tmp_path / "set.safetensors").write_bytes(spoiled(case["card"]))
    assert_refused(ldnn("interpolate", tmp_path / "set.safetensors"), [";"])


@pytest.mark.parametrize("case", cases("hostile_commands"), ids=lambda case: case["name"])
def test_a_hostile_name_or_file_ends_the_command(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = filled(case, str(tmp_path))
    make(case, tmp_path)
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, value)
    before = everything(tmp_path)
    answer = ldnn(*case["run"])
    assert_refused(answer, case["says"])
    assert "hides" not in case or case["hides"] not in answer.err
    assert everything(tmp_path) == before


def filled(value: Any, folder: str) -> Any:
    """The case with the name of the folder in it."""
    if isinstance(value, dict):
        return {filled(key, folder): filled(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, folder) for one in value]
    return value.replace("{tmp}", folder) if isinstance(value, str) else value


def make(case: Case, folder: Path) -> None:
    """Make what a case asks for."""
    for name in case.get("golden", []):
        shutil.copytree(GOLDEN, folder / name)
    for name in case.get("folder", []):
        (folder / name).mkdir(parents=True)
    for kind in ("text", "hex", "link", "size"):
        for name in case.get(kind, {}):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, content in case.get("text", {}).items():
        (folder / name).write_text(content * case.get("times", {}).get(name, 1))
    for name, content in case.get("hex", {}).items():
        (folder / name).write_bytes(bytes.fromhex(content))
    for name, target in case.get("link", {}).items():
        (folder / name).symlink_to(target)
    for name, size in case.get("size", {}).items():
        (folder / name).touch()
        os.truncate(folder / name, size)  # takes no place on the disk
    for name in case.get("pipe", []):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)
    for name, (old, new) in case.get("edit", {}).items():
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))


def everything(folder: Path) -> dict[str, float]:
    """All that lies in a folder, and when it was last written."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime for path in folder.rglob("*")}


def test_the_corpora_are_as_large_as_promised() -> None:
    assert len(cases("bad_overrides")) + len(cases("bad_recipes")) >= 60
    assert len(cases("hostile_commands")) >= 40
    assert len(cases("hostile_cards")) >= 40
