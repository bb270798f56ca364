"""A search for several objectives, warmed by an earlier run, as a person starts it and looks at it."""

import json

import pytest

from jobs import running
from tests.jobs.calls import ldnn

OPTIONS = ["--set", "name=warm", "--set", 'search.objectives=["score", "num_params"]', "--set", "evaluation.best=0"]


@pytest.fixture(scope="module")
def warmed(undisturbed, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("warmed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_write_report", lambda run: run.path / "report" / "index.html")
        answer = ldnn("search", recipe, "--out", out, *OPTIONS, "--set", f'search.warm_start="{undisturbed[0]}"')
    return out / "warm", answer


def test_it_says_what_it_was_warmed_with_and_what_is_in_the_pareto_set(undisturbed, warmed):
    path, answer = warmed
    assert answer.code == 0, answer.err
    earlier = json.loads((undisturbed[0] / "run.json").read_text())["run_id"]
    assert f"Warm start: 4 trials of {earlier} told to the sampler\n" in answer.out
    assert "Pareto set for high score, low num_params:" in answer.out
    info = json.loads((path / "run.json").read_text())
    assert info["lineage"] == earlier
    assert [one["trial_id"] for one in info["warm_start"]["trials"]] == [
        "evolution-0000", "evolution-0001", "gradient-0000", "gradient-0001",
    ]  # fmt: skip


def test_status_tells_the_objectives_and_the_pareto_set(warmed):
    path, _ = warmed
    found = ldnn("status", path, "--json").json
    assert found["objectives"] == ["score", "num_params"]
    scores = {trial["trial_id"]: trial["score"] for trial in found["trials"]}
    # All networks have the same size, so that the best score decides.
    assert set(found["pareto_set"]) == {key for key, score in scores.items() if score == max(scores.values())}
    assert {trial["num_params"] for trial in found["trials"]} == {40 * 10 + 10 + 10 * 10 + 10}
    words = ldnn("status", path).out
    assert f"{len(found['pareto_set'])} of 4 trials" in words
    assert words.count("in it") == len(found["pareto_set"])
    assert words.count("520") == 4  # the number of parameters, of every trial


def test_resuming_it_does_nothing_and_answers_programs_with_all_trials(warmed, monkeypatch):
    monkeypatch.setattr(running, "_write_report", lambda run: run.path / "report" / "index.html")
    answer = ldnn("resume", warmed[0], "--json").json
    assert (answer["finished"], answer["skipped"]) == (0, 4)
    assert answer["verdict"]["pareto"]["objectives"] == ["score", "num_params"]
    assert len(answer["verdict"]["pareto"]["trials"]) == 4


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--dry-run", "--json"]])
def test_a_warm_start_from_nowhere_is_refused_and_nothing_is_made(recipe, tmp_path, more):
    gone = tmp_path / "gone"
    answer = ldnn("search", recipe, "--out", tmp_path / "out", "--set", f'search.warm_start="{gone}"', *more)
    assert answer.code == 2
    assert f"there is no run folder {gone}" in answer.err
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_a_warm_start_would_take_over(undisturbed, recipe, tmp_path):
    warm = f'search.warm_start="{undisturbed[0]}"'
    answer = ldnn("search", recipe, "--out", tmp_path / "out", "--dry-run", *OPTIONS, "--set", warm)
    assert "warmed    4 trials of tiny-" in answer.out
    assert "by tpe for score, num_params" in answer.out
