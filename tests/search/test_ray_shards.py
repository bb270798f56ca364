"""Shards over Ray actors: the same rows whatever dies, on clusters of one, two and three nodes."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray

from search import ray_shards
from search.config import RunConfig
from search.launch import Account, drive
from search.limits import OutOfTime, ShardLimits
from search.ray_shards import RayShards
from search.run_folder import RunFolder
from search.setting import Setting
from search.shards import WorkersLostError
from tests.search import clusters, toy_shards
from tests.small_runs import Listener, drive_here, new_run, rows, tiny_trial

pytestmark = pytest.mark.ray

CHANGES: dict[str, Any] = {
    "inner": {"steps": 10},
    "gradient": {"outer_steps": 4, "classifiers": 3, "shard": 1},
    "evolution": {"generations": 60, "population": 6, "shard": 2},
    "search": {"trials": 1, "space": {}},
    "evaluation": {"best": 0},
}
"""Both methods, three shards to an outer step; evolution lasts long enough for something to happen to it."""


@pytest.fixture(scope="module")
def by_itself(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same search in this process, without Ray: zero workers."""
    run = new_run(tmp_path_factory.mktemp("itself"), **CHANGES)
    drive_here(run)
    return run


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, for the paths of sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


def search_on(cluster: Any, folder: Path, workers: int, hurt: Callable[[], None]) -> tuple[RunFolder, Account]:
    """Search on a cluster; something may happen as soon as the evolution is past its first generation."""
    run = new_run(folder, **CHANGES)
    changes = {"workers": 1, "workers_per_trial": workers}
    resources = RunConfig.model_validate(run.info.config).resources.model_copy(update=changes)
    progress = run.path / "logs" / "evolution-0000.progress.json"
    with clusters.once(progress, hurt) as happened:
        account = drive(run, resources, Listener(), address=cluster.address)
    assert happened.is_set()
    return run, account


def assert_same(run: RunFolder, expected: RunFolder) -> None:
    for table in ("trials", "steps", "activations"):
        pd.testing.assert_frame_equal(rows(run.path, table), rows(expected.path, table), check_exact=True, obj=table)


def test_a_killed_worker_costs_time_only(by_itself: RunFolder, short: Path, tmp_path: Path):
    """One node, one worker: nobody else can take its shard, so that it must be replaced."""
    killed = []

    def kill() -> None:
        [worker] = clusters.shard_workers()
        killed.append(worker["Pid"])
        clusters.kill(worker["Pid"])

    with clusters.cluster_of(short, 2) as cluster:
        run, account = search_on(cluster, tmp_path, 1, kill)
    assert len(killed) == 1
    assert account.problems == []
    assert_same(run, by_itself)


def test_two_nodes_give_the_rows_of_one_process(by_itself: RunFolder, short: Path, tmp_path: Path):
    homes = set()

    def look() -> None:
        for worker in clusters.shard_workers():
            homes.update((worker["Address"]["NodeID"], worker["OwnerAddress"]["NodeID"]))

    with clusters.cluster_of(short, 2, 1) as cluster:
        run, account = search_on(cluster, tmp_path, 2, look)
    assert len(homes) == 2
    assert account.problems == []
    assert_same(run, by_itself)


def test_a_node_lost_in_mid_generation_costs_time_only(by_itself: RunFolder, short: Path, tmp_path: Path):
    """Three nodes, one process on each; what is left is too small for the worker that was lost."""
    lost = []
    with clusters.cluster_of(short, 1, 1, 1) as cluster:
        nodes = {node.node_id: node for node in cluster.worker_nodes}

        def remove() -> None:
            workers = clusters.shard_workers()
            assert len({worker["Address"]["NodeID"] for worker in workers}) == 2
            victim = next(worker["Address"]["NodeID"] for worker in workers if worker["Address"]["NodeID"] in nodes)
            cluster.remove_node(nodes[victim], allow_graceful=False)
            lost.append(victim)

        run, account = search_on(cluster, tmp_path, 2, remove)
    assert len(lost) == 1
    assert account.problems == []
    assert_same(run, by_itself)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (ray.exceptions.ActorDiedError(), WorkersLostError, "died 3 times"),
        (ray.exceptions.OutOfMemoryError("the node is running low on memory"), MemoryError, "died 3 times"),
        (OutOfTime("it did not answer for 61 s"), OutOfTime, r"did not answer 3 times \(it did not answer for 61 s\)"),
    ],
)
def test_a_trial_whose_shard_is_given_up_ends_by_an_error_that_says_its_status(
    failure: Exception, kind: type[Exception], words: str
):
    found = ray_shards._given_up(1, 1, 3, failure)
    assert type(found) is kind
    assert re.match(rf"outer step 1: the worker that had shard 2 of 3 {words}", str(found))


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of(tiny_trial("evolution", 3), "cpu")


@pytest.fixture(scope="module")
def joined_cluster() -> Iterator[None]:
    """This process is the driver of a cluster of one node with two cores; for the last tests of this module."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder, clusters.cluster_of(Path(folder), 2) as one:
        env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        ray.init(address=one.address, log_to_driver=False, logging_level="CRITICAL", runtime_env={"env_vars": env})
        yield
        ray.shutdown()


@pytest.mark.usefixtures("joined_cluster")
class TestActors:
    """Without Tune: workers outside a placement group."""

    @staticmethod
    def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
        return [{"number": np.array(i), **more} for i in range(count)]

    def test_workers_live_on_answer_in_order_and_a_raise_is_the_bodys_own(
        self, setting: Setting, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ray_shards, "PATIENCE_SECONDS", 600.0)
        shards = RayShards(threads=1, workers=2)
        pids = []
        for step in range(2):
            found = shards.map(toy_shards.where, setting, step, self.numbered(7, nap=np.array(0.05)))
            assert [part["asked"].tolist() for part in found] == [[3, step, i] for i in range(7)]
            pids.append({int(part["pid"]) for part in found})
        assert len(pids[0] | pids[1]) <= 2
        assert os.getpid() not in pids[0] | pids[1]
        with pytest.raises(ArithmeticError, match=r"^shard 0 of step 5 cannot be done$"):
            shards.map(toy_shards.raises, setting, 5, self.numbered(1))
        # A shard that kills whoever has it ends the trial, with words; two tries, as there are two workers already.
        monkeypatch.setattr(ray_shards, "TRIES", 2)
        with pytest.raises(WorkersLostError, match=r"outer step 1: the worker that had shard 2 of 3 died 2 times"):
            shards.map(toy_shards.dies, setting, 1, self.numbered(3))
        shards.close()
        deadline = time.monotonic() + 10
        while clusters.shard_workers() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert clusters.shard_workers() == []

    def test_after_a_raise_nobody_works_on_what_is_not_wanted_any_more(
        self, setting: Setting, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ray_shards, "PATIENCE_SECONDS", 600.0)
        shards = RayShards(threads=1, workers=2)
        shards.map(toy_shards.where, setting, 0, self.numbered(4, nap=np.array(2.0)))  # both are ready now
        with pytest.raises(ArithmeticError, match=r"^shard 1 of step 1 cannot be done$"):
            shards.map(toy_shards.raises_or_naps, setting, 1, self.numbered(2, nap=np.array(300.0)))
        began = time.monotonic()
        shards.map(toy_shards.where, setting, 2, self.numbered(2, nap=np.array(2.0)))
        assert time.monotonic() - began < 120
        shards.close()

    def test_a_worker_that_stops_is_ended_and_its_shard_done_again_and_memory_is_limited(
        self, setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.setattr(ray_shards, "PATIENCE_SECONDS", 600.0)
        monkeypatch.setattr("search.limits.LEAST_SHARD_SECONDS", 8.0)
        mark = tmp_path / "mark"
        shards = RayShards(threads=1, workers=1, limits=ShardLimits(trial_seconds=1e-3, memory=400))
        found = shards.map(toy_shards.stops, setting, 2, self.numbered(3, mark=np.array(str(mark))))
        assert [part["asked"].tolist() for part in found] == [[3, 2, i] for i in range(3)]
        stopped = int(mark.read_text())
        assert stopped not in {int(part["pid"]) for part in found[1:]}
        deadline = time.monotonic() + 30
        while Path(f"/proc/{stopped}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(f"/proc/{stopped}").exists()
        # The one that came after it; the same worker goes on after what it could not do.
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            shards.map(toy_shards.takes_much, setting, 3, self.numbered(1))
        [part] = shards.map(toy_shards.where, setting, 4, self.numbered(1))
        assert int(part["pid"]) == int(found[2]["pid"])
        shards.close()

    def test_without_a_worker_that_can_start_shards_are_done_here(
        self, setting: Setting, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ray_shards, "PATIENCE_SECONDS", 0.0)
        shards = RayShards(threads=64, workers=1)  # the node has two cores
        found = shards.map(toy_shards.where, setting, 0, self.numbered(3))
        assert [int(part["pid"]) for part in found] == [os.getpid()] * 3
        shards.close()
