"""Trials that are run leg by leg: the same rows as at once, through files that can be lost but cannot lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ldnn_core.algorithms import ALGORITHMS
from search import checkpoint
from search.checkpoint import Checkpoint, Damaged
from search.config import TrialConfig
from search.durable import StoreError
from search.leg import Leg
from search.schema import Status
from search.trial import TrialRecords, run_trial
from tests.small_runs import tiny_trial

HASH = "0123456789abcdef"
NAME = f"gradient-0000-{HASH}-r1.safetensors"
SCHEDULED = {
    "search": {"scheduler": "halving", "trials": 4, "wave": 4, "reduction": 2, "rungs": 2, "records": 3},
    "gradient": {"outer_steps": 8},
    "evolution": {"generations": 9},
}
"""Rungs after 2 and 4 outer steps; for evolution after 2 and 4 generations."""

TRIALS = {
    "gradient": {"method": "gradient"},
    **{
        name: {"method": "evolution", "evolution": {"generations": 9, "algorithm": name}} for name in sorted(ALGORITHMS)
    },
}


def trial(name: str) -> TrialConfig:
    changes = {**SCHEDULED, **TRIALS[name]}
    method = changes.pop("method")
    return tiny_trial(str(method), **changes)


def numbers(records: TrialRecords) -> Any:
    """Everything but times."""
    row = {key: value for key, value in records.trial.items() if key not in {"started_at", "wall_seconds"}}
    steps = [{key: value for key, value in step.items() if key != "wall_seconds"} for step in records.steps]
    return json.loads(json.dumps([row, steps, records.activations]))


@pytest.fixture(scope="module", params=TRIALS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A trial at once, and its three legs with files between them."""
    config, root = trial(request.param), tmp_path_factory.mktemp("legs")
    legs, start = [], None
    for until in (0, 1, None):
        legs.append(run_trial(config, leg=Leg(start, until)))
        if (stands := legs[-1].checkpoint) is not None:
            checkpoint.save(root, config.trial_id, HASH, stands)
            start = checkpoint.latest(root, config.trial_id, HASH, 9)
            assert start is not None
    return config, run_trial(config), legs


def test_legs_have_the_rows_of_a_trial_run_at_once(both: tuple[Any, ...]):
    _, whole, legs = both
    assert [leg.status for leg in legs] == [Status.PRUNED, Status.PRUNED, Status.OK]
    assert numbers(legs[-1]) == numbers(whole)
    for leg in legs[:2]:
        _, steps, activations = numbers(leg)
        assert steps == numbers(whole)[1][: len(steps)]
        assert activations == numbers(whole)[2][: len(activations)]
        assert not any(row["final"] for row in activations)


def test_a_rung_has_its_share_of_the_inner_steps(both: tuple[Any, ...]):
    config, whole, legs = both
    for rung, leg in enumerate(legs[:2]):
        at = leg.steps[-1]
        assert at["step"] == config.rungs[rung]
        # Of eight outer steps exactly, of nine generations rounded down.
        per_step = 5 if config.method == "gradient" else 20
        assert at["inner_steps_total"] == (2, 4)[rung] * per_step
    at_rungs = [row["val_accuracy"] for row in whole.steps if row["step"] in config.rungs]
    assert legs[1].trial["rung_accuracies"] == whole.trial["rung_accuracies"] == at_rungs


def test_a_scheduler_adds_records_and_changes_no_number():
    for method in ("gradient", "evolution"):
        scheduled = run_trial(tiny_trial(method, **SCHEDULED))
        plain = run_trial(tiny_trial(method, **{**SCHEDULED, "search": {"records": 3}}))
        steps, expected = numbers(scheduled)[1], numbers(plain)[1]
        assert len(steps) == len(expected)
        rungs = set(tiny_trial(method, **SCHEDULED).rungs)
        for row, plain_row in zip(steps, expected, strict=True):
            if row["step"] in rungs:
                row["val_accuracy"] = plain_row.get("val_accuracy", row["val_accuracy"])
                plain_row.setdefault("val_accuracy", row["val_accuracy"])
            assert row == plain_row
        recorded = [row for row in numbers(scheduled)[2] if row["step"] not in rungs - {0}]
        assert recorded == [row for row in numbers(plain)[2] if row["step"] not in rungs - {0}]
        assert scheduled.trial["score"] == plain.trial["score"]
        assert (plain.trial["rung_accuracies"], len(scheduled.trial["rung_accuracies"])) == (None, 2)


def test_a_trial_stops_at_the_first_rung_where_it_is_below_the_threshold():
    config = trial("gradient")
    free = run_trial(config)
    first, second = free.trial["rung_accuracies"]
    assert run_trial(config, leg=Leg(thresholds=(None, second))).status is Status.OK  # equal is enough
    stopped = run_trial(config, leg=Leg(thresholds=(first, second + 0.01)))
    assert (stopped.status, stopped.trial["rung_accuracies"]) == (Status.PRUNED, [first, second])
    assert stopped.trial["rung_threshold"] == second + 0.01
    assert stopped.trial.get("score") is None
    assert numbers(stopped)[1] == numbers(free)[1][: config.rungs[1] + 1]
    assert stopped.trial["outer_steps"] == config.rungs[1] + 1


def test_a_leg_that_ends_where_it_starts_does_nothing(monkeypatch: pytest.MonkeyPatch):
    config = trial("genetic")
    at_rung = run_trial(config, leg=Leg(until=0))
    monkeypatch.setattr("search.evolution.evaluate_population", lambda *_: pytest.fail("it was run again"))
    again = run_trial(config, leg=Leg(at_rung.checkpoint, 0, (0.75,)))
    assert again.trial.pop("rung_threshold") == 0.75
    assert at_rung.trial.pop("rung_threshold") is None
    assert numbers(again) == numbers(at_rung)


# Files


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Checkpoint]:
    stands = Checkpoint(
        rung=1,
        step=4,
        state={"genomes": torch.randn(2, 3), "told": torch.tensor(True), "generator": torch.Generator().get_state()},
        steps=[{"step": 0, "outer_loss": 0.1 + 0.2, "val_accuracy": None}],
        activations=[{"step": 0, "final": False, "genome": [1e-17, -3.0]}],
        inner_steps_total=20,
        search_seconds=1.5,
        wall_seconds=2.5,
        started_at="2026-01-01T00:00:00+00:00",
    )
    checkpoint.save(tmp_path, "gradient-0000", HASH, stands)
    return tmp_path, stands


def test_what_is_read_is_what_was_written(kept: tuple[Path, Checkpoint]):
    root, stands = kept
    found = checkpoint.load(root, NAME)
    assert isinstance(found, Checkpoint)
    assert replace(found, state={}) == replace(stands, state={})
    assert found.state.keys() == stands.state.keys()
    for name, tensor in stands.state.items():
        assert found.state[name].dtype == tensor.dtype
        assert torch.equal(found.state[name], tensor)


@pytest.mark.parametrize("place", [3, 9, 200, -1])
def test_a_flipped_bit_is_seen_and_the_file_put_aside(kept: tuple[Path, Checkpoint], place: int):
    root, _ = kept
    [path] = (root / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    damaged = checkpoint.load(root, NAME)
    assert isinstance(damaged, Damaged)
    assert damaged.reason
    assert not path.exists()
    aside = root / "quarantine" / "checkpoints"
    assert {one.name for one in aside.iterdir()} == {NAME, f"{NAME}.json"}
    assert json.loads((aside / f"{NAME}.json").read_text())["reason"] == damaged.reason


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_checkpoint_is_none(kept: tuple[Path, Checkpoint], data: bytes):
    root, _ = kept
    [path] = (root / "checkpoints").iterdir()
    path.write_bytes(data)
    assert checkpoint.latest(root, "gradient-0000", HASH, 3) is None


def test_one_of_another_configuration_or_rung_is_not_taken(kept: tuple[Path, Checkpoint]):
    root, _ = kept
    assert checkpoint.latest(root, "gradient-0000", HASH[::-1], 1) is None
    assert checkpoint.latest(root, "gradient-0000", HASH, 0) is None
    assert checkpoint.latest(root, "gradient-0001", HASH, 1) is None
    assert checkpoint.rungs_reached(root) == {"gradient-0000": 1}
    checkpoint.clear(root, ["gradient-0001"])
    assert checkpoint.rungs_reached(root) == {"gradient-0000": 1}
    checkpoint.clear(root, ["gradient-0000"])
    assert checkpoint.rungs_reached(root) == {}
    checkpoint.clear_all(root)
    assert not (root / "checkpoints").exists()


def test_one_of_other_code_is_passed_over_and_stays(kept: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch):
    root, _ = kept
    monkeypatch.setattr(checkpoint, "code_digest", lambda: "another")
    assert checkpoint.latest(root, "gradient-0000", HASH, 3) is None
    assert (root / "checkpoints" / NAME).exists()


def test_a_run_folder_that_is_gone_is_told(kept: tuple[Path, Checkpoint]):
    root, stands = kept
    with pytest.raises(StoreError, match=r"could not make .*checkpoints"):
        checkpoint.save(root / "gone", "gradient-0000", HASH, stands)
