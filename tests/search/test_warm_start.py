"""A warm start takes over the trials that fit, says what it leaves out, and is fixed when the run is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.config import RunConfig
from search.config_errors import ConfigError
from search.run_folder import RunFolder, create, open_run
from search.sampling import optuna_suggesters
from search.schema import Status
from search.warm_start import WarmStart, earlier_trials, gather
from tests.small_runs import drive_here, new_run, rows, tiny_run

GOLDEN = Path(__file__).parents[1] / "golden" / "run_v1"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of two trials of each method."""
    run = new_run(tmp_path_factory.mktemp("earlier"), name="earlier", search={"trials": 2}, evaluation={"best": 0})
    drive_here(run)
    return run


def warmed(earlier: Path | str, **changes: Any) -> RunConfig:
    search = {"warm_start": [str(earlier)], "trials": 3} | changes.pop("search", {})
    return tiny_run(name="warmed", search=search, evaluation={"best": 0} | changes.pop("evaluation", {}), **changes)


def made(parent: Path, config: RunConfig) -> RunFolder:
    warm = gather(config)
    assert warm is not None
    described = config.model_dump(mode="json")
    return create(
        parent, config.name, described, seed=config.seed, lineage=", ".join(warm.run_ids), warm_start=warm.as_json()
    )


def gathered(config: RunConfig) -> WarmStart:
    warm = gather(config)
    assert warm is not None
    return warm


def refusal(config: RunConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        gather(config)
    return str(caught.value)


def test_nothing_is_gathered_for_a_run_that_names_no_earlier_one() -> None:
    assert gather(tiny_run()) is None
    assert earlier_trials(None) == ()


def test_a_single_folder_needs_no_brackets() -> None:
    assert tiny_run(search={"warm_start": "runs/x"}).search.warm_start == ("runs/x",)


def test_all_trials_that_fit_are_taken_with_their_values(earlier: RunFolder) -> None:
    warm = gathered(warmed(earlier.path))
    stored = {row["trial_id"]: row for row in earlier.store.read("trials").to_pylist()}
    assert warm.run_ids == (earlier.info.run_id,)
    assert [trial.trial_id for trial in warm.trials] == [
        "evolution-0000", "evolution-0001", "gradient-0000", "gradient-0001",
    ]  # fmt: skip
    assert warm.left_out == {}
    for trial in warm.trials:
        row = stored[trial.trial_id]
        assert dict(trial.params) == json.loads(row["params"])
        assert (trial.method, trial.status, trial.values["score"]) == (row["method"], Status.OK, row["score"])
    assert str(warm) == f"4 trials of {earlier.info.run_id} told to the sampler"


def test_what_is_written_down_is_read_back(earlier: RunFolder) -> None:
    warm = gathered(warmed(earlier.path))
    assert earlier_trials(json.loads(json.dumps(warm.as_json()))) == warm.trials


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"search": {"space": {"inner_lr": {"low": 0.5, "high": 0.9}, "mutation_scale": {"low": 0.03, "high": 0.3}}},
          "method": "gradient"}, {"outside the space": 2, "of another method": 2}),
        ({"search": {"space": {"inner_lr": {"low": 3e-3, "high": 3e-2}}}, "method": "evolution"},
         {"with another evolution.mutation_scale, which is not sampled here": 2, "of another method": 2}),
        ({"task": {"samples": 1100}}, {"of another task": 4}),
        ({"ldnn": {"width": 12}}, {"with another ldnn.width, which is not sampled here": 4}),
        ({"ldnn": {"depth": 2}}, {"with another ldnn.depth, which is not sampled here": 4}),
        ({"objective": {"widths": [10, 20]}}, {"with a score over other sizes": 4}),
        ({"evaluation": {"epochs": 2}}, {"with networks of the score trained otherwise": 4}),
        ({"search": {"objectives": ["score", "flatness"]}}, {"without a value for every objective": 4}),
        ({"search": {"objectives": ["score", "cross_size_drop"]}}, {"without cross_size_drop at these widths": 4}),
    ],
)  # fmt: skip
def test_trials_that_do_not_fit_are_counted_with_the_reason_and_refused_when_none_is_left(
    earlier: RunFolder, changes: dict[str, Any], left_out: dict[str, int]
) -> None:
    words = refusal(warmed(earlier.path, **changes))
    assert words.startswith("1 problem in the configuration:\n  search.warm_start = [")
    assert "at least one trial there must fit this search, but none does (" in words
    for reason, count in left_out.items():
        assert f"{count} {reason}" in words


def test_some_that_fit_are_enough_and_the_others_are_told_of(earlier: RunFolder) -> None:
    warm = gathered(warmed(earlier.path, method="gradient"))
    assert [trial.trial_id for trial in warm.trials] == ["gradient-0000", "gradient-0001"]
    assert str(warm).endswith("; left out: 2 of another method")


def test_too_few_for_the_start_of_cmaes_are_refused_with_the_way_out(earlier: RunFolder, tmp_path: Path) -> None:
    own = {"sampler": "cmaes", "trials": 5, "wave": 1, "population": 4}
    words = refusal(warmed(earlier.path, method="gradient", search=own))
    assert "at least 10 of gradient must fit this search, but 2 do. Name runs with more of them, sample with" in words
    # Ten are enough, and what cmaes does with them is its own.
    [row] = earlier.store.read("trials", keys=["gradient-0000-a0"]).to_pylist()
    larger = create(tmp_path, "larger", earlier.info.config, seed=0)
    for number in range(10):
        larger.store.publish("trials", f"gradient-{number:04d}-a0", [row | {"trial_id": f"gradient-{number:04d}"}])
    config = warmed(larger.path, method="gradient", search=own)
    made_with = optuna_suggesters(config.search, methods=["gradient"], seed=0, earlier=gathered(config).trials)
    assert made_with["gradient"].suggest("gradient-0000")


def test_what_was_fixed_there_can_be_sampled_here(earlier: RunFolder) -> None:
    space = {"inner_lr": {"low": 3e-3, "high": 3e-2}, "width": {"low": 4, "high": 16, "step": 3}}
    warm = gathered(warmed(earlier.path, method="gradient", search={"space": space}))
    assert [trial.params["width"] for trial in warm.trials] == [10, 10]
    off_the_steps = space | {"width": {"low": 4, "high": 16, "step": 4}}
    words = refusal(warmed(earlier.path, method="gradient", search={"space": off_the_steps}))
    assert "2 outside the space" in words


def test_a_failed_trial_of_there_is_left_out_and_a_diverged_one_told(tmp_path: Path) -> None:
    run = new_run(tmp_path, method="gradient", search={"trials": 3}, evaluation={"best": 0})
    drive_here(run)
    ended = sorted(run.store.read("trials").to_pylist(), key=lambda row: row["number"])
    other = create(tmp_path, "other", run.info.config, seed=0)
    for row, status in zip(ended, ("failed", "diverged", "ok"), strict=True):
        found = {} if status == "ok" else {"score": None, "score_sem": None}
        other.store.publish("trials", f"{row['trial_id']}-a0", [row | {"status": status} | found])
    warm = gathered(warmed(other.path, method="gradient"))
    assert [(trial.trial_id[-4:], str(trial.status)) for trial in warm.trials] == [("0001", "diverged"), ("0002", "ok")]
    assert warm.left_out == {"that ended neither ok nor diverged": 1}


@pytest.mark.parametrize("kind", ["missing", "file", "newer"])
def test_a_folder_that_cannot_be_read_is_refused_before_anything_starts(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "there"
    if kind == "file":
        place.mkdir()
        (place / "run.json").write_text("no json")
    if kind == "newer":
        shutil.copytree(GOLDEN, place)
        info = json.loads((place / "run.json").read_text())
        (place / "run.json").write_text(json.dumps(info | {"schema_version": 99}))
    words = refusal(warmed(place))
    expected = {"missing": "there is no run folder", "file": "is damaged", "newer": "has schema version 99"}[kind]
    assert "search.warm_start = " in words
    assert expected in words


def test_a_run_of_schema_version_1_can_warm_another() -> None:
    stored = open_run(GOLDEN).info.config
    config = RunConfig.model_validate({**stored, "search": {**stored["search"], "warm_start": [str(GOLDEN)]}})
    warm = gathered(config)
    assert len(warm.trials) == 2
    assert all(trial.values["score"] is not None for trial in warm.trials)


def test_the_copied_history_stays_when_the_earlier_run_grows_or_goes(earlier: RunFolder, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(earlier.path, place)
    config = warmed(place)
    whole, resumed = made(tmp_path / "a", config), made(tmp_path / "b", config)
    drive_here(whole)
    ended: list[int] = []
    drive_here(resumed, stop=lambda: bool(ended) or ended.append(1))  # ends after one trial
    shutil.rmtree(place)
    again = open_run(resumed.path)
    assert again.info.lineage == earlier.info.run_id
    assert again.info.warm_start is not None
    assert len(again.info.warm_start["trials"]) == 4
    account, _ = drive_here(again)
    assert account.skipped < 6
    assert rows(resumed.path, "trials").equals(rows(whole.path, "trials"))
    # They are told, and neither run again nor counted.
    assert whole.store.read("trials").num_rows == 6


def test_a_warm_start_changes_what_is_sampled(earlier: RunFolder, tmp_path: Path) -> None:
    config = warmed(earlier.path, method="gradient")
    drive_here(made(tmp_path / "warm", config))
    cold = config.model_copy(update={"search": config.search.model_copy(update={"warm_start": ()})})
    drive_here(create(tmp_path / "cold", cold.name, cold.model_dump(mode="json"), seed=cold.seed))

    def sampled(place: str) -> list[str]:
        found = open_run(tmp_path / place / "warmed").store.read("trials", columns=["number", "params"]).to_pylist()
        return [row["params"] for row in sorted(found, key=lambda row: row["number"])]

    # The earlier trials count as startup trials, so that even the first one is learned from them.
    assert sampled("warm")[0] != sampled("cold")[0]
