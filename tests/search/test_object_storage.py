"""A run in an object store: the same rows as in a folder, whatever interrupts it, and one driver at a time."""

import json
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from search import checkpoint, driver_claim, object_storage
from search.config import canonical
from search.driver_claim import FOLDER, Claim, this_process
from search.driver_lock import LeftBehindError, driver_lock, require_driver
from search.durable import CRASH_EXIT, StoreError
from search.keeper import Keeper
from search.leg import Leg
from search.lineage import revise
from search.location import LocationError, ObjectUrl, parse_location
from search.object_storage import ObjectStorage, endpoint_options
from search.provenance import config_hash
from search.run_folder import RunFolderError, create, open_run
from search.schema import Status
from search.storage import storage_at
from search.store import Published, SchemaError, Store
from search.trial import run_trial
from tests.search.s3_server import SECRET, s3_server
from tests.search.test_checkpoint import trial
from tests.small_runs import drive_here, rows_of, tiny_run, tiny_trial

ROOT = Path(__file__).resolve().parents[2]
UNITS = 10
DRIVE = """
import sys
from search.location import parse_location
from search.run_folder import open_run
from tests.small_runs import drive_here
drive_here(open_run(parse_location(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as url:
        yield parse_location(url)


@pytest.fixture
def place(bucket):
    return bucket / uuid.uuid4().hex


@pytest.fixture
def run(place):
    config = tiny_run()
    return create(place, config.name, config.model_dump(mode="json"), seed=config.seed)


def assert_same(found, expected):
    for table in ("trials", "steps", "activations", "evaluations"):
        pd.testing.assert_frame_equal(rows_of(found, table), rows_of(expected, table), check_exact=True, obj=table)


class TestAddresses:
    def test_an_address_is_joined_like_a_path(self):
        url = parse_location("s3://bucket/a/b/")
        assert url == ObjectUrl("bucket", "a/b")
        assert (str(url / "c"), (url / "c").name, url.parent) == ("s3://bucket/a/b/c", "c", ObjectUrl("bucket", "a"))
        assert str(parse_location("s3://bucket") / "c") == "s3://bucket/c"
        assert parse_location("runs/x") == Path("runs/x")

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("gs://bucket/a", "must start with s3://, but got gs://"),
            ("s3://AKIA:secret@bucket/a", "credentials come from the standard chain"),
            ("s3://bucket/a?secret_key=secret", "credentials come from the standard chain"),
            ("s3://B/a", "a bucket must have"),
            ("s3:///a", "a bucket must have"),
            ("s3://bucket/a//b", "a part of a prefix must have"),
            ("s3://bucket/../a", "a part of a prefix must have"),
        ],
    )
    def test_what_is_no_address_is_refused_without_repeating_a_secret(self, address, words):
        with pytest.raises(LocationError, match=words) as refused:
            parse_location(address)
        assert "secret@" not in str(refused.value)
        assert "=secret" not in str(refused.value)

    def test_plain_http_is_for_loopback_alone(self):
        assert endpoint_options(None) == {}
        assert endpoint_options("https://store.example:9000/") == {
            "endpoint_override": "store.example:9000",
            "scheme": "https",
        }
        assert endpoint_options("http://[::1]:9000")["scheme"] == "http"
        with pytest.raises(
            LocationError, match=r"plain http is for endpoints on loopback only, but got http://10\.0\.0\.1"
        ):
            endpoint_options("http://10.0.0.1:9000")
        with pytest.raises(LocationError, match="must be https://HOST") as refused:
            endpoint_options("https://key:secret@store.example")
        assert "secret" not in str(refused.value)


class TestObjects:
    def test_an_object_is_placed_once(self, place):
        storage = storage_at(place)
        assert storage.place_once("trials/a", b"first")
        assert not storage.place_once("trials/a", b"second")
        assert storage.read("trials/a") == b"first"
        assert (storage.size("trials/a"), storage.size("trials"), storage.size("none")) == (5, None, None)
        assert (storage.names("trials"), storage.names(""), storage.names("steps")) == (["a"], ["trials"], [])
        storage.replace("trials/a", b"third!")
        storage.move("trials/a", "quarantine/trials/a")
        assert storage.read("quarantine/trials/a") == b"third!"
        assert storage.names("trials") == []
        assert sum(storage.bytes_by_folder().values()) == 6
        with pytest.raises(FileNotFoundError):
            storage.read("trials/a")

    def test_an_object_that_goes_while_it_is_read_is_not_there(self, place, monkeypatch):
        storage = storage_at(place)
        storage.replace("trials/a", b"{}")
        files = storage._fs

        class Slow:
            def open_input_file(self, path):
                stream = files.open_input_file(path)
                storage.delete("trials/a")
                return stream

            def __getattr__(self, name):
                return getattr(files, name)

        monkeypatch.setattr(object_storage, "_file_system", lambda endpoint: Slow())
        with pytest.raises(FileNotFoundError, match="trials/a"):
            storage.read("trials/a")

    def test_parts_are_published_once_read_back_and_moved_when_damaged(self, run):
        row = {"trial_id": "t", "attempt": 0, "status": "failed"}
        assert run.store.publish("trials", "t-a0", [row]) is Published.NEW
        assert run.store.publish("trials", "t-a0", [row | {"status": "ok"}]) is Published.ALREADY_THERE
        assert run.store.read("trials", columns=["status"]).to_pylist() == [{"status": "failed"}]
        storage = run.store.storage
        storage.replace("trials/part-u-a0.parquet", storage.read("trials/part-t-a0.parquet")[:-9])
        storage.replace("trials/notes.txt", b"")
        moved = run.store.repair()
        assert sorted(part.path.name for part in moved) == ["notes.txt", "part-u-a0.parquet"]
        assert run.store.keys("trials") == {"t-a0"}
        report = json.loads(storage.read("quarantine/trials/part-u-a0.parquet.json"))
        assert "truncated" in report["reason"]
        with pytest.raises(SchemaError):
            run.store.publish("trials", "../x", [row])

    def test_checkpoints_lie_where_the_run_lies(self, run):
        stands = run_trial(trial("gradient"), leg=Leg(None, 0)).checkpoint
        assert checkpoint.rungs_reached(run.path) == {}
        checkpoint.save(run.path, "gradient-0000", "0" * 16, stands)
        assert checkpoint.rungs_reached(run.path) == {"gradient-0000": 0}
        found = checkpoint.latest(run.path, "gradient-0000", "0" * 16, 3)
        assert found.state.keys() == stands.state.keys() != set()
        checkpoint.clear(run.path, ["gradient-0001"])
        assert checkpoint.rungs_reached(run.path) == {"gradient-0000": 0}
        checkpoint.clear(run.path, ["gradient-0000"])
        assert checkpoint.rungs_reached(run.path) == {}

    def test_what_cannot_be_reached_is_said_with_the_way_out(self, place, monkeypatch):
        with pytest.raises(
            StoreError, match=r"could not publish s3://no-such-bucket/a/trials/part-t.parquet: .*See to"
        ):
            Store(ObjectUrl("no-such-bucket", "a")).publish("trials", "t", [])
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(StoreError, match=r"could not .*AWS_ENDPOINT_URL\) and the credentials, then `ldnn resume`"):
            create(place, "x", {}, seed=0)

    def test_a_run_is_made_once_and_only_where_nothing_else_is(self, run, place):
        config = tiny_run()
        with pytest.raises(RunFolderError, match="is a run already"):
            create(place, config.name, {}, seed=0)
        storage_at(place / "other").replace("notes.txt", b"mine")
        with pytest.raises(RunFolderError, match=r"is not a run, and holds notes\.txt"):
            create(place, "other", {}, seed=0)
        with pytest.raises(RunFolderError, match=r"is not a run: it has no run\.json"):
            open_run(place / "none")
        assert open_run(run.path) == run


class TestRuns:
    def test_a_driver_that_is_killed_loses_and_repeats_nothing(self, run, undisturbed, monkeypatch):
        monkeypatch.setenv("LDNN_CRASH_POINT", "published@activations/part-gradient-0001")
        died = subprocess.run([sys.executable, "-c", DRIVE, str(run.path)], cwd=ROOT, timeout=120)
        assert died.returncode == CRASH_EXIT
        monkeypatch.delenv("LDNN_CRASH_POINT")
        before = run.store.storage.written("trials")
        assert len(before) == 2
        account, told = drive_here(run)  # takes the place of the dead driver, whose claim still lies there
        assert (account.skipped, account.finished) == (2, UNITS - 2)
        assert "gradient-0000" not in told.finished
        assert [part.path.name for part in account.quarantined] == [
            "part-gradient-0001-a0.parquet",
            "part-gradient-0001-a0.parquet",
        ]
        assert before.items() <= run.store.storage.written("trials").items()
        assert run.store.storage.names(FOLDER) == []
        assert_same(run, undisturbed)
        everything = b"".join(
            run.store.storage.read(f"{folder}/{name}".lstrip("/"))
            for folder in ("", "trials", "evaluations")
            for name in run.store.storage.names(folder)
            if run.store.storage.size(f"{folder}/{name}".lstrip("/")) is not None
        )
        assert len(everything) > 10_000
        assert SECRET.encode() not in everything
        assert b"AKIA" not in everything


def others(run):
    return run.store.storage.names(FOLDER)


def claim_of(run, **changes):
    own = this_process("2026-01-01T00:00:00+00:00", "a-host")
    content = {**own.__dict__, "host": "another", **changes}
    name = f"{uuid.uuid4().hex}.json"
    run.store.storage.replace(f"{FOLDER}/{name}", json.dumps(content).encode())
    return name


class TestOneDriver:
    def test_a_second_driver_is_refused_naming_the_first(self, run):
        with (
            driver_lock(run) as before,
            pytest.raises(RunFolderError, match=r"is being driven by process \d+ on .*, last heard of 0 s ago"),
            driver_lock(run),
        ):
            pass
        assert before is None
        assert others(run) == []

    def test_of_two_that_start_together_at_most_one_drives(self, run):
        ready, driving, overlaps = threading.Barrier(4), [], []

        def drive():
            ready.wait()
            try:
                with driver_lock(run):
                    driving.append(1)
                    overlaps.append(len(driving))
                    threading.Event().wait(0.3)
                    driving.pop()
            except RunFolderError:
                pass

        threads = [threading.Thread(target=drive) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert set(overlaps) <= {1}
        assert others(run) == []

    def test_a_driver_of_another_machine_is_taken_over_only_after_its_silence(self, run, monkeypatch):
        name = claim_of(run, machine="another boot")
        with pytest.raises(RunFolderError, match="on another since 2026"), driver_lock(run):
            pass
        assert others(run) == [name]
        written = ObjectStorage.written
        monkeypatch.setattr(
            ObjectStorage,
            "written",
            lambda self, folder: {
                one: when - timedelta(seconds=121 if one == name else 0) for one, when in written(self, folder).items()
            },
        )
        with driver_lock(run) as before:
            assert before.host == "another"
            (own,) = others(run)
            assert json.loads(run.store.storage.read(f"{FOLDER}/{own}"))["took_over"] == [name]

    @pytest.mark.parametrize("content", [b"", b"[]", b"{"])
    def test_a_claim_that_cannot_be_read_is_a_living_one(self, run, content):
        run.store.storage.replace(f"{FOLDER}/torn.json", content)
        with pytest.raises(RunFolderError, match="driven by another process"), driver_lock(run):
            pass

    def test_only_a_process_of_this_machine_can_be_known_to_be_gone(self):
        own = this_process("now", "here")
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        gone = Claim("here", ended.pid, own.machine, "then")
        assert gone.is_gone(own)
        assert not Claim("there", ended.pid, own.machine, "then").is_gone(own)
        assert not Claim("here", ended.pid, "another boot", "then").is_gone(own)
        assert not Claim("here", ended.pid, None, "then").is_gone(own)
        assert not Claim("here", own.pid, own.machine, "then").is_gone(own)

    @pytest.mark.parametrize("how", ["removed", "said"])
    def test_a_driver_whose_place_was_taken_stops(self, run, monkeypatch, how):
        monkeypatch.setattr(driver_claim, "BEAT_SECONDS", 0.05)
        seen = threading.Event()

        def stop():
            if not seen.is_set():
                seen.set()
                (name,) = others(run)
                if how == "removed":
                    for _ in range(100):  # once is not enough: a beat that has just looked writes it again
                        with suppress(FileNotFoundError):
                            ObjectStorage(run.path).delete(f"{FOLDER}/{name}")
                        threading.Event().wait(0.02)
                else:
                    claim_of(run, took_over=[name])
                    threading.Event().wait(2.0)
            return False

        with pytest.raises(StoreError, match="was taken over by another driver while this one was silent"):
            drive_here(run, stop=stop)
        statuses = run.store.read("trials", columns=["status"])["status"].to_pylist()
        assert len(statuses) < 4
        assert set(statuses) <= {Status.OK}

    def test_a_run_that_was_made_twice_at_the_same_moment_is_not_driven_by_the_loser(self, run):
        content = json.loads(run.store.storage.read("run.json"))
        run.store.storage.replace("run.json", json.dumps(content | {"run_id": "tiny-another"}).encode())
        with pytest.raises(RunFolderError, match="was made again by another process meanwhile"), driver_lock(run):
            pass
        assert others(run) == []


def test_a_long_trial_goes_on_from_a_checkpoint_in_the_bucket(run):
    trial = tiny_trial("gradient", gradient={"outer_steps": 6, "estimator": "pes", "truncation": 2, "pairs": 2})
    name, root = config_hash(canonical(trial)), run.path
    kept = iter(range(10))

    def dies():
        if next(kept) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, keeper=Keeper(root, trial.trial_id, name, 1e-9, guard=dies))
    assert storage_at(root).names("checkpoints") == [f"gradient-0000-{name}-s{step}.safetensors" for step in (2, 3)]
    storage_at(root).replace(f"checkpoints/gradient-0000-{name}-s3.safetensors", b"torn")
    damaged = []
    start = checkpoint.latest(root, trial.trial_id, name, -1, step=9, damaged=damaged)
    assert (start.step, len(damaged)) == (2, 1)
    assert f"gradient-0000-{name}-s3.safetensors" in storage_at(root).names("quarantine/checkpoints")
    resumed, whole = run_trial(trial, leg=Leg(start)), run_trial(trial)
    assert (resumed.trial["score"], resumed.activations) == (whole.trial["score"], whole.activations)
    checkpoint.clear_all(root)
    assert storage_at(root).names("checkpoints") == []


def test_workers_of_a_bucket_know_whether_their_driver_still_has_it(run):
    with driver_lock(run, token="mine"):
        require_driver(run.path, "mine")
        with pytest.raises(LeftBehindError):
            require_driver(run.path, "another")
    with pytest.raises(LeftBehindError):
        require_driver(run.path, "mine")


def test_a_run_in_a_bucket_is_revised_and_says_what_lies_where(run):
    revise(run, run.info.config, reason="other code", changes=[])
    assert [one.number for one in open_run(run.path).revisions] == [1]
    by_folder = storage_at(run.path).bytes_by_folder()
    assert set(by_folder) == {".", "lineage"}
