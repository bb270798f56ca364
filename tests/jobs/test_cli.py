"""The command ``ldnn``: what it answers, and with which exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from jobs import running
from jobs.cli import app
from search.run_folder import open_run
from tests.jobs.calls import ROOT, ldnn, start
from tests.small_runs import assert_same_rows, drive_here, new_run, rows


@pytest.fixture(autouse=True)
def _no_figures(undisturbed, monkeypatch):
    """The report, which takes seconds, is written by the undisturbed run and by the command of that name alone."""
    monkeypatch.setattr(running, "_write_report", lambda run: run.path / "report" / "index.html")


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A finished run that may be changed."""
    return shutil.copytree(undisturbed[0], tmp_path / "copied" / "tiny")


WRONG = {
    "value": (
        ["--set", "method=genetc"],
        ["method = 'genetc'", "gradient, evolution, both", "Did you mean 'gradient'"],
    ),
    "range": (["--set", "search.space.inner_lr.low=-1"], ["search.space.inner_lr.low = -1", "above 0"]),
    "type": (["--set", "ldnn.width=ten"], ["ldnn.width = 'ten'", "a whole number from 1 to 4096"]),
    "key": (["--set", "ldnn.widht=50"], ["ldnn.widht", "there is no such key", "Did you mean ldnn.width?"]),
    "section": (["--set", "lddn.width=50"], ["lddn.width", "Did you mean ldnn.width?"]),
    "form": (["--set", "ldnn.width"], ["ldnn.width", "key=value"]),
    "relation": (["--set", "inner.batch_size=4000"], ["inner.batch_size = 4000", "rows to train on (3200)"]),
    "scheduler": (
        ["--set", "search.scheduler=halving", "--set", "search.wave=1"],
        ["search.wave = 1", "`reduction to the power of rungs (9) <= wave for halving` must hold"],
    ),
    "name": (["--set", "name=../elsewhere"], ["name = '../elsewhere'", "letters, digits"]),
}

_ALL_AT_ONCE = """
import contextlib, io, json, sys
from tests.jobs.calls import ldnn
answers = [ldnn(*arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[a.code, a.out, a.err, [m for m in ("ray", "optuna") if m in sys.modules]] for a in answers]))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """Wrong commands, one after another in a process of their own; nothing may be left of them."""
    out = tmp_path_factory.mktemp("refused")
    asked = {name: ["search", "quickstart", *options, "--out", str(out)] for name, (options, _) in WRONG.items()}
    asked["recipe"] = ["search", "quickstrat", "--out", str(out)]
    asked["file"] = ["search", str(out / "gone.toml"), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _ALL_AT_ONCE, json.dumps(list(asked.values()))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert list(out.iterdir()) == []
    return dict(zip(asked, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_refused_with_the_way_out(refusals, name):
    code, out, err, loaded = refusals[name]
    assert (code, out, loaded) == (2, "", [])
    for words in WRONG[name][1]:
        assert words in err
    assert "Traceback" not in err


def test_an_unknown_recipe_is_refused_with_the_nearest(refusals):
    code, _, err, loaded = refusals["recipe"]
    assert (code, loaded) == (2, [])
    for words in ("'quickstrat'", "smoke", "mnist1d-gradient", "Did you mean 'quickstart'?"):
        assert words in err


def test_a_recipe_file_that_is_not_there_is_refused(refusals):
    code, _, err, _ = refusals["file"]
    assert code == 2
    assert "gone.toml" in err
    assert "there is no such file" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["search"], "Missing argument 'RECIPE'"),
        (["search", "smoke", "--workers", "-1"], "Invalid value for '--workers'"),
        (["search", "smoke", "--frob"], "No such option: --frob"),
        (["evaluate", "runs/x", "--widths", "20,wide"], "--widths must be whole numbers above 0"),
        (["evaluate", "runs/x", "--depths", "0"], "--depths must be whole numbers above 0"),
        (["evaluate", "runs/x", "--best", "0"], "Invalid value for '--best'"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words):
    answer = ldnn(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in " ".join(answer.err.replace("│", " ").split())
    assert answer.err.startswith("Usage: ldnn ")


def test_cuda_is_refused_where_there_is_none(monkeypatch, recipe, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = ldnn("search", recipe, "--set", "resources.device=cuda", "--out", tmp_path)
    assert answer.code == 2
    assert 'resources.device = "cuda": this machine has no CUDA device; allowed here: cpu, auto' in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["resume", "status", "evaluate", "compare", "report"])
def test_what_is_no_run_is_refused(command, tmp_path):
    answer = ldnn(command, tmp_path)
    assert answer.code == 2
    assert str(tmp_path) in answer.err
    assert "run.json" in answer.err
    assert list(tmp_path.iterdir()) == []
    assert ldnn(command, tmp_path / "gone").code == 2


def test_a_search_says_what_it_found(undisturbed):
    path, answer = undisturbed
    assert f"Run:    {path}\nReport: {path / 'report' / 'index.html'}\n" in answer.out
    assert (path / "report" / "index.html").stat().st_size > 10_000
    assert "Accuracy on test rows" in answer.out
    assert "[1/10] gradient-0000 ok in" in answer.err
    assert "[10/10] usual-mnist1d-w6" in answer.err


def test_a_run_is_not_started_twice(copy, recipe):
    before = sorted(copy.rglob("*"))
    answer = ldnn("search", recipe, "--out", copy.parent)
    assert answer.code == 2
    assert f"{copy} is a run already. Go on with it with `ldnn resume {copy}`" in answer.err
    assert sorted(copy.rglob("*")) == before


def test_a_finished_run_is_resumed_without_doing_anything(copy, recipe):
    parts = {path: path.stat().st_mtime_ns for path in copy.glob("*/*.parquet")}
    for arguments in (["resume", copy], ["search", recipe, "--out", copy.parent, "--resume"]):
        answer = ldnn(*arguments, "--json")
        assert answer.code == 0, answer.err
        assert (answer.json["finished"], answer.json["skipped"], answer.json["problems"]) == (0, 10, [])
    assert {path: path.stat().st_mtime_ns for path in copy.glob("*/*.parquet")} == parts


def test_a_run_is_resumed_only_with_the_configuration_it_has(copy, recipe):
    changes = ["--set", "seed=4", "--set", "evaluation.widths=[6, 12]"]
    answer = ldnn("search", recipe, "--out", copy.parent, "--resume", *changes)
    assert answer.code == 2
    assert "seed: 0 -> 4" in answer.err
    assert "evaluation.widths: [6,10] -> [6,12]" in answer.err
    assert "gradient." not in answer.err
    free = ["--set", "resources.threads=2", "--set", "description=other words"]
    assert ldnn("search", recipe, "--out", copy.parent, "--resume", *free).code == 0


def test_resuming_what_is_not_there_starts_it(recipe, tmp_path):
    arguments = ["--set", "search.trials=1", "--set", "method=gradient", "--set", "evaluation.best=0"]
    answer = ldnn("search", recipe, "--out", tmp_path, "--resume", "--json", *arguments)
    assert (answer.code, answer.json["finished"]) == (0, 1)


def test_an_interrupted_run_is_resumed_to_the_same_rows(undisturbed, tmp_path):
    run = new_run(tmp_path)
    asked = iter([False, False, False, True])
    drive_here(run, stop=lambda: next(asked, True))
    answer = ldnn("resume", run.path, "--workers", 0, "--json")
    assert answer.code == 0
    assert (answer.json["skipped"], answer.json["finished"], answer.json["exit_code"]) == (3, 7, 0)
    assert answer.json["verdict"]["rows"]
    assert_same_rows(run.path, undisturbed[0])


def test_what_was_damaged_is_said(copy):
    part = copy / "steps" / "part-gradient-0000-a0.parquet"
    part.write_bytes(b"")
    answer = ldnn("resume", copy)
    assert answer.code == 0
    assert "moved to quarantine:" in answer.err
    assert part.name in answer.err
    assert "it is empty" in answer.err
    assert "3 of 10 units are done already" in answer.err  # batches of networks count once all trials are there


def test_a_run_of_failed_trials_says_so_with_exit_code_1(monkeypatch, recipe, tmp_path):
    def fail(*arguments):
        raise RuntimeError("the [bolt] is loose")

    monkeypatch.setattr("search.trial.search_by_gradient", fail)
    answer = ldnn("search", recipe, "--set", "method=gradient", "--out", tmp_path)
    assert answer.code == 1
    assert "gradient-0001 failed: the [bolt] is loose" in answer.out
    assert ldnn("status", tmp_path / "tiny").code == 0


def test_a_run_of_diverged_trials_says_so_with_exit_code_1(recipe, tmp_path):
    settings = ["ldnn.base=relu", "inner.optimizer=sgd", "search.space.inner_lr={choices=[1e6]}"]
    options = [part for setting in settings for part in ("--set", setting)]
    answer = ldnn("search", recipe, *options, "--out", tmp_path)
    assert answer.code == 1
    assert "evolution-0001 diverged: generation 0: all 4 candidates diverged" in answer.out
    as_json = ldnn("resume", tmp_path / "tiny", "--json")
    assert (as_json.code, as_json.json["finished"]) == (1, 0)
    assert ldnn("compare", tmp_path / "tiny").code in {0, 2}


def test_one_diverged_trial_among_good_ones_is_no_failure(monkeypatch, recipe, tmp_path):
    settings = [
        "ldnn.base=relu",
        "inner.optimizer=sgd",
        "search.space.inner_lr={choices=[1e6, 0.001]}",
        "search.trials=4",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    answer = ldnn("search", recipe, "--set", "method=gradient", *options, "--out", tmp_path)
    statuses = pd.read_parquet(tmp_path / "tiny" / "trials")["status"]
    assert set(statuses) == {"ok", "diverged"}
    assert answer.code == 0


HALVING = {"method": "gradient", "search": {"scheduler": "halving", "trials": 4, "wave": 4, "reduction": 2, "rungs": 1}}


def test_pruned_trials_are_counted_as_such_and_are_no_failures(recipe, tmp_path):
    settings = ["method=gradient", *(f"search.{key}={value}" for key, value in HALVING["search"].items())]
    options = [part for setting in settings for part in ("--set", setting)]
    answer = ldnn("search", recipe, *options, "--out", tmp_path, "--json")
    assert (answer.code, answer.json["problems"], answer.json["finished"]) == (0, [], 4 + 2 * 2)
    states = [trial["state"] for trial in ldnn("status", tmp_path / "tiny", "--json").json["trials"]]
    assert sorted(states) == ["ok", "ok", "pruned", "pruned"]
    words = ldnn("status", tmp_path / "tiny").out
    assert "2 pruned" in words
    assert "time [s]" in words  # a unit, and not a mark of the terminal's


def test_trials_that_wait_at_a_rung_are_shown_as_paused(tmp_path):
    run, asked = new_run(tmp_path, **HALVING), iter([False] * 3 + [True] * 9)
    drive_here(run, stop=lambda: next(asked))
    states = {trial["trial_id"]: trial for trial in ldnn("status", run.path, "--json").json["trials"]}
    assert [states[f"gradient-000{n}"]["state"] for n in range(4)] == ["paused"] * 3 + ["waiting"]
    assert states["gradient-0000"]["rung"] == 0
    assert "rung 1" in ldnn("status", run.path).out  # as the lines of a search count them


def test_dry_run_shows_the_plan_and_does_nothing(recipe, tmp_path):
    answer = ldnn("search", recipe, "--out", tmp_path, "--dry-run", "--workers", 3)
    assert answer.code == 0
    for words in (f"run       {tmp_path / 'tiny'}", "2 trials of each of gradient, evolution", "K = 2 from tanh",
                  "inner_lr, mutation_scale", "about 32 networks, widths 6, 10", "workers   3"):  # fmt: skip
        assert words in answer.out
    settings = [f"search.{key}={value}" for key, value in HALVING["search"].items()]
    planned = ldnn("search", recipe, *(part for one in settings for part in ("--set", one)), "--dry-run")
    assert "scheduler halving, one of 2 goes on after 1/2 of the inner steps" in planned.out
    as_json = ldnn("search", recipe, "--out", tmp_path, "--dry-run", "--json", "--workers", 3)
    assert as_json.json["resources"]["workers"] == 3
    assert as_json.json["evaluation"]["widths"] == [6, 10]
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_listed_and_each_can_be_planned(tmp_path):
    listed = ldnn("recipes", "--json").json
    names = [one["name"] for one in listed]
    assert {"quickstart", "smoke", "mnist1d-gradient", "mnist1d-evolution", "mnist1d-compare"} <= set(names)
    assert names == sorted(path.stem for path in running.RECIPES.glob("*.toml"))
    table = ldnn("recipes").out
    for one in listed:
        assert one["name"] in table
        assert one["description"]
        scale = "smoke" if one["name"] == "vgg-scale" else "full"  # in full it asks for files
        planned = ldnn("search", one["name"], "--set", f"scale={scale}", "--out", tmp_path, "--dry-run")
        assert planned.code == 0, planned.err


def test_doctor_says_what_works():
    answer = ldnn("doctor", "--json")
    assert answer.code == 0
    states = {one["what"]: one["state"] for one in answer.json}
    assert {"python", "ldnn", "cores", "memory", "disk", "device", "kernels", "mnist1d", "ray"} == set(states)
    assert "bad" not in states.values()
    assert all(one["words"] for one in answer.json)


def test_doctor_says_what_does_not_work_with_exit_code_1(monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "mnist1d-5000-42.npz").write_bytes(b"damaged")
    monkeypatch.setenv("LDNN_CACHE", str(cache))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = ldnn("doctor", "--json")
    found = {one["what"]: one for one in answer.json}
    assert answer.code == 1
    assert (found["mnist1d"]["state"], found["ray"]["state"]) == ("bad", "bad")
    assert "it is generated anew" in found["mnist1d"]["words"]
    assert "pip install 'ray[tune]'" in found["ray"]["words"]
    assert ldnn("doctor").code == 1


def test_status_of_a_finished_run(undisturbed):
    path, _ = undisturbed
    found = ldnn("status", path, "--json").json
    assert [trial["trial_id"] for trial in found["trials"]] == [
        "gradient-0000", "gradient-0001", "evolution-0000", "evolution-0001",
    ]  # fmt: skip
    assert {trial["state"] for trial in found["trials"]} == {"ok"}
    assert all(0 < trial["score"] < 1 for trial in found["trials"])
    assert found["evaluated_networks"] == (2 * 3 + 2) * 2 * 2
    assert found["damaged_parts"] == []
    assert found["disk_bytes"] > 10_000
    table = ldnn("status", path).out
    assert "4 trials: 4 ok. 32 networks evaluated." in table


def test_status_of_a_running_run_touches_nothing(tmp_path):
    run = new_run(tmp_path)
    asked = iter([False, True])
    drive_here(run, stop=lambda: next(asked, True))
    state = {"done": 1, "total": 3, "loss": 2.3, "seconds": 4.2, "host": os.uname().nodename, "pid": os.getpid()}
    (run.path / "logs" / "evolution-0000.progress.json").write_text(json.dumps(state))
    (run.path / "steps" / "part-evolution-0001-a0.parquet").write_bytes(b"half a part")
    (run.path / "trials" / "part-bad-a0.parquet").write_bytes(b"")
    before = sorted(run.path.rglob("*"))
    found = ldnn("status", run.path, "--json").json
    assert sorted(run.path.rglob("*")) == before
    assert [trial["state"] for trial in found["trials"]] == ["ok", "waiting", "running", "waiting"]
    running_now = found["trials"][2]
    assert (running_now["step"], running_now["of"], running_now["pid"]) == (1, 3, os.getpid())
    assert any("part-bad-a0.parquet" in part for part in found["damaged_parts"])
    table = ldnn("status", run.path).out
    assert "4 trials: 1 ok, 2 waiting, 1 running." in table
    assert "1/3" in table
    assert "damaged: " in table


def test_status_does_not_call_a_killed_trial_running(tmp_path):
    run = new_run(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state = {"done": 1, "total": 3, "loss": 2.3, "seconds": 4.2, "host": os.uname().nodename, "pid": gone.pid}
    (run.path / "logs" / "gradient-0000.progress.json").write_text(json.dumps(state))
    assert ldnn("status", run.path, "--json").json["trials"][0]["state"] == "waiting"


def test_evaluating_further_adds_only_what_is_new(copy):
    before = rows(copy, "evaluations")
    options = ["--trial", "gradient-0001", "--widths", "6,12", "--seeds", 3, "--workers", 0]
    answer = ldnn("evaluate", copy, *options, "--json")
    assert answer.code == 0, answer.err
    after = rows(copy, "evaluations")
    keys = ["trial_id", "arm", "width", "depth", "seed"]
    assert not after.duplicated(keys).any()
    kept = after.merge(before[keys], on=keys)
    pd.testing.assert_frame_equal(before, kept[before.columns], check_exact=True)
    wanted = after.query("trial_id in ['gradient-0001', 'usual'] and width in [6, 12]")
    assert (wanted.groupby(["trial_id", "arm", "width"])["seed"].agg(sorted).apply(tuple) == (0, 1, 2)).all()
    assert len(wanted) == (3 + 2) * 2 * 3
    assert ldnn("evaluate", copy, *options, "--json").json["finished"] == 0


def test_controls_usual_activations_and_curvature_can_be_asked_for_later(copy, monkeypatch):
    monkeypatch.setattr("search.spectral.STEPS", 5)
    before = rows(copy, "evaluations")
    judged = before["trial_id"].min()
    options = ["--trial", judged, "--widths", "6", "--usual", "relu, hat", "--controls", "all"]
    options += ["--curvature", "batched", "--spectral-bias", "--initial-variance", "--workers", 0, "--json"]
    answer = ldnn("evaluate", copy, *options)
    assert answer.code == 0, answer.err
    after, measured = rows(copy, "evaluations"), pd.read_parquet(copy / "spectra")
    own = {"untrained", "copies", "shuffled", "relu-equal", "mixed-normalized"}
    assert set(after["arm"]) - set(before["arm"]) == own | {"hat"}
    assert len(after) == len(before) + (5 + 1) * 2
    assert set(measured["arm"]) == own | {"mixed", "pure-0", "pure-1", "relu", "hat"}
    assert set(pd.read_parquet(copy / "spectral_bias")["arm"]) == {"mixed", "pure-0", "pure-1", "relu", "hat"}
    assert set(pd.read_parquet(copy / "initial_variance")["arm"]) == own | {"mixed", "pure-0", "pure-1", "relu", "hat"}
    assert ldnn("evaluate", copy, *options).json["finished"] == 0


def test_the_best_and_a_trial_by_name_can_be_evaluated_together(copy):
    answer = ldnn("evaluate", copy, "--best", 2, "--trial", "gradient-0000", "--depths", "2", "--widths", "6", "--json")
    assert answer.code == 0, answer.err
    deep = rows(copy, "evaluations").query("depth == 2")
    assert set(deep["trial_id"]) == {"gradient-0000", "gradient-0001", "evolution-0000", "evolution-0001", "usual"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--trial", "gradient-0007"],
            "got 'gradient-0007'; those that have: evolution-0000, evolution-0001, gradient-",
        ),
        (["--widths", "1"], "largest num_types <= smallest of evaluation.widths"),
        (["--depths", "65"], "evaluation.depths[0] = 65: must be a whole number from 1 to 64"),
        (["--seeds", "20000"], "evaluation.seeds = 20000: must be a whole number from 1 to 10000"),
        (["--usual", "relu,swish"], "evaluation.usual[1] = 'swish': must be one of"),
        (["--controls", "copys"], "evaluation.controls[0] = 'copys': must be one of untrained, copies"),
        (["--curvature", "exact"], "curvature.method = 'exact': must be one of none, batched, pyhessian"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(undisturbed, options, words):
    before = sorted(undisturbed[0].rglob("*"))
    answer = ldnn("evaluate", undisturbed[0], *options)
    assert answer.code == 2
    assert words in answer.err
    assert sorted(undisturbed[0].rglob("*")) == before


def test_a_run_without_a_finished_trial_has_nothing_to_evaluate(tmp_path):
    answer = ldnn("evaluate", new_run(tmp_path).path)
    assert answer.code == 2
    assert "no trial has ended well yet, so there is no set to judge" in answer.err


def test_methods_are_compared_in_words_and_for_programs(undisturbed):
    path, _ = undisturbed
    found = ldnn("compare", path, "--json").json
    assert set(found) == {"sentences", "equal_budget", "final_sets"}
    assert {row["budget_kind"] for row in found["equal_budget"]} == {"inner_steps_total", "wall_seconds"}
    assert {row["width"] for row in found["final_sets"]} == {6, 10}
    answer = ldnn("compare", path)
    assert answer.code == 0
    assert "evolution" in answer.out


def test_a_report_is_written_again(copy):
    shutil.rmtree(copy / "report")
    answer = ldnn("report", copy)
    assert (answer.code, answer.out) == (0, f"{copy / 'report' / 'index.html'}\n")
    assert "<html" in (copy / "report" / "index.html").read_text()


def test_a_run_of_another_version_is_refused_in_a_sentence(tmp_path):
    from search.config import RunConfig
    from search.run_folder import create
    from tests.small_runs import tiny_run

    config = tiny_run().model_dump(mode="json")
    config["gradient"]["flux"] = 3
    run = create(tmp_path, "tiny", config, seed=0)
    for command in ("resume", "status", "evaluate"):
        answer = ldnn(command, run.path)
        assert answer.code == 2
        assert "another version of ldnn" in answer.err
        assert "gradient.flux = 3" in answer.err
    del config["gradient"]["flux"]
    del config["gradient"]["clamp"]  # as if a later version had added it
    older = create(tmp_path / "older", "tiny", config, seed=0)
    assert "clamp" not in older.info.config["gradient"]
    found = ldnn("status", older.path, "--json")
    assert found.code == 0
    assert RunConfig.model_validate(older.info.config).gradient.clamp == 0.1


def test_a_terminal_gets_a_live_line(monkeypatch, recipe, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    answer = ldnn("search", recipe, "--out", tmp_path, "--set", "method=gradient", "--set", "evaluation.usual=[]")
    assert answer.code == 0
    assert "4/4" in answer.err
    assert "best " in answer.err
    assert "(gradient-000" in answer.err
    assert "[1/4]" not in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_every_signal_that_asks_to_stop_is_heard_once_and_obeyed_twice(number):
    before, said = signal.getsignal(number), []
    with running._asked_to_stop(lambda: said.append("stopping")) as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert said == ["stopping"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_interrupted_search_ends_after_its_unit_and_can_be_resumed(recipe, undisturbed, tmp_path):
    process = start("search", recipe, "--out", tmp_path)
    path = tmp_path / "tiny"
    wait_for(lambda: list(path.glob("trials/*.parquet")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"Interrupted. What is finished is on disk; go on with `ldnn resume {path}`" in out
    assert "Traceback" not in err
    done = len(list(path.glob("trials/*.parquet")) + list(path.glob("evaluations/*.parquet")))
    assert 0 < done < 10
    assert list((path / "report").iterdir()) == []
    answer = ldnn("resume", path, "--json")
    assert (answer.code, answer.json["skipped"]) == (0, done)
    assert_same_rows(path, undisturbed[0])


def test_a_second_interruption_ends_at_once_and_loses_nothing(recipe, tmp_path):
    settings = ["gradient.outer_steps=100000", "method=gradient", "search.wave=2"]
    process = start("search", recipe, "--out", tmp_path, *[part for s in settings for part in ("--set", s)])
    path = tmp_path / "tiny"
    wait_for(lambda: list(path.glob("logs/*.progress.json")), process)
    process.send_signal(signal.SIGTERM)
    said = process.stderr.readline()
    assert "stopping: running units end first; interrupt once more to stop at once" in said
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    run = open_run(path)
    assert [trial["state"] for trial in ldnn("status", path, "--json").json["trials"]] == ["waiting", "waiting"]
    account, _ = drive_here(run, stop=lambda: True)
    assert account.interrupted


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])
def test_the_help_of_every_command_has_an_example_of_it(command):
    assert f"Example:  ldnn {command}" in ldnn(command, "--help").out
