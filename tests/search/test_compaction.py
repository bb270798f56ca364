import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import search
from search import compaction
from search.compacted import COMPACTED
from search.compaction import COMPACTION_CRASH_POINTS, CompactionError, compact_run, compact_table
from search.durable import CRASH_EXIT
from search.evaluate import Request
from search.found_set import best_trials
from search.location import ObjectUrl
from search.run_folder import open_run
from search.schema import SCHEMA_VERSION, TABLES
from search.store import Published, SchemaError, Store, StoreError, trial_key
from search.verification import verify_run
from tests.small_runs import assert_same_rows, drive_here, new_run

ROOT = Path(search.__file__).parents[1]


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    store = Store.create(root)
    for number in range(5):
        rows = [{"trial_id": f"t{number}", "arm": "mixed", "seed": seed, "accuracy": seed / 7} for seed in range(3)]
        store.publish("evaluations", f"t{number}", rows)
    store.publish("spectra", "nan", [{"trial_id": "t0", "density": [1.0, float("nan")]}, {"trial_id": "t1"}])
    return store


def rows_of(store, table="evaluations"):
    return store.read(table).to_pylist()


def plain(store):
    """What any reader of the folder sees: key and seed of each row."""
    frame = pd.read_parquet(store.root / "evaluations")
    return sorted(zip(frame["trial_id"], frame["seed"], strict=True))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def compact(store, table="evaluations", **options):
    return compact_table(store, table, sorted(store.keys(table)), **options)


# What is there before is there afterwards


def test_one_file_has_the_rows_keys_and_every_column_of_the_parts(store):
    before, keys = rows_of(store), store.keys("evaluations")
    done = compact(store)
    assert (done.parts, done.rows) == (5, 15)
    assert names(store.root / "evaluations") == [COMPACTED]
    assert names(done.replaced) == [f"part-t{number}.parquet" for number in range(5)]
    assert rows_of(store) == before
    assert store.keys("evaluations") == keys
    assert plain(store) == [(f"t{number}", seed) for number in range(5) for seed in range(3)]
    assert pq.read_schema(store.root / "evaluations" / COMPACTED).equals(TABLES["evaluations"])
    assert store.check("evaluations", deep=True) == []


def test_lists_with_nan_are_found_equal(store):
    assert compact(store, "spectra").rows == 2
    lists = store.read("spectra", columns=["density"])["density"].to_pylist()
    assert (str(lists[0]), lists[1]) == ("[1.0, nan]", None)


def test_rows_of_some_keys_are_read_from_it(store, monkeypatch):
    monkeypatch.setattr("search.compacted.ROWS_IN_GROUP", 4)
    monkeypatch.setattr("search.compaction.ROWS_IN_GROUP", 4)
    compact(store)
    store.publish("evaluations", "t9", [{"trial_id": "t9", "seed": 9}])
    rows, bad = store.read_checked("evaluations", columns=["trial_id", "seed"], keys=["t3", "t9", "t1", "t8"])
    found = [(row["trial_id"], row["seed"]) for row in rows.to_pylist()]
    assert found == [("t1", 0), ("t1", 1), ("t1", 2), ("t3", 0), ("t3", 1), ("t3", 2), ("t9", 9)]
    assert [(one.path.name, one.reason) for one in bad] == [("part-t8.parquet", "it is not there")]


def test_a_key_that_it_holds_cannot_be_published_again(store):
    compact(store)
    assert store.publish("evaluations", "t0", [{"trial_id": "t0", "seed": 77}]) is Published.ALREADY_THERE
    assert (77 in pd.read_parquet(store.root / "evaluations")["seed"].tolist()) is False
    with pytest.raises(SchemaError, match="not be compacted"):
        store.publish("evaluations", "compacted", [{}])


def test_later_parts_stand_beside_it_and_join_it_next_time(store):
    first = compact(store)
    store.publish("evaluations", "a-later", [{"trial_id": "t9", "seed": 9}])
    assert len(plain(store)) == 16
    again = compact(store)
    assert (again.parts, again.rows) == (1, 16)
    assert names(store.root / "evaluations") == [COMPACTED]
    assert names(again.replaced) == ["part-a-later.parquet", COMPACTED]
    assert first.replaced.exists()
    assert len(plain(store)) == 16
    assert store.keys("evaluations") == {*(f"t{number}" for number in range(5)), "a-later"}
    nothing = compact(store, remove_parts=True)
    assert (nothing.parts, nothing.rows, nothing.replaced) == (0, 16, None)
    assert names(store.root / "replaced") == []
    assert len(plain(store)) == 16


def test_parts_that_are_not_asked_for_stay_parts(store):
    done = compact_table(store, "evaluations", ["t0", "t1"])
    assert names(store.root / "evaluations") == [COMPACTED, "part-t2.parquet", "part-t3.parquet", "part-t4.parquet"]
    assert names(done.replaced) == ["part-t0.parquet", "part-t1.parquet"]
    assert len(plain(store)) == 15


def test_rows_of_an_older_schema_keep_their_version_and_gain_empty_columns(store):
    old = pa.table({"trial_id": ["old"], "seed": [4], "schema_version": [SCHEMA_VERSION - 1]})
    pq.write_table(old, store.root / "evaluations" / "part-old.parquet")
    compact(store)
    versions = {row["trial_id"]: row["schema_version"] for row in rows_of(store)}
    assert (versions["old"], versions["t0"]) == (SCHEMA_VERSION - 1, SCHEMA_VERSION)


def test_a_file_of_an_older_schema_is_read_with_empty_columns(store, monkeypatch):
    names = [name for name in TABLES["evaluations"].names if name not in ("metric", "diverged")]
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "evaluations", pa.schema([TABLES["evaluations"].field(name) for name in names]))
        compact(store)
    assert len(pq.read_schema(store.root / "evaluations" / COMPACTED)) == len(names)
    for coded in (False, True):
        rows, bad = store.read_checked("evaluations", columns=["metric", "arm", "diverged"], dictionaries=coded)
        assert (set(rows["arm"].to_pylist()), set(rows["metric"].to_pylist()), bad) == ({"mixed"}, {None}, [])


# What must not happen

CODE = """
import sys; from pathlib import Path
from search.compaction import compact_table; from search.store import Store
store = Store(Path(sys.argv[1]))
compact_table(store, "evaluations", sorted(store.keys("evaluations")), remove_parts=len(sys.argv) > 2)
"""


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("point", COMPACTION_CRASH_POINTS)
def test_a_crash_at_any_step_leaves_every_row_once_and_is_made_good(store, point, earlier):
    if earlier:
        compact(store)
        store.publish("evaluations", "t9", [{"trial_id": "t9", "seed": 9}])
    before, keys, seen = rows_of(store), store.keys("evaluations"), plain(store)
    environment = {**os.environ, "LDNN_CRASH_POINT": f"{point}@evaluations"}
    crashed = subprocess.run([sys.executable, "-c", CODE, str(store.root), "remove"], cwd=ROOT, env=environment)
    assert crashed.returncode == CRASH_EXIT
    for _ in range(2):
        assert sorted(rows_of(store), key=str) == sorted(before, key=str)
        assert store.keys("evaluations") == keys
        assert plain(store) == seen
        assert store.repair() + store.sweep_orphans() == []
        compact(store)
    assert names(store.root / "evaluations") == [COMPACTED]
    # Old parts are never removed but on request; an unfinished copy is.
    kept = {path.name for path in (store.root / "replaced").rglob("*.parquet")}
    assert kept == (
        set() if point == "removed" else {f"part-{key}.parquet" for key in keys} | ({COMPACTED} if earlier else set())
    )
    compact(store, remove_parts=True)
    assert names(store.root / "replaced") == []


def test_a_damaged_part_is_not_compacted(store):
    path = store.root / "evaluations" / "part-t3.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"a damaged part cannot be compacted: .*part-t3.parquet"):
        compact(store)
    assert len(names(store.root / "evaluations")) == 5


def test_a_run_with_a_damaged_part_in_any_table_is_left_as_it_is_and_resumed(tmp_path):
    run = new_run(tmp_path, method="gradient", search={"trials": 1}, evaluation={"best": 0})
    drive_here(run)
    path = run.path / "steps" / "part-gradient-0000-a0.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"a damaged part cannot be compacted: .*steps/part-gradient-0000"):
        compact_run(run)
    assert names(run.path / "trials") == ["part-gradient-0000-a0.parquet"]
    account, _ = drive_here(run)
    assert (len(account.quarantined), account.finished) == (3, 1)
    assert verify_run(run).is_sound


def test_the_damaged_steps_of_a_compacted_trial_are_put_aside(tmp_path):
    run = new_run(tmp_path, method="gradient", search={"trials": 1}, evaluation={"best": 0})
    drive_here(run)
    compact_table(run.store, "trials", run.store.keys("trials"))
    path = run.path / "steps" / "part-gradient-0000-a0.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    account, _ = drive_here(run)
    assert [one.table for one in account.quarantined] == ["steps"]


def test_a_copy_that_reads_otherwise_replaces_nothing(store, monkeypatch):
    write = compaction.write
    monkeypatch.setattr(
        compaction,
        "write",
        lambda path, table, parts: write(path, table, list(parts)[:-1] or [({}, TABLES[table].empty_table())]),
    )
    with pytest.raises(StoreError, match=r"has other rows than the parts of evaluations: see to the disk. Nothing was"):
        compact(store)
    assert len(names(store.root / "evaluations")) == 5


def test_what_a_worker_publishes_at_the_last_moment_is_not_lost(store, monkeypatch):
    exchange = compaction._exchange

    def late(new, folder):
        store.publish("evaluations", "t9", [{"trial_id": "t9", "seed": 9}])
        exchange(new, folder)

    monkeypatch.setattr(compaction, "_exchange", late)
    compact(store)
    assert ("t9", 9) in plain(store)
    assert len(plain(store)) == 16


def test_where_it_cannot_be_done_it_is_refused(store, monkeypatch):
    with pytest.raises(CompactionError, match="only a run in a folder can be compacted, but got s3://bucket/run"):
        compact_table(Store(ObjectUrl("bucket", "run")), "evaluations", [])

    class NoSuchCall:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(compaction.ctypes, "CDLL", lambda *_, **__: NoSuchCall())
    with pytest.raises(CompactionError, match="must be able to exchange two folders in one step"):
        compact(store)
    assert len(names(store.root / "evaluations")) == 5


@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_anywhere_in_a_compacted_file_is_found(store, place, mask):
    path = store.root / "evaluations" / COMPACTED
    if not path.exists():
        compact(store)
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(place * len(sound))] ^= mask
    path.write_bytes(damaged)
    try:
        assert [bad.path for bad in store.check("evaluations")] == [path]
        rows, bad = store.read_checked("evaluations")
        assert (rows.num_rows, len(bad)) == (0, 1)
    finally:
        path.write_bytes(sound)


def test_a_damaged_compacted_file_is_said_and_not_thrown_away(store):
    done = compact(store)
    path = store.root / "evaluations" / COMPACTED
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"truncated.*Put a copy back; or, if .*replaced has the parts of evaluations"):
        store.repair()
    path.unlink()
    for old in done.replaced.iterdir():
        old.rename(store.root / "evaluations" / old.name)
    assert store.repair() == []
    assert len(plain(store)) == 15


def test_a_reader_that_has_listed_parts_finds_them_in_the_compacted_file(store, monkeypatch):
    names, calls = Store._names, []

    def listed(self, table):
        found = names(self, table)
        if not calls:
            calls.append(table)
            compact(store, remove_parts=True)
        return found

    monkeypatch.setattr(Store, "_names", listed)
    rows, bad = store.read_checked("evaluations")
    assert (rows.num_rows, bad) == (15, [])


# Whole runs


def test_a_compacted_run_is_resumed_evaluated_and_reads_the_same(tmp_path):
    run = new_run(tmp_path)
    drive_here(run)
    other = tmp_path / "kept"
    shutil.copytree(run.path, other)
    done = {one.table: one.parts for one in compact_run(run)}
    assert done["trials"] == done["steps"] == done["activations"] == 4
    assert_same_rows(run.path, other)
    account, listener = drive_here(run)
    assert (account.finished, account.quarantined, listener.finished) == (0, [], [])
    request = Request(tuple(best_trials(run.store, 1)), (6, 10, 12), (1,), 3)
    for folder in (run, open_run(other)):
        drive_here(folder, search=False, request=request)
    assert_same_rows(run.path, other)
    assert verify_run(run).is_sound
    compact_run(run, remove_parts=True)
    assert_same_rows(run.path, other)
    assert verify_run(run).findings == ()


def test_parts_of_an_attempt_that_has_not_finished_stay_parts(tmp_path):
    run = new_run(tmp_path)
    for key, status in (("gradient-0000", "ok"), ("gradient-0001", "failed"), ("gradient-0002", None)):
        own = {"trial_id": key, "attempt": 0, "run_id": run.info.run_id}
        run.store.publish("steps", trial_key(key, 0), [{**own, "step": 0}])
        run.store.publish("activations", trial_key(key, 0), [{**own, "step": 0, "type_index": 0}])
        if status:
            run.store.publish("trials", trial_key(key, 0), [{**own, "status": status}])
    compact_run(run)
    loose = ["part-gradient-0001-a0.parquet", "part-gradient-0002-a0.parquet"]
    assert names(run.path / "steps") == [COMPACTED, *loose]
    assert names(run.path / "trials") == [COMPACTED]
    assert run.store.repair() == []
    assert [one.path.name for one in run.store.sweep_orphans()] == loose * 2
    compact_run(run)
    assert names(run.path / "replaced" / "steps-1") == ["part-gradient-0000-a0.parquet"]
