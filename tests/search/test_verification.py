import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from search import twin
from search.config import RunConfig
from search.part import encode
from search.replay import replay
from search.run_folder import create, open_run
from search.schema import TABLES
from search.verification import verify_run
from tests.ldnn_core.tasks.writers import write_npz
from tests.small_runs import TINY, drive_here, merged, new_run

GOLDEN = Path(__file__).parents[1] / "golden" / "run_v1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("verify"), search={"trials": 1})
    drive_here(run)
    return run.path


@pytest.fixture
def run(finished, tmp_path):
    return open_run(Path(shutil.copytree(finished, tmp_path / "tiny")))


def faults(run):
    return [(one.table, one.what) for one in verify_run(run).findings if one.is_fault]


def change(run, table, key, **cells):
    """Write a part again, sealed, with other cells in all its rows."""
    path = run.path / table / f"part-{key}.parquet"
    rows = pq.ParquetFile(path).read().to_pylist()
    path.write_bytes(encode(table, [row | cells for row in rows]))


def test_a_run_that_has_ended_well_is_sound(run):
    found = verify_run(run)
    assert (found.is_sound, found.findings) == (True, ())
    assert found.parts | {"evaluations": 0} == {**dict.fromkeys(TABLES, 0), "trials": 2, "steps": 2, "activations": 2}
    assert found.rows["evaluations"] == found.parts["evaluations"] // 3 * (2 * 3 * 2 + 2 * 2)


def test_a_run_of_schema_version_1_is_sound(tmp_path):
    assert faults(open_run(Path(shutil.copytree(GOLDEN, tmp_path / "run_v1")))) == []


@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), number=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_anywhere_in_any_part_is_found(run, place, mask, number):
    paths = sorted(run.path.glob("*/part-*.parquet"))
    path = paths[number % len(paths)]
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(place * len(sound))] ^= mask
    path.write_bytes(damaged)
    try:
        found = faults(run)
        assert any(table == path.parent.name and what.startswith(f"{path.name}: ") for table, what in found)
    finally:
        path.write_bytes(sound)


def test_a_twin_that_says_something_else_than_the_pages_is_found(run, monkeypatch):
    rows = [{"run_id": run.info.run_id, "trial_id": "usual", "arm": "relu", "seed": 1}]
    other = encode("spectra", [rows[0] | {"seed": 2}])
    assert other
    pack = twin.pack
    monkeypatch.setattr(
        twin, "pack", lambda table, found, *, place: pack(table, found.set_column(9, "seed", [[2]]), place=place)
    )
    assert TABLES["spectra"].names[8:10] == ["task", "seed"]
    (run.path / "spectra" / "part-a.parquet").write_bytes(encode("spectra", rows))
    assert ("spectra", "part-a.parquet: its twin has other rows than its pages") in faults(run)


def test_rows_of_one_key_in_two_parts_are_found(run):
    [path, *_] = sorted((run.path / "evaluations").glob("part-usual-*"))
    shutil.copy(path, path.with_name("part-usual-again.parquet"))
    [(table, what)] = faults(run)
    assert table == "evaluations"
    assert what.startswith("4 keys have several rows, which must be unique: trial_id usual, arm relu, task mnist1d")


@pytest.mark.parametrize(
    ("table", "key", "cells", "words"),
    [
        ("trials", "gradient-0000-a0", {"config": "{}"}, "1 rows have another configuration than their config_hash"),
        ("trials", "gradient-0000-a0", {"run_id": "other"}, "1 rows are of another run than tiny-.*: other"),
        ("trials", "gradient-0000-a0", {"code_version": None}, "1 rows do not say their code_version"),
        ("trials", "gradient-0000-a0", {"attempt": 3}, "parts have other rows than their names say: gradient-"),
        ("evaluations", None, {"config_hash": "0" * 16}, "rows were made under another configuration"),
        ("evaluations", None, {"trial_id": "gradient-0777"}, "trials that there are no rows of: gradient-0777"),
    ],
)
def test_rows_that_say_something_wrong_are_found(run, table, key, cells, words):
    key = key or sorted(run.store.keys(table))[0]
    change(run, table, key, **cells)
    found = faults(run)
    assert found
    assert any(one == table and re.search(words, what) for one, what in found), found


def test_what_is_lost_is_a_fault_and_what_is_left_behind_a_note(run):
    (run.path / "steps" / "part-gradient-0000-a0.parquet").unlink()
    (run.path / "trials" / "part-evolution-0000-a0.parquet").unlink()
    (run.path / "quarantine" / "trials").mkdir()
    (run.path / "quarantine" / "trials" / "part-x.parquet").touch()
    (run.path / ".staging" / "x").touch()
    found = verify_run(run)
    said = [(one.is_fault, one.table, one.what.partition(":")[0]) for one in found.findings]
    assert (True, "steps", "1 trials that ended well have no part") in said
    assert (False, "activations", "1 parts are of attempts that have not finished") in said
    assert (False, "trials", "1 parts lie in quarantine/") in said
    assert (False, "", ".staging/ has 1 files or folders that publishing left behind") in said
    assert (True, "evaluations", "rows are of trials that there are no rows of") in said


def test_the_commands_say_what_they_find_and_leave_with_the_right_code(run):
    call = CliRunner().invoke
    sound = call(app, ["verify", str(run.path)])
    assert sound.exit_code == 0
    assert "Sound: seals, schema, keys, configuration and origin" in sound.output
    done = json.loads(call(app, ["compact", str(run.path), "--json"]).output)
    assert {one["table"]: one["parts"] for one in done["tables"]}["trials"] == 2
    assert "one file of 2 rows already" in call(app, ["compact", str(run.path), "--remove-parts"]).output
    assert json.loads(call(app, ["verify", str(run.path), "--json"]).output)["findings"] == []
    path = run.path / "trials" / "part-compacted.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    bad = call(app, ["verify", str(run.path)])
    assert bad.exit_code == 1
    assert "part-compacted.parquet: it is truncated" in " ".join(bad.output.split())


def test_a_run_whose_data_has_a_path_is_sound_and_its_trials_are_replayed(tmp_path):
    write_npz(tmp_path / "own.npz", rows=400)
    further = {"name": "file", "label": "further", "path": str(tmp_path / "own.npz")}
    small = TINY | {"task": {"name": "file", "path": str(tmp_path / "own.npz")}}
    config = RunConfig.model_validate(merged(small, {"search": {"trials": 1}, "evaluation": {"tasks": [further]}}))
    run = create(tmp_path, config.name, config.model_dump(mode="json"), seed=config.seed)
    drive_here(run)
    assert faults(run) == []
    assert replay(run, "evolution-0000").equal
    assert "path" not in json.loads(run.store.read("trials")["config"][0].as_py())["task"]
