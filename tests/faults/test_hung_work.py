"""Batches of judged networks whose process stops: it is ended, they are tried again, and the run comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search import tune
from search.config import RunConfig
from search.launch import drive
from search.run_folder import RunFolder
from search.schema import Status
from search.unjudged import read_unjudged
from tests.faults.harness import damage, tell
from tests.small_runs import Listener, drive_here, new_run

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

SECONDS = 20.0
"""Longer than a new process takes to load what it needs and to judge a batch, on a machine with other work too."""


def test_a_batch_that_stops_once_is_judged_and_one_that_always_does_is_left_out_with_its_reason(
    undisturbed: RunFolder,
    short: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    limits = {"workers": 2, "max_evaluation_seconds": SECONDS}
    run = new_run(tmp_path, resources=limits)
    run_with_ray = tune.run_with_ray

    def hanging(plan: Any, work: str, **options: Any) -> None:
        run_with_ray(plan, "tests.search.toy_units:hangs", **options)

    with monkeypatch.context() as patch:
        patch.setattr("search.tune.run_with_ray", hanging)
        account = drive(run, RunConfig.model_validate(run.info.config).resources, Listener())
    assert not account.interrupted
    [(unit, outcome)] = account.problems
    assert (unit.payload["trial_id"], unit.payload["width"], unit.attempt) == ("usual", 6, 2)
    assert outcome.status is Status.TIMEOUT
    [note] = read_unjudged(run.store.storage)
    assert (note["unit"], note["attempts"]) == (unit.key, 3)
    assert "resources.max_evaluation_seconds is exceeded" in note["error"]
    # Two activations and two seeds; all other rows are there, those of the batch that stopped once included.
    assert damage(run.path, undisturbed.path).lost == 4

    again, told = drive_here(run)
    assert (told.finished, again.problems) == ([unit.key], [])
    tell(record_property, 4, damage(run.path, undisturbed.path))
