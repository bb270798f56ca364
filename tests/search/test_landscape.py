"""What a trial would have been like: exact at recorded trials, in between between them, and the same each time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from search.config import RunConfig, canonical, trial_config
from search.landscape import Landscape, Replayed
from search.plan import PENALTY, Unit
from search.schema import Status
from search.store import Store
from tests.small_runs import tiny_run

SPACE = {"inner_lr": {"low": 0.001, "high": 0.1, "log": True}, "base": {"choices": ["sin", "tanh"]}}


def config_of(**search: Any) -> RunConfig:
    return tiny_run(method="gradient", search={"space": SPACE, "probe_networks": 2, "score_networks": 8, **search})


def record(
    store: Store,
    number: int,
    params: dict[str, Any],
    *,
    status: str = "ok",
    attempt: int = 0,
    steps: Sequence[int] = (0, 1, 2),
    **columns: Any,
) -> None:
    """A trial in the store, with probes at steps 0 and 2 of 3 unless it diverged."""
    key = f"gradient-{number:04d}"
    defaults = {"score": 0.5, "score_sem": 0.0, "wall_seconds": 10.0} if status == "ok" else {"wall_seconds": 1.0}
    row = {"trial_id": key, "attempt": attempt, "method": "gradient", "number": number, "status": status}
    row |= defaults | columns
    row["config"] = json.dumps(canonical(trial_config(config_of(), "gradient", number, params)))
    curve = [
        {"trial_id": key, "attempt": attempt, "step": step, "wall_seconds": 2.0 * step, "val_accuracy": accuracy}
        for step, accuracy in ((0, 0.1), (1, None), (2, row.get("score")))
        if step in steps
    ]
    if status == "ok" and curve:
        store.publish("steps", f"{key}-a{attempt}", curve)
    store.publish("trials", f"{key}-a{attempt}", [row])


def ask(landscape: Landscape, number: int = 0, **params: Any) -> Replayed:
    return landscape(Unit(f"gradient-{number:04d}", 0, {"method": "gradient", "params": params}))


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path)


def test_passes_through_recorded_trials(store):
    record(store, 0, {"inner_lr": 0.01, "base": "sin"}, score=0.6, wall_seconds=30.0)
    record(store, 1, {"inner_lr": 0.1, "base": "tanh"}, score=0.2, wall_seconds=90.0)
    landscape = Landscape(config_of(), store)
    first, second = ask(landscape, inner_lr=0.01, base="sin"), ask(landscape, inner_lr=0.1, base="tanh")
    assert (first.outcome.score, first.seconds) == (0.6, 30.0)
    assert (second.outcome.score, second.seconds) == (0.2, 90.0)
    assert [(p.step, p.seconds, p.accuracy) for p in first.curve] == [(0, 0.0, 0.1), (2, 30.0, 0.6)]
    assert landscape.recorded() == {"gradient": 2}


def test_a_trial_that_was_killed_first_is_known_by_its_good_attempt_and_a_copy_not_at_all(store):
    killed = {"trial_id": "gradient-0000", "method": "gradient", "attempt": 0, "status": "killed"}
    store.publish("trials", "gradient-0000-a0", [killed])
    record(store, 0, {"inner_lr": 0.01, "base": "sin"}, attempt=1, score=0.6)
    copied = {"copied_from": "gradient-0000", "wall_seconds": 0.0, "score": 0.6}
    record(store, 1, {"inner_lr": 0.01, "base": "sin"}, steps=(), **copied)
    found = ask(Landscape(config_of(), store), inner_lr=0.01, base="sin")
    assert (found.outcome.score, found.seconds, len(found.curve)) == (0.6, 10.0, 2)


def test_is_shepards_mean_in_between(store):
    record(store, 0, {"inner_lr": 0.001, "base": "sin"}, score=0.9)
    record(store, 1, {"inner_lr": 0.1, "base": "sin"}, score=0.3)
    # A quarter of the way in the logarithm, two parameters: weights are distance to the power of -3.
    found = ask(Landscape(config_of(), store), inner_lr=0.001 * 100**0.25, base="sin")
    near, far = 0.25**-3, 0.75**-3
    assert found.outcome.score == pytest.approx((0.9 * near + 0.3 * far) / (near + far))


def test_two_choices_are_as_far_apart_as_the_ends_of_a_range(store):
    record(store, 0, {"inner_lr": 0.001, "base": "tanh"}, score=0.9)
    record(store, 1, {"inner_lr": 0.1, "base": "sin"}, score=0.3)
    assert ask(Landscape(config_of(), store), inner_lr=0.001, base="sin").outcome.score == pytest.approx(0.6)


def test_a_value_that_was_not_sampled_then_stands_in_the_trials_configuration(store):
    record(store, 0, {"inner_lr": 0.01}, score=0.6)  # its base is that of the run: tanh
    record(store, 1, {"inner_lr": 0.01, "base": "sin"}, score=0.2)
    landscape = Landscape(config_of(), store)
    assert ask(landscape, inner_lr=0.01, base="tanh").outcome.score == 0.6


def test_diverges_where_the_nearest_trial_did(store):
    record(store, 0, {"inner_lr": 0.001, "base": "sin"}, score=0.6)
    record(store, 1, {"inner_lr": 0.1, "base": "sin"}, status="diverged", wall_seconds=4.0)
    landscape = Landscape(config_of(), store, stretch=3.0)
    bad = ask(landscape, inner_lr=0.05, base="sin")
    assert (bad.outcome.status, bad.outcome.score, bad.seconds) == (Status.DIVERGED, PENALTY, 12.0)
    good = ask(landscape, inner_lr=0.002, base="sin")
    assert (good.outcome.status, good.outcome.score, good.seconds) == (Status.OK, 0.6, 30.0)


def test_residuals_have_the_recorded_standard_error_and_belong_to_a_trial(store):
    record(store, 0, {"inner_lr": 0.01, "base": "sin"}, score=0.5, score_sem=0.02)
    landscape = Landscape(config_of(), store)
    found = [ask(landscape, number, inner_lr=0.01, base="sin") for number in range(2000)]
    scores = np.array([one.outcome.score for one in found])
    # The standard deviation of n normal numbers is known to 1 in √(2n), their mean to σ/√n; 5 of these are allowed.
    assert scores.std() == pytest.approx(0.02, rel=5 / math.sqrt(4000))
    assert scores.mean() == pytest.approx(0.5, abs=5 * 0.02 / math.sqrt(2000))
    probes = np.array([one.curve[-1].accuracy for one in found])
    assert probes.std() == pytest.approx(0.04, rel=5 / math.sqrt(4000))  # 8 networks for a score and 2 for a probe
    assert ask(landscape, 7, inner_lr=0.01, base="sin") == found[7]
    again = Landscape(config_of().model_copy(update={"seed": 1}), store)
    assert ask(again, 7, inner_lr=0.01, base="sin") != found[7]


def test_says_how_well_each_trial_follows_from_the_others(store):
    record(store, 0, {"inner_lr": 0.001, "base": "sin"}, score=0.5)
    assert Landscape(config_of(), store).error() == {"gradient": None}
    record(store, 1, {"inner_lr": 0.1, "base": "sin"}, score=0.3)
    # Each is predicted as the other.
    assert Landscape(config_of(), store).error() == {"gradient": pytest.approx(0.2)}


def test_a_space_without_entries_is_one_place(store):
    record(store, 0, {"inner_lr": 0.001}, score=0.5)
    record(store, 1, {"inner_lr": 0.1}, score=0.3)
    config = config_of().model_copy(update={"search": config_of().search.model_copy(update={"space": {}})})
    assert ask(Landscape(config, store)).outcome.score == pytest.approx(0.4)


def test_needs_a_trial_that_ended_well(store):
    record(store, 0, {"inner_lr": 0.001}, status="diverged")
    with pytest.raises(ValueError, match="must have a trial of gradient that ended well, but it has 1 of which none"):
        Landscape(config_of(), store)


def test_refuses_a_stretch_of_nothing(store):
    record(store, 0, {"inner_lr": 0.001})
    with pytest.raises(ValueError, match="0 < stretch must hold, and be finite, but got 0"):
        Landscape(config_of(), store, stretch=0)
