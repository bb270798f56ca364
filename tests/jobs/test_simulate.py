"""`ldnn simulate`: a search on paper, made from a run that is there, and nothing in that run changed."""

import pytest

from jobs.simulation import simulate
from tests.jobs.calls import ldnn
from tests.small_runs import drive_here, new_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = new_run(tmp_path_factory.mktemp("recorded"), evaluation={"best": 0})
    drive_here(made)
    return made.path


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_answers_with_the_course_of_the_search_and_writes_nothing(run):
    before = files(run)
    answer = ldnn(
        "simulate",
        run,
        "--trials",
        30,
        "--workers",
        4,
        "--set",
        "search.wave=8",
        "--set",
        "search.history=20",
        "--json",
    )
    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["trials"], found["workers"], found["recorded"]) == (60, 4, {"gradient": 2, "evolution": 2})
    assert (found["ended"], found["given_up"], found["deaths"]) == ({"ok": 60}, 0, 0)
    assert 0 < found["utilisation"] <= 1
    assert [row["trials"] for row in found["progress"]] == list(range(6, 61, 6))
    assert found["progress"][-1]["virtual_seconds"] == found["makespan_seconds"]
    assert found["improvements"][-1]["score"] == found["best_score"] == found["progress"][-1]["best"]
    assert 0 < found["ask_cpu_seconds_per_trial"] <= found["driver_cpu_seconds_per_trial"]
    assert files(run) == before


def test_is_the_same_each_time_and_follows_what_is_changed(run):
    def course(*overrides, **changes):
        options = {"trials": 20, "workers": 3, "deaths_per_hour": 40000.0, "overhead": 0.0, "stretch": 1.0} | changes
        found = simulate(run, overrides, **options)
        return {key: found[key] for key in ("makespan_seconds", "deaths", "given_up", "improvements", "ended")}

    first = course()
    assert course() == first
    assert first["deaths"] > 0
    assert course("seed=1") != first
    assert course(overhead=0.5)["makespan_seconds"] >= 40 * 0.5
    quiet = [course(deaths_per_hour=0.0, workers=1, stretch=stretch)["makespan_seconds"] for stretch in (1.0, 10.0)]
    # One worker never waits: only the idle asking between waves of one does not stretch, and here there is none.
    assert quiet[1] == pytest.approx(10 * quiet[0])


def test_tells_it_in_words(run):
    answer = ldnn("simulate", run, "--trials", 6, "--workers", 2)
    assert answer.code == 0, answer.err
    assert "simulated  12 trials on 2 workers: 12 ok, 0 given up" in answer.out
    assert "Ray and disk not counted" in answer.out
    assert "one ask [ms]" in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "search.wave=0"], "search.wave"),
        (["--set", "search.wavy=3"], "search.wave"),
        (["--trials", "1000000"], "search.trials"),
    ],
)
def test_a_wrong_change_is_refused(run, arguments, words):
    answer = ldnn("simulate", run, *arguments)
    assert answer.code == 2
    assert words in answer.err


def test_a_run_without_trials_is_refused(run, tmp_path):
    copy = tmp_path / "empty"
    copy.mkdir()
    (copy / "run.json").write_bytes((run / "run.json").read_bytes())
    (copy / "trials").mkdir()
    answer = ldnn("simulate", copy)
    assert answer.code == 2
    assert "a recorded run must have a trial of gradient that ended well" in answer.err


@pytest.mark.parametrize("scheduler", ["asha", "halving"])
def test_a_scheduler_stops_trials_and_saves_their_time(run, scheduler):
    options = {"trials": 32, "workers": 1, "deaths_per_hour": 0.0, "overhead": 0.0, "stretch": 1.0}
    steps = ["gradient.outer_steps=9", "evolution.generations=9", "search.wave=8", "search.reduction=2"]
    whole = simulate(run, steps, **options)
    stopped = simulate(run, [*steps, f"search.scheduler={scheduler}"], **options)
    assert stopped["ended"]["pruned"] + stopped["ended"]["ok"] == 64
    assert stopped["makespan_seconds"] < whole["makespan_seconds"]
    if scheduler == "halving":
        assert stopped["ended"] == {"ok": 16, "pruned": 48}  # 2 of 8 are left after two halvings
