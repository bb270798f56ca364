"""A node of a cluster is gone, with the trial that ran on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config import RunConfig
from search.launch import drive
from tests.faults.harness import LONG_RUN, Damage, damage, done, tell
from tests.search import clusters
from tests.small_runs import Listener, new_run

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

LOSSES = 3


def trial_on(node_id: str) -> bool:
    """Whether a worker lives on the node; only while this process has joined its cluster."""
    from ray._private import state

    actors = state.actors().values()
    return any(
        "Trainable" in one["ActorClassName"] and one["State"] == "ALIVE" and one["Address"]["NodeID"] == node_id
        for one in actors
    )


def test_trials_move_from_nodes_that_are_lost_and_have_their_rows_once(
    whole: Path, short: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    import ray

    run = new_run(tmp_path, **LONG_RUN)
    resources = RunConfig.model_validate(run.info.config).resources.model_copy(update={"workers": 2})
    lost: list[str] = []
    errors: list[BaseException] = []
    over = threading.Event()

    # No trial on the head, which is not to be lost and could do all that is left while others start.  The last loss
    # leaves one core for two workers, one of which may be waiting for work that the other is to do.
    with clusters.cluster_of(short, 0, 1, 1, 1, 1) as cluster:

        def lose(nodes: Any) -> None:
            try:
                lose_three(nodes)
            except BaseException as error:
                errors.append(error)

        def lose_three(nodes: Any) -> None:
            while len(lost) < LOSSES and not over.wait(0.05):
                here = [node for node in nodes.worker_nodes if ray.is_initialized() and trial_on(node.node_id)]
                if here and len(done(run.path)) >= 4 * len(lost):
                    nodes.remove_node(here[0], allow_graceful=False)
                    lost.append(here[0].node_id)

        thread = threading.Thread(target=lose, args=(cluster,), daemon=True)
        thread.start()
        try:
            account = drive(run, resources, Listener(), address=cluster.address)
        finally:
            over.set()
            thread.join()
    assert errors == []
    assert len(lost) == LOSSES
    assert account.problems == []
    harm = damage(run.path, whole)
    tell(record_property, len(lost), harm)
    assert harm == Damage()
