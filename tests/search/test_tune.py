"""Units as Ray Tune trials: results, deaths, stops, addresses, and what is left behind."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ray import tune

from search import ray_setup
from search.booking import Booking
from search.ledger import Ledger
from search.limits import Deadline
from search.plan import ListPlan, Outcome, Unit
from search.ray_setup import ClusterError, check_resources, cluster_nodes
from search.schema import Status
from search.tune import _Starts, _UnitScheduler, run_with_ray
from tests.processes import family
from tests.search import toy_units

ROOT = str(Path(__file__).resolve().parents[2])
OK, FAILED, KILLED = Status.OK, Status.FAILED, Status.KILLED


def ignore(event: str, unit: Unit, outcome: Outcome | None) -> None:
    pass


def listening(pids: set[int]) -> set[str]:
    """Local addresses, as the kernel writes them, on which any of the processes listens."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(handle.readlink()))
            except OSError:
                continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def started_with(token: str) -> set[int]:
    """Processes, whoever their parent is now, that were given this token."""
    found = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RAY_AUTH_TOKEN_PATH={token}\0".encode() in environment.read_bytes():
                found.add(int(environment.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True, scope="module")
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Scratch folders of runs beside these tests must not be taken for theirs; short, for the paths of sockets."""
    tmp_path_factory.getbasetemp()  # made now, where it outlives this module
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)  # for the drivers that tests start
        yield


def own_scratch() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("ldnn-ray-*")}


@dataclass
class Ran:
    """What is known of a run afterwards."""

    folder: Path
    events: list[tuple[str, str, int, Outcome | None]] = field(default_factory=list)
    listeners: set[str] = field(default_factory=set)
    token: tuple[str, int, str | None] = ("", 0, None)
    printed: str = ""

    def watch(self, event: str, unit: Unit, outcome: Outcome | None) -> None:
        if not self.events:
            self.listeners = listening(family(os.getpid()))
            path = os.environ["RAY_AUTH_TOKEN_PATH"]
            self.token = (path, Path(path).stat().st_mode & 0o777, os.environ.get("RAY_AUTH_MODE"))
        self.events.append((event, unit.key, unit.attempt, outcome))

    def outcomes(self) -> dict[tuple[str, int], tuple[Status, float]]:
        return {(key, attempt): (end.status, end.score) for _, key, attempt, end in self.events if end is not None}

    def published(self) -> dict[str, dict[str, object]]:
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))}


def run(folder: Path, workers: int, *, deaths: bool) -> Ran:
    """Six units: one raises, and if deaths are wanted one crashes once, the process of one always ends, a 7th hangs."""
    payloads = [{}, {"raises": True}, {"deaths": 1, "segfault": True}, {}, {"deaths": 9}, {}]
    payloads += [{"nap": 600}] if deaths else []
    units = [
        Unit(f"unit-{i}", payload={"number": i, **(payload if deaths or "raises" in payload else {})})
        for i, payload in enumerate(payloads)
    ]
    ran = Ran(folder)
    run_with_ray(
        ListPlan(units, max_retries=1),
        toy_units.work,
        workers=workers,
        threads=1,
        work_args={"folder": str(folder)},
        watch=ran.watch,
        deadline=lambda unit: Deadline(1.0, "resources.max_evaluation_seconds") if unit.payload.get("nap") else None,
    )
    return ran


def open_files() -> list[str]:
    """Open files of this process, without what Ray's core leaves for each Ray that a process starts.

    That is the log that it writes, and a socket that is bound to nothing and connected to nothing.
    """
    gc.collect()
    names = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(handle.readlink()))
    tables = [Path(f"/proc/self/net/{kind}").read_text() for kind in ("tcp", "tcp6", "udp", "udp6", "unix")]
    in_use = {word for table in tables for word in table.split()}
    return sorted(
        name
        for name in names
        if "python-core-driver" not in name and not (name.startswith("socket:") and name[8:-1] not in in_use)
    )


@contextlib.contextmanager
def no_token_wanted() -> Iterator[None]:
    """The user's environment says that Ray shall do without tokens; ours does not listen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield
        assert os.environ["RAY_AUTH_MODE"] == "disabled"


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in (2, 15, signal.SIGUSR1)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), no_token_wanted():
        ran = run(tmp_path_factory.mktemp("two"), workers=2, deaths=True)
    ran.printed = printed.getvalue()
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in (2, 15, signal.SIGUSR1)] == handlers
    return ran


@pytest.mark.ray
class TestRun:
    def test_gives_the_same_results_with_one_and_two_workers(self, by_two: Ran, tmp_path: Path):
        before, threads = open_files(), threading.active_count()
        by_one = run(tmp_path, workers=1, deaths=False)
        # The second run of this process: what is opened once for all is open already.
        # Ray's threads close their last connections when they get to it.
        end = time.monotonic() + 15
        while len(after := open_files()) > len(before) and time.monotonic() < end:
            time.sleep(0.2)
        assert len(after) <= len(before), [name for name in after if name not in before]
        assert threading.active_count() <= threads
        # Without the deaths, which cost a new process each, and are the next test's.
        last = {key: end for (key, _), end in by_two.outcomes().items() if key not in ("unit-4", "unit-6")}
        assert {key: end for (key, _), end in by_one.outcomes().items() if key != "unit-4"} == last
        assert len(by_one.outcomes()) == 6
        # Workers are used again; with deaths and two workers there may be as many processes as units.
        assert len({unit["pid"] for unit in by_one.published().values()}) == 1

    def test_retries_a_unit_whose_process_died_up_to_the_cap_and_loses_no_other(self, by_two: Ran):
        assert by_two.outcomes() == {
            ("unit-0", 0): (OK, 0.0),
            ("unit-1", 0): (FAILED, 0.0),
            ("unit-2", 0): (KILLED, 0.0),
            ("unit-2", 1): (OK, 0.2),
            ("unit-3", 0): (OK, 0.3),
            ("unit-4", 0): (KILLED, 0.0),
            ("unit-4", 1): (KILLED, 0.0),
            ("unit-5", 0): (OK, 0.5),
            ("unit-6", 0): (Status.TIMEOUT, 0.0),
            ("unit-6", 1): (Status.TIMEOUT, 0.0),
        }
        assert list(by_two.published()) == ["unit-0-0", "unit-2-1", "unit-3-0", "unit-5-0"]

    def test_brings_every_value_of_an_outcome(self, by_two: Ran):
        values = {key: end.values for _, key, _, end in by_two.events if end and end.status is OK}
        assert values == {f"unit-{i}": {"flatness": 3.0 * i} for i in (0, 2, 3, 5)}

    def test_says_why_units_did_not_end_well(self, by_two: Ran):
        notes = {(key, attempt): end.note for _, key, attempt, end in by_two.events if end}
        assert notes["unit-1", 0] == "ValueError: this unit raises"
        assert "its process died: The actor died unexpectedly" in notes["unit-4", 1]
        for tries in range(2):
            words = r"it did not answer for [1-9]\d* s and was ended; resources.max_evaluation_seconds is exceeded"
            assert re.fullmatch(words, notes["unit-6", tries])

    def test_tells_of_each_start_before_the_end(self, by_two: Ran):
        steps = [(event, key, attempt) for event, key, attempt, _ in by_two.events]
        assert len(set(steps)) == len(steps) == 20
        for event, key, attempt in steps:
            if event == "finished":
                assert steps.index(("started", key, attempt)) < steps.index((event, key, attempt))

    def test_limits_the_threads(self, by_two: Ran):
        about = by_two.published().values()
        assert {unit["threads"] for unit in about} == {"1"}
        assert not any(unit["torch"] for unit in about)

    def test_listens_on_loopback_only_with_a_token_that_only_the_owner_reads(self, by_two: Ran):
        loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
        assert by_two.listeners
        assert by_two.listeners <= loopback
        assert by_two.token[1:] == (0o600, "token")

    def test_prints_nothing(self, by_two: Ran):
        assert by_two.printed == ""

    def test_leaves_nothing_behind(self, by_two: Ran):
        token = by_two.token[0]
        assert not Path(token).parent.exists()
        deadline = time.monotonic() + 5
        while (left := started_with(token)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == set()


DRIVER = """
import signal, sys
from search.plan import ListPlan, Unit
from search.tune import run_with_ray
from tests.processes import family
from tests.search import toy_units

stopped = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: stopped.append(number))

def watch(event, unit, outcome):
    print(event, unit.key, flush=True)

units = [Unit(f"unit-{i}", payload={"number": i, "nap": 1.5}) for i in range(40)]
run_with_ray(ListPlan(units), toy_units.work, workers=2, threads=1, work_args={"folder": sys.argv[1]},
             watch=watch, stop=lambda: signal.SIGTERM in stopped)
print("stopped by", *stopped)
sys.exit(130)
"""


@pytest.mark.ray
def test_a_stop_lets_running_units_end_and_starts_no_other(tmp_path: Path):
    """Signals are the driver's own affair: Ray neither takes them from it nor falls over them."""
    before = own_scratch()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        cwd=tmp_path,
        start_new_session=True,
    )
    assert driver.stdout is not None
    lines = [driver.stdout.readline().strip() for _ in range(2)]
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the driver and to all that it started
    lines.append(driver.stdout.readline().strip())
    os.kill(driver.pid, signal.SIGTERM)
    lines += driver.stdout.read().splitlines()  # not communicate, which loses what readline has buffered
    driver.stdout.close()
    driver.wait(60)

    assert (driver.returncode, lines[-1]) == (130, "stopped by 2 15")
    started, finished = ({line.split()[1] for line in lines if line.startswith(word)} for word in ("start", "finish"))
    assert started == finished
    assert len(finished) <= 5
    assert {path.stem for path in tmp_path.glob("*.json")} == {f"{key}-0" for key in finished}
    assert own_scratch() <= before


class TestBeforeAnythingStarts:
    def test_refuses_numbers_out_of_range(self):
        with pytest.raises(ValueError, match=r"must hold, but got \(workers=0, threads=1, gpus_per_unit=1.5\)"):
            run_with_ray(
                ListPlan([]), toy_units.work, workers=0, threads=1, work_args={}, gpus_per_unit=1.5, watch=ignore
            )

    def test_refuses_work_that_no_other_process_can_import(self):
        with pytest.raises(ValueError, match="work must be"):
            run_with_ray(ListPlan([]), lambda unit: Outcome(OK, 1.0), workers=1, threads=1, work_args={}, watch=ignore)
        with pytest.raises(ValueError, match=r"importable, but got 'tests\.search\.toy_units:play'"):
            run_with_ray(ListPlan([]), "tests.search.toy_units:play", workers=1, threads=1, work_args={}, watch=ignore)

    def test_starts_nothing_when_all_is_done(self):
        before = own_scratch()
        run_with_ray(ListPlan([], already_done=3), toy_units.work, workers=1, threads=1, work_args={}, watch=ignore)
        assert own_scratch() == before

    @pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "127.0.0.1:port"])
    def test_refuses_an_address_of_the_wrong_form(self, address: str):
        with pytest.raises(ClusterError, match="address must be 'auto' or host:port"):
            cluster_nodes(address)

    def test_says_that_nobody_answers(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ClusterError, match=f"nobody answers at {address} .*; start one with `ray start --head`"):
            run_with_ray(
                ListPlan([Unit("a")]), toy_units.work, workers=1, threads=1, work_args={}, address=address, watch=ignore
            )
        assert time.monotonic() - start < 30

    @pytest.mark.ray
    def test_says_that_who_answers_is_no_cluster(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(ray_setup, "CONNECT_SECONDS", 9.0)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(ClusterError, match="does not answer as a Ray cluster"):
                cluster_nodes(address)

    def test_says_why_a_cluster_cannot_be_joined(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(ray_setup, "_LOOK", "raise SystemExit('no node of it is here')")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        with pytest.raises(ClusterError, match=r"at auto cannot be joined \(no node of it is here\); start one"):
            cluster_nodes("auto")

    def test_says_that_this_machine_is_no_node_of_the_cluster(self, monkeypatch: pytest.MonkeyPatch):
        def no_node(**arguments: object):
            raise RuntimeError("no node has this address\nmore words")

        monkeypatch.setattr(ray_setup, "cluster_nodes", lambda address: [{"CPU": 1.0}])
        monkeypatch.setattr("ray.init", no_node)
        words = r"cannot join 192\.0\.2\.1:1 \(no node has this address\); start ldnn on a node of that cluster"
        with pytest.raises(ClusterError, match=words):
            run_with_ray(
                ListPlan([Unit("a")]),
                toy_units.work,
                workers=1,
                threads=1,
                work_args={},
                address="192.0.2.1:1",
                watch=ignore,
            )

    def test_refuses_to_share_a_ray_with_others(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("ray.is_initialized", lambda: True)
        with pytest.raises(ClusterError, match=r"must not be initialised .* call ray\.shutdown\(\) before"):
            run_with_ray(ListPlan([Unit("a")]), toy_units.work, workers=1, threads=1, work_args={}, watch=ignore)

    @pytest.mark.parametrize(
        ("workers", "booking", "words"),
        [
            (2, Booking(5), r"threads <= cores .* \(threads=5, cores=4\)"),
            (1, Booking(1, 2.0), r"gpus_per_trial=2, GPUs=2, GPUs of one node=1"),
            (5, Booking(1, 0.5), r"workers=5, gpus_per_trial=0.5, GPUs=2"),
            (1, Booking(1, 0.5, 2, 1.0), r"workers_per_trial=2, gpus_per_worker=1, GPUs=2, .* fewer workers_per_trial"),
            (
                3,
                Booking(1, 0.5, 1, 0.25),
                r"gpus_per_trial=0.5, workers_per_trial=1, gpus_per_worker=0.25",
            ),
            (1, Booking(1, 0.5, 1, 2.0), r"gpus_per_worker <= GPUs of one node must hold"),
            (1, Booking(3, workers=1), r"\(workers_per_trial=1, threads=3, cores of the nodes=4, 2\); ask for fewer"),
        ],
    )
    def test_refuses_more_than_there_is(self, workers: int, booking: Booking, words: str):
        nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
        with pytest.raises(ClusterError, match=words):
            check_resources(nodes, booking, workers=workers)
        check_resources(nodes, Booking(4, 0.5), workers=4)
        check_resources(nodes, Booking(1, 0.5, 2, 0.5), workers=1)


@dataclass(eq=False)
class Waiting:
    """A trial of Tune's, and of its controller what a scheduler sees."""

    trial_id: str
    status: str
    bundles: int

    @property
    def placement_group_factory(self) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": 1}] * self.bundles)


class Controller:
    def __init__(self, *trials: Waiting) -> None:
        self.trials = trials
        self.stopped: list[str] = []

    def get_live_trials(self) -> tuple[Waiting, ...]:
        return self.trials

    get_trials = get_live_trials

    def stop_trial(self, trial: Waiting) -> None:
        self.stopped.append(trial.trial_id)


def test_what_waits_for_nodes_that_are_gone_is_given_up_and_says_so(monkeypatch: pytest.MonkeyPatch):
    outcomes = []
    plan = ListPlan([Unit(key) for key in "abc"])
    ledger = Ledger(plan, lambda event, unit, outcome: outcomes.append((unit.key, outcome)), None)
    trials = [Waiting("1", "RUNNING", 3), Waiting("2", "PENDING", 3), Waiting("3", "PENDING", 2)]
    assert all(ledger.hand_out(trial.trial_id) for trial in trials)
    scheduler, controller = _UnitScheduler(ledger, Booking(1, workers=2)), Controller(*trials)

    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}] * 3)
    scheduler.choose_trial_to_run(controller)
    assert controller.stopped == []
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"Alive": i > 0, "Resources": {"CPU": 1.0} if i else {"CPU": 9.0}} for i in range(3)]
    )
    scheduler.choose_trial_to_run(controller)
    assert controller.stopped == []  # it has just looked
    monkeypatch.setattr("search.tune._LOOK_SECONDS", 0.0)
    scheduler = _UnitScheduler(ledger, Booking(1, workers=2))
    scheduler.choose_trial_to_run(controller)
    assert controller.stopped == ["2"]
    ledger.ended("2", None)
    words = "it waited for 3 processes, but nodes were lost and the others hold 2"
    assert outcomes == [("b", Outcome(KILLED, 0.0, words))]


class TestSurroundings:
    def test_a_token_of_the_users_own_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert ray_setup.token_environment(tmp_path).keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"}
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("mine")
        assert ray_setup.token_environment(tmp_path) == {"RAY_AUTH_MODE": None}

    def test_scratch_folders_of_dead_drivers_are_removed_and_those_of_living_ones_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        base = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        dead = base / "ldnn-ray-dead"
        dead.mkdir()
        with ray_setup.scratch() as living:
            for folder in (dead, living):
                os.utime(folder, (0, 0))
            with ray_setup.scratch() as other:
                assert sorted(base.iterdir()) == sorted([living, other])
                assert living.stat().st_mode & 0o777 == 0o700
        assert list(base.iterdir()) == []
        base.rmdir()

    def test_python_path_leads_to_modules_and_packages(self):
        assert ray_setup.import_root(toy_units) == ROOT
        assert ray_setup.import_root(sys.modules["tests"]) == ROOT
        assert ray_setup.import_root(sys.modules["tests.search"]) == ROOT
        assert ray_setup.import_root(sys) is None


class TestManyTrials:
    """What Tune does for each trial must not depend on how many there were."""

    def test_the_next_trial_is_looked_for_among_those_that_are_left(self):
        from ray.tune.experiment import Trial

        class Controller:
            def __init__(self, *live: Trial) -> None:
                self.live = set(live)

            def get_live_trials(self) -> set[Trial]:
                return self.live

        running, pending = (Trial("none", stub=True) for _ in range(2))
        running.set_status(Trial.RUNNING)
        scheduler = _UnitScheduler(Ledger(ListPlan([]), ignore, None), Booking(1))
        assert scheduler.choose_trial_to_run(Controller(running, pending)) is pending
        assert scheduler.choose_trial_to_run(Controller(running)) is None

    def test_statistics_of_a_trial_that_has_ended_are_let_go_of(self):
        from ray.tune.experiment import Trial

        trial = Trial("none", stub=True)
        trial.run_metadata.update_metric("score", 0.5)
        assert trial.metric_analysis["score"]["max"] == 0.5
        starts = _Starts(Ledger(ListPlan([]), ignore, None))
        starts.on_trial_complete(0, [trial], trial)
        assert (trial.metric_analysis, trial.metric_n_steps) == ({}, {})
