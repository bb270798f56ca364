"""Ray clusters of several nodes on this machine, on loopback and with a token, for tests."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search import ray_setup


@contextmanager
def cluster_of(folder: Path, *cores: int) -> Iterator[Any]:
    """A cluster with one node for each number of cores, the first of them its head."""
    from ray._private import ray_constants
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._raylet import AuthenticationTokenLoader
    from ray.cluster_utils import Cluster

    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",  # loopback only
        "RAY_prestart_worker_first_driver": "0",  # processes that nobody needs take seconds to start
        **ray_setup.token_environment(folder),
    }
    with ray_setup.environment(environment), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # read from the environment long ago
        AuthenticationTokenLoader.instance().reset_cache()
        assert maybe_enable_token_auth_if_token_available()
        common = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 80 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores[0], **common})
        try:
            for number in cores[1:]:
                cluster.add_node(num_cpus=number, **common)
            yield cluster
        finally:
            cluster.shutdown()
    AuthenticationTokenLoader.instance().reset_cache()


def shard_workers() -> list[Any]:
    """The actors that do shards and live now, as Ray describes them; only while this process has joined a cluster."""
    from ray._private import state

    actors = state.actors().values()
    return [one for one in actors if one["ActorClassName"] == "_ShardWorker" and one["State"] == "ALIVE"]


@contextmanager
def once(path: Path, then: Callable[[], None]) -> Iterator[threading.Event]:
    """Do something in the middle of a trial: as soon as its progress file is there."""
    done, over = threading.Event(), threading.Event()

    def wait() -> None:
        while not over.wait(0.01):
            if path.exists():
                then()
                done.set()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)
