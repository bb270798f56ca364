import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search
from search.durable import CRASH_EXIT, CRASH_POINTS
from search.provenance import config_hash
from search.run_folder import ABSENT, Difference, RunFolderError, create, difference, open_run
from search.schema import SCHEMA_VERSION, TABLES

CONFIG = {"name": "x", "ldnn": {"width": 10, "hidden": (50, 20)}, "trials": 8}
LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0]) | st.sampled_from(["a", ABSENT])
CONFIGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES | st.lists(LEAVES, max_size=2), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / "run.json").read_text())
    change(content)
    (path / "run.json").write_text(json.dumps(content))


def test_a_run_is_made_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ldnn", "search"])
    made = create(tmp_path / "runs", "x", CONFIG, seed=7, lineage="old-12345678")
    assert made == open_run(tmp_path / "runs" / "x")
    info = made.info
    assert (info.name, info.seed, info.lineage, info.command) == ("x", 7, "old-12345678", ["ldnn", "search"])
    assert info.run_id.startswith("x-")
    assert len(info.run_id) == len("x-") + 8
    assert info.created_at.endswith("+00:00")
    assert info.schema_version == SCHEMA_VERSION
    assert info.config == {"name": "x", "ldnn": {"width": 10, "hidden": [50, 20]}, "trials": 8}
    assert info.config_hash == config_hash(CONFIG)
    assert info.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    folders = {*TABLES, "quarantine", "logs", "report"}
    assert {path.name for path in made.path.iterdir() if not path.name.startswith(".")} == {*folders, "run.json"}
    made.store.publish("trials", "a", [{"run_id": info.run_id}])
    assert made.store.read("trials", columns=["run_id"]).to_pylist() == [{"run_id": info.run_id}]


def test_runs_of_one_name_have_different_ids(tmp_path: Path) -> None:
    ids = {create(tmp_path / str(number), "x", CONFIG, seed=0).info.run_id for number in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".x", "-x", "x" * 65, "x\n", "a b", "ä"])
def test_a_name_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFolderError, match=r"a run's name must be 1 to 64 letters, .* --set name="):
        create(tmp_path / "runs", name, CONFIG, seed=0)
    assert not (tmp_path / "runs").exists()


def test_a_configuration_that_is_no_json_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain, finite JSON"):
        create(tmp_path / "runs", "x", {"lr": float("nan")}, seed=0)
    assert not (tmp_path / "runs").exists()


def test_an_existing_run_is_not_made_again(tmp_path: Path) -> None:
    before = create(tmp_path, "x", CONFIG, seed=0)
    with pytest.raises(RunFolderError, match=r"x is a run already. Go on with it with `ldnn resume .*x`, or choose"):
        create(tmp_path, "x", CONFIG, seed=0)
    assert open_run(tmp_path / "x") == before


def test_one_of_two_that_make_the_same_run_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search import run_folder

    create(tmp_path, "x", CONFIG, seed=0)
    # As if the other had not been there yet when this one looked.
    monkeypatch.setattr(run_folder, "_refuse_foreign", lambda _: None)
    with pytest.raises(RunFolderError, match="is a run already"):
        create(tmp_path, "x", CONFIG, seed=1)
    assert open_run(tmp_path / "x").info.seed == 0


def test_a_folder_or_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(RunFolderError, match=r"mine exists, is not a run, and holds thesis.txt. Choose another --out"):
        create(tmp_path, "mine", CONFIG, seed=0)
    (tmp_path / "half" / "trials").mkdir(parents=True)
    (tmp_path / "half" / "trials" / "part-a.parquet").touch()
    with pytest.raises(RunFolderError, match="half exists, is not a run, and holds trials"):
        create(tmp_path, "half", CONFIG, seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"file is a file. Choose another --out"):
        create(tmp_path, "file", CONFIG, seed=0)
    with pytest.raises(RunFolderError, match=r"file/x cannot be made: Not a directory. Choose another --out"):
        create(tmp_path / "file", "x", CONFIG, seed=0)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_while_making_a_run_can_be_gone_over(tmp_path: Path, point: str) -> None:
    code = "import sys; from pathlib import Path; from search.run_folder import create\n" + (
        "create(Path(sys.argv[1]), 'x', {}, seed=0)"
    )
    crashed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(search.__file__).parents[1],
        env={**os.environ, "LDNN_CRASH_POINT": point},
    )
    assert crashed.returncode == CRASH_EXIT
    if point in ("opened", "written", "synced"):
        with pytest.raises(RunFolderError, match=r"x is not a run: it has no run.json"):
            open_run(tmp_path / "x")
        create(tmp_path, "x", {}, seed=0)
    assert open_run(tmp_path / "x").info.name == "x"


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    real = create(tmp_path, "real", CONFIG, seed=0)
    (tmp_path / "link").symlink_to(real.path)
    with pytest.raises(RunFolderError, match="link is a symbolic link, and run folders must be real: give the folder"):
        open_run(tmp_path / "link")
    with pytest.raises(RunFolderError, match=r"link is a symbolic link, .* remove it or choose another --out"):
        create(tmp_path, "link", CONFIG, seed=0)
    (real.path / "logs").rmdir()
    (real.path / "logs").symlink_to(tmp_path)
    with pytest.raises(RunFolderError, match=r"real holds symbolic links \(logs\)"):
        open_run(real.path)


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"there is no run folder .*none. `ldnn search RECIPE` makes one"):
        open_run(tmp_path / "none")
    with pytest.raises(RunFolderError, match=r"is not a run: it has no run.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunFolderError, match=r"could not read .*run.json: Is a directory"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "run.json is damaged: Expecting value.*Put its backup back"),
        ("[" * 100_000, "run.json is damaged: it must be JSON, but has too many brackets"),
        ("[]", "run.json is damaged: it names no schema_version"),
        ('{"schema_version": true}', "run.json is damaged: it names no schema_version"),
        ('{"schema_version": 1, "name": "x"}', "run.json is damaged: it lacks code_dirty, code_version"),
    ],
)
def test_a_damaged_run_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=words):
        open_run(tmp_path)


@pytest.mark.parametrize("config", [{"trials": 9}, [], {"lr": float("nan")}])
def test_an_edited_configuration_is_refused(tmp_path: Path, config: object) -> None:
    run = create(tmp_path, "x", CONFIG, seed=0)
    rewrite(run.path, lambda content: content.update(config=config))
    with pytest.raises(RunFolderError, match=r"run.json was edited: its config does not have the hash"):
        open_run(run.path)


def test_a_run_of_a_newer_schema_is_refused_with_its_version(tmp_path: Path) -> None:
    run = create(tmp_path, "x", CONFIG, seed=0)
    rewrite(run.path, lambda content: content.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(RunFolderError, match=f"schema version {SCHEMA_VERSION + 1}, but this version .* up to"):
        open_run(run.path)


def test_a_run_cannot_be_changed(tmp_path: Path) -> None:
    run = create(tmp_path, "x", CONFIG, seed=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.info.name = "y"  # type: ignore[misc]


def test_differences_are_named_by_field() -> None:
    new = {"name": "x", "ldnn": {"width": 20, "hidden": [50]}, "seeds": None}
    assert difference(CONFIG, new) == [
        Difference("ldnn.hidden", [50, 20], [50]),
        Difference("ldnn.width", 10, 20),
        Difference("seeds", ABSENT, None),
        Difference("trials", 8, ABSENT),
    ]
    assert [str(one) for one in difference(CONFIG, new)][1:] == [
        "ldnn.width: 10 -> 20",
        "seeds: (absent) -> null",
        "trials: 8 -> (absent)",
    ]
    with pytest.raises(ValueError, match="the keys of a configuration must be text"):
        difference({1: 2}, {})  # type: ignore[dict-item]


@given(CONFIGS, CONFIGS)
def test_there_is_no_difference_exactly_when_the_hashes_agree(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (difference(old, new) == []) == (config_hash(old) == config_hash(new))


def test_a_changed_configuration_is_refused_field_by_field(tmp_path: Path) -> None:
    run = create(tmp_path, "x", CONFIG, seed=0)
    run.require_same_config(CONFIG)
    changed = {**CONFIG, "trials": 9, "ldnn": {"width": 20, "hidden": [50, 20]}}
    with pytest.raises(
        RunFolderError,
        match=r"another configuration:\n  ldnn.width: 10 -> 20\n  trials: 8 -> 9\nResume it as it is with `ldnn resume",
    ):
        run.require_same_config(changed)
    with pytest.raises(RunFolderError, match=r"another configuration:\n  trials: 8 -> 9\nResume"):
        run.require_same_config(changed, may_change=["ldnn", "trial"])
    run.require_same_config(changed, may_change=["ldnn.width", "trials"])
