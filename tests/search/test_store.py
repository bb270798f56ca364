import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import search
from search import twin
from search.durable import CRASH_EXIT, CRASH_POINTS
from search.runs import spread
from search.schema import SCHEMA_VERSION, TABLES
from search.store import MOVE_CRASH_POINTS, Published, SchemaError, Store, StoreError, read_table, trial_key

ROOT = Path(search.__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "run"
    root.mkdir()
    return Store.create(root)


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def trial(store: Store, trial_id: str, attempt: int = 0, status: str = "ok") -> None:
    """Publish a trial's three parts in their order."""
    key = trial_key(trial_id, attempt)
    row = {"trial_id": trial_id, "attempt": attempt}
    store.publish("steps", key, [{**row, "step": step} for step in range(3)])
    store.publish("activations", key, [{**row, "step": 2, "type_index": 0, "genome": [1.0, 2.0]}])
    store.publish("trials", key, [{**row, "status": status, "score": 0.5}])


def part(store: Store, table: str, key: str) -> Path:
    return store.root / table / f"part-{key}.parquet"


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


# Publishing and reading


def test_the_first_part_of_a_key_stands_and_the_second_is_told(store: Store) -> None:
    assert store.publish("trials", "a-a0", [{"trial_id": "a", "score": 0.5}]) is Published.NEW
    assert store.publish("trials", "a-a0", [{"trial_id": "a", "score": 0.9}]) is Published.ALREADY_THERE
    assert store.read("trials", columns=["score"]).to_pylist() == [{"score": 0.5}]
    assert store.keys("trials") == {"a-a0"}
    assert list((store.root / ".staging").iterdir()) == []


def test_parts_come_in_the_order_of_their_names_and_by_key(store: Store) -> None:
    for key in ("b", "c", "a"):
        store.publish("spectra", key, [{"arm": key}])
    assert store.read("spectra", columns=["arm"])["arm"].to_pylist() == ["a", "b", "c"]
    some, bad = store.read_checked("spectra", columns=["arm"], keys=["c", "x", "a", "a"])
    assert some["arm"].to_pylist() == ["a", "c"]
    assert [(one.path.name, one.reason) for one in bad] == [("part-x.parquet", "it is not there")]


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_table_has_every_column(store: Store, table: str) -> None:
    assert store.read(table).schema.equals(TABLES[table], check_metadata=True)
    (store.root / table).rmdir()
    assert read_table(str(store.root), table) == (TABLES[table].empty_table(), [])
    assert store.keys(table) == set()


@pytest.mark.parametrize("table", TABLES)
def test_plain_pandas_reads_every_column(store: Store, table: str) -> None:
    # Each part has a cell in another column, and the first part has none at all.
    store.publish(table, "0", [{}])
    filled = {"trial_id": "a", "task": "mnist1d", "seed": 3, "method": "gradient"}
    for number, (name, value) in enumerate(filled.items(), 1):
        store.publish(table, str(number), [{name: value}])
    frame = pd.read_parquet(store.root / table)
    assert list(frame.columns) == TABLES[table].names
    for name, value in filled.items():
        assert frame[name].dropna().tolist() == [value]
    assert frame["schema_version"].eq(SCHEMA_VERSION).all()
    assert frame["created_at"].dt.tz is not None


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "-a", "a b", "a\n", "x" * 129, "ä"])
def test_a_key_that_is_no_plain_name_is_refused(store: Store, key: str) -> None:
    with pytest.raises(SchemaError, match="a part's key must match"):
        store.publish("trials", key, [{}])
    with pytest.raises(SchemaError, match="a part's key must match"):
        store.read_checked("trials", keys=[key])


def test_unknown_tables_columns_and_bad_numbers_are_refused(store: Store) -> None:
    with pytest.raises(SchemaError, match=r"unknown table '../trials': did you mean 'trials'"):
        store.publish("../trials", "a", [{}])
    with pytest.raises(SchemaError, match="unknown table 'step': did you mean 'steps'"):
        store.keys("step")
    with pytest.raises(SchemaError, match="unknown column of evaluations 'acuracy': did you mean 'accuracy'"):
        store.read("evaluations", columns=["acuracy"])
    with pytest.raises(SchemaError, match=r"evaluations.accuracy must be a finite number or null"):
        store.publish("evaluations", "a", [{"accuracy": float("nan")}])
    assert store.keys("evaluations") == set()


def test_the_store_needs_only_pyarrow(store: Store) -> None:
    store.publish("trials", "a", [{}])
    heavy = ("ray", "torch", "optuna", "pydantic", "scipy", "filelock", "numba", "rich", "typer")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}))\n"
        "from search.store import read_table; print(read_table(sys.argv[1], 'trials')[0].num_rows)"
    )
    assert start(code, store.root).communicate()[0] == "1\n"


# Folders that are full, gone or closed


def test_a_vanished_run_folder_is_said_at_once(store: Store) -> None:
    shutil.rmtree(store.root)
    for action in (
        lambda: store.publish("trials", "a", [{}]),
        lambda: store.read("trials"),
        lambda: store.keys("trials"),
        store.repair,
        store.sweep_orphans,
        lambda: Store.create(store.root),
    ):
        with pytest.raises(StoreError, match=r"No such file or directory. A folder of the run is missing: put it back"):
            action()


def test_a_vanished_table_is_not_made_again_in_silence(store: Store) -> None:
    (store.root / "trials").rmdir()
    with pytest.raises(StoreError, match=r"could not publish part-a.parquet in .*trials: No such file or directory"):
        store.publish("trials", "a", [{}])
    assert list((store.root / ".staging").iterdir()) == []


def test_a_missing_staging_folder_is_made_again(store: Store) -> None:
    (store.root / ".staging").rmdir()
    assert store.publish("trials", "a", [{}]) is Published.NEW


def test_a_full_disk_publishes_nothing_and_the_rows_fit_later(store: Store) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from search.store import Store, StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: Store(Path(sys.argv[1])).publish('trials', 'a', [{'score': 0.5}])\n"
        "except StoreError as error: print(error)\n"
    )
    said, _ = start(code, store.root).communicate()
    assert "could not publish part-a.parquet" in said
    assert "is full: free some space, then `ldnn resume`" in said
    assert store.keys("trials") == set()
    assert list((store.root / ".staging").iterdir()) == []
    assert store.publish("trials", "a", [{"score": 0.5}]) is Published.NEW


def test_a_note_is_replaced_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.storage.replace("notes/a.json", b"first")
    seen = []

    def write(descriptor: int, mode: str) -> Any:
        seen.append(store.storage.read("notes/a.json"))
        os.close(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(store.root.rglob("*"))
    monkeypatch.setattr(os, "fdopen", write)
    with pytest.raises(OSError, match="No space left"):
        store.storage.replace("notes/a.json", b"second")
    assert seen == [b"first"]
    assert store.storage.read("notes/a.json") == b"first"
    assert sorted(store.root.rglob("*")) == before


def test_a_part_that_cannot_be_opened_is_no_bad_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish("trials", "a", [{}])

    def no_more_handles(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", no_more_handles)
    with pytest.raises(StoreError, match=r"could not read .*part-a.parquet: Too many open files"):
        store.repair()


# Writers that race or die

RACER = """
import sys; from pathlib import Path; from search.store import Store, Published
store = Store(Path(sys.argv[1]))
for number in range(30):
    if store.publish("trials", f"t{number}", [{"error": sys.argv[2]}]) is Published.NEW:
        print(number)
"""


def test_one_of_two_racing_writers_wins_each_key(store: Store) -> None:
    racers = {name: start(RACER, store.root, name) for name in ("one", "two")}
    won = {name: set(map(int, racer.communicate()[0].split())) for name, racer in racers.items()}
    assert won["one"] | won["two"] == set(range(30))
    assert won["one"] & won["two"] == set()
    for name, numbers in won.items():
        rows = store.read_checked("trials", keys=[f"t{number}" for number in numbers])[0]
        assert rows["error"].to_pylist() == [name] * len(numbers)


WRITER = """
import sys; from pathlib import Path; from search.store import Store
store = Store(Path(sys.argv[1]))
for number in range(10**6):
    key = f"{sys.argv[2]}-{number}"
    store.publish("evaluations", key, [{"arm": key, "seed": seed} for seed in range(20)])
    print(key, flush=True)
"""


def test_what_killed_writers_said_was_published_is_there(store: Store) -> None:
    writers = [start(WRITER, store.root, name) for name in "abcd"]
    said: set[str] = set()
    for writer in writers:
        assert writer.stdout is not None
        said.add(writer.stdout.readline().strip())
    for writer in writers:
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
    said |= {line for writer in writers for line in writer.communicate()[0].split()}
    assert said <= store.keys("evaluations")
    rows = store.read("evaluations", columns=["arm", "seed"]).to_pandas()
    assert (rows.groupby("arm")["seed"].apply(sorted).map(lambda seeds: seeds == list(range(20)))).all()
    assert said <= set(rows["arm"])


PUBLISHER = """
import sys; from pathlib import Path; from search.store import Store
print(Store(Path(sys.argv[1])).publish("trials", "a", [{"trial_id": "a", "score": 0.5}]))
"""


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_step_of_publishing_leaves_all_or_nothing(store: Store, point: str) -> None:
    crashed = start(PUBLISHER, store.root, LDNN_CRASH_POINT=f"{point}@trials/part-a")
    assert crashed.communicate() == ("", None)
    assert crashed.returncode == CRASH_EXIT
    is_there = point in ("linked", "unlinked", "published")
    assert store.keys("trials") == ({"a"} if is_there else set())
    assert store.read("trials").num_rows == int(is_there)
    again = store.publish("trials", "a", [{"trial_id": "a", "score": 0.5}])
    assert again is (Published.ALREADY_THERE if is_there else Published.NEW)
    rows = store.read("trials", columns=["trial_id", "score"]).to_pylist()
    assert rows == [{"trial_id": "a", "score": 0.5}]
    # What was left aside is cleared once no writer can still want it.
    for left in (store.root / ".staging").iterdir():
        os.utime(left, (0, 0))
    assert store.repair() == []
    assert list((store.root / ".staging").iterdir()) == []


def test_repair_leaves_fresh_files_aside_alone(store: Store) -> None:
    fresh = (store.root / ".staging") / "trials-part-a.parquet.0123"
    fresh.touch()
    store.repair()
    assert fresh.exists()
    ((store.root / ".staging") / "folder").mkdir()
    os.utime((store.root / ".staging") / "folder", (0, 0))
    with pytest.raises(StoreError, match=r"could not clear .*\.staging: Is a directory"):
        store.repair()


# Damaged and orphaned parts


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(twin._MARK) - 100] ^= 4
    path.write_bytes(data)


def retype(path: Path) -> None:
    pq.write_table(pa.table({"arm": [1.5], "schema_version": [SCHEMA_VERSION]}), path)


def link(path: Path) -> None:
    path.rename(path.with_name(".elsewhere"))
    path.symlink_to(".elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (truncate, "it is truncated, or no Parquet file"),
        (empty, "it is empty"),
        (flip, "its bytes have changed since it was written: the seal does not match"),
        (retype, "its column arm has the type double, but the schema says string"),
        (link, "it is not a regular file"),
        (pipe, "it is not a regular file"),
        (lambda path: path.rename(path.with_name("mine.parquet")), "its name is not part-<key>.parquet"),
    ],
)
def test_a_bad_part_is_left_out_said_and_quarantined(store: Store, fault: Any, reason: str) -> None:
    for key in ("a", "b", "c"):
        store.publish("evaluations", key, [{"arm": key}])
    fault(part(store, "evaluations", "b"))
    rows, bad = read_table(store.root, "evaluations", columns=["arm"])
    assert rows["arm"].to_pylist() == ["a", "c"]
    assert [one.reason for one in bad] == [reason]
    assert bad[0].path.parent == store.root / "evaluations"
    assert str(bad[0]) == f"{bad[0].path} ({bad[0].size} bytes): {reason}"
    assert store.check("evaluations") == bad
    with pytest.raises(StoreError, match=r"evaluations has damaged parts: .*\. `ldnn resume .*` moves them"):
        store.read("evaluations")

    moved = store.repair()
    assert [(one.table, one.reason, one.size) for one in moved] == [("evaluations", reason, bad[0].size)]
    assert moved[0].path == store.root / "quarantine" / "evaluations" / bad[0].path.name
    report = json.loads(Path(f"{moved[0].path}.json").read_text())
    assert report.pop("moved_at").endswith("+00:00")
    assert report == {"table": "evaluations", "part": bad[0].path.name, "reason": reason, "size": bad[0].size}
    assert store.read("evaluations", columns=["arm"])["arm"].to_pylist() == ["a", "c"]
    assert store.publish("evaluations", "b", [{"arm": "b"}]) is Published.NEW
    assert len(pd.read_parquet(store.root / "evaluations")) == 3


def test_a_part_damaged_outside_its_twin_is_read_and_found_when_looked_over(store: Store) -> None:
    for key in ("a", "b"):
        store.publish("evaluations", key, [{"arm": key}])
    path = part(store, "evaluations", "b")
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    assert store.read("evaluations", columns=["arm"])["arm"].to_pylist() == ["a", "b"]
    [bad] = store.check("evaluations")
    assert (bad.path, bad.reason) == (path, "its bytes have changed since it was written: the seal does not match")
    assert [one.reason for one in store.repair()] == [bad.reason]


def forged(data: bytes, said: bytes, instead: bytes) -> bytes:
    """A twin that says something else, with all sums and sizes as they then must be."""
    content, end = data[: -twin._TRAILER.size], data[-twin._TRAILER.size :]
    fingerprint, size, lists = twin._SIZES.unpack(end[: twin._SIZES.size])
    assert content[-size:].count(said) == 1
    words = content[-size:].replace(said, instead)
    content = content[:-size] + words + twin._SIZES.pack(fingerprint, len(words), lists)
    return content + hashlib.sha256(content).digest() + twin._MARK


def test_of_many_parts_the_one_with_a_wrong_twin_is_left_out(store, monkeypatch):
    pack, short = twin.pack, (b'["relu","tanh"]', b'["relu"       ]')
    for key in "abc":
        with monkeypatch.context() as patch:
            if key == "b":  # whole, sealed, and with a text that is not in its list
                patch.setattr(twin, "pack", lambda *args, **_: forged(pack(*args, place=0), *short))
            store.publish("evaluations", key, [{"trial_id": key, "arm": arm} for arm in ("relu", "tanh")])
    for runs in (False, True):
        rows, [bad] = store.read_checked("evaluations", columns=["trial_id", "arm"], runs=runs)
        assert spread(rows["trial_id"]).to_pylist() == ["a", "a", "c", "c"]
        assert bad.path.name == "part-b.parquet"
        assert bad.reason == "its twin cannot be read: a text has a place outside the list of texts"
        assert bad.size == bad.path.stat().st_size


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        (b'"rows":2', b'"rows":2000000000000'),  # more than there is memory for
        (b'"rows":2', b'"rows":%d' % 10**30),
        (b'"rows":2', b'"rows":"2"'),
        (b",7]", b",%d]" % 2**70),
        (b",7]", b',"7"]'),
    ],
)
def test_a_twin_that_says_what_cannot_be_is_left_out(store, monkeypatch, said, instead):
    pack = twin.pack
    with monkeypatch.context() as patch:
        patch.setattr(twin, "pack", lambda *args, **_: forged(pack(*args, place=0), said, instead))
        store.publish("initial_variance", "a", [{"seed": 7}] * 2)
    store.publish("initial_variance", "b", [{"seed": 8}] * 2)
    rows, [bad] = store.read_checked("initial_variance", columns=["seed"])
    assert rows["seed"].to_pylist() == [8, 8]
    assert bad.reason.startswith("its twin cannot be read: ")


def test_quarantine_keeps_what_it_has(store: Store) -> None:
    for _ in range(3):
        store.publish("spectra", "a", [{}])
        damage(part(store, "spectra", "a"))
        store.repair()
    names = sorted(path.name for path in (store.root / "quarantine" / "spectra").iterdir())
    assert names == sorted(f"part-a.parquet{n}{end}" for n in ("", ".1", ".2") for end in ("", ".json"))


def test_several_bad_parts_are_counted(store: Store) -> None:
    for key in ("a", "b", "c"):
        store.publish("spectra", key, [{}])
        damage(part(store, "spectra", key))
    with pytest.raises(StoreError, match=r"part-a.parquet .* and 2 more"):
        store.read("spectra")


def test_a_quarantine_that_cannot_be_written_is_said(store: Store) -> None:
    store.publish("spectra", "a", [{}])
    damage(part(store, "spectra", "a"))
    (store.root / "quarantine").rmdir()
    (store.root / "quarantine").touch()
    with pytest.raises(StoreError, match=r"could not move .*part-a.parquet to .*quarantine"):
        store.repair()
    assert part(store, "spectra", "a").exists()


def test_a_newer_part_is_refused_and_stays(store: Store) -> None:
    store.publish("trials", "a", [{"schema_version": SCHEMA_VERSION + 1}])
    newer = f"part-a.parquet has schema version {SCHEMA_VERSION + 1}, but this version of ldnn reads up to"
    for action in (lambda: store.read("trials"), store.repair, lambda: read_table(store.root, "trials")):
        with pytest.raises(StoreError, match=newer):
            action()
    assert store.keys("trials") == {"a"}


def test_an_older_part_is_filled_with_nulls(store: Store) -> None:
    pq.write_table(pa.table({"arm": ["relu"], "schema_version": [SCHEMA_VERSION - 1]}), part(store, "spectra", "old"))
    store.publish("spectra", "new", [{"arm": "sin", "seed": 1}])
    assert store.repair() == []
    rows = store.read("spectra", columns=["arm", "seed"]).to_pylist()
    assert rows == [{"arm": "sin", "seed": 1}, {"arm": "relu", "seed": None}]


@pytest.mark.parametrize("table", ["steps", "activations", "trials"])
def test_a_trial_with_a_damaged_part_goes_as_one(store: Store, table: str) -> None:
    trial(store, "gradient-0000")
    trial(store, "gradient-0001")
    damage(part(store, table, "gradient-0001-a0"))
    moved = store.repair() + store.sweep_orphans()
    assert sorted(one.table for one in moved) == ["activations", "steps", "trials"]
    for name in ("trials", "steps", "activations"):
        assert store.keys(name) == {"gradient-0000-a0"}
    trial(store, "gradient-0001")
    assert store.read("steps").num_rows == 6
    assert store.repair() + store.sweep_orphans() == []


def test_both_tables_of_a_trial_may_be_damaged(store: Store) -> None:
    trial(store, "a")
    damage(part(store, "steps", "a-a0"))
    damage(part(store, "activations", "a-a0"))
    assert [one.table for one in store.repair()] == ["trials", "steps", "activations"]


def test_parts_of_attempts_that_did_not_finish_are_swept(store: Store) -> None:
    trial(store, "ok-0", attempt=1)
    trial(store, "diverged-0", status="diverged")
    trial(store, "failed-0", status="failed")
    trial(store, "dead-0")
    part(store, "trials", "dead-0-a0").unlink()
    store.publish("steps", "ok-0-a0", [{"trial_id": "ok-0", "attempt": 0}])
    swept = store.sweep_orphans()
    assert {(one.table, one.path.name) for one in swept} == {
        ("steps", "part-ok-0-a0.parquet"),
        *((table, f"part-{name}-0-a0.parquet") for table in ("steps", "activations") for name in ("failed", "dead")),
    }
    assert {one.reason for one in swept} == {
        "its attempt did not finish: trials has no row of it with the status ok, diverged or pruned"
    }
    assert store.keys("steps") == store.keys("activations") == {"ok-0-a1", "diverged-0-a0"}
    assert store.keys("trials") == {"ok-0-a1", "diverged-0-a0", "failed-0-a0"}
    assert store.sweep_orphans() == []


def test_orphans_are_not_swept_by_a_damaged_table_of_trials(store: Store) -> None:
    trial(store, "a")
    damage(part(store, "trials", "a-a0"))
    with pytest.raises(StoreError, match="trials has damaged parts"):
        store.sweep_orphans()
    assert store.keys("steps") == {"a-a0"}


REPAIRER = """
import sys; from pathlib import Path; from search.store import Store
store = Store(Path(sys.argv[1])); store.repair(); store.sweep_orphans()
"""


@pytest.mark.parametrize("point", MOVE_CRASH_POINTS)
@pytest.mark.parametrize("table", ["trials", "steps", "activations"])
def test_a_crash_while_repairing_is_made_good_by_the_next_repair(store: Store, point: str, table: str) -> None:
    trial(store, "a")
    damage(part(store, "steps", "a-a0"))
    crashed = start(REPAIRER, store.root, LDNN_CRASH_POINT=f"{point}@{table}")
    crashed.communicate()
    assert crashed.returncode == CRASH_EXIT
    store.repair()
    store.sweep_orphans()
    for name in ("trials", "steps", "activations"):
        assert store.keys(name) == set()
        assert sorted(path.name for path in (store.root / "quarantine" / name).iterdir()) == [
            "part-a-a0.parquet",
            "part-a-a0.parquet.json",
        ]


# Finding one trial among many


def test_the_attempts_at_a_trial_are_known_by_their_names(store):
    for trial_id, attempt in (("gradient-0001", 0), ("gradient-0001", 1), ("gradient-00010", 0), ("gradient-0010", 0)):
        trial(store, trial_id, attempt)
    assert store.attempts("gradient-0001") == ["gradient-0001-a0", "gradient-0001-a1"]
    assert store.attempts("gradient-0002") == []
    # Another part is not even looked at: its damage is no matter here.
    damage(part(store, "trials", "gradient-0010-a0"))
    rows = store.read("trials", columns=["trial_id", "attempt"], keys=store.attempts("gradient-0001"))
    assert rows.to_pylist() == [{"trial_id": "gradient-0001", "attempt": attempt} for attempt in (0, 1)]
    with pytest.raises(StoreError, match="trials has damaged parts"):
        store.read("trials", keys=store.attempts("gradient-0010"))


def test_only_folders_of_tables_that_were_added_later_are_made_again(store):
    for table in ("initial_variance", "spectral_bias", "steps"):
        (store.root / table).rmdir()
    store.make_added_folders()
    assert (store.root / "initial_variance").is_dir()
    assert (store.root / "spectral_bias").is_dir()
    assert not (store.root / "steps").exists()
    with pytest.raises(StoreError, match="make the tables' folders"):
        Store(store.root / "nowhere").make_added_folders()
