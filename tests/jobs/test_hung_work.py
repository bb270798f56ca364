"""Work that never ends in the driver's own process: the command says so and leaves, and the run can be resumed."""

import os
import subprocess
import sys

from tests.jobs.calls import ROOT, ldnn
from tests.small_runs import assert_same_rows

DRIVER = """
import sys
import search.work

do_unit = search.work.do_unit

def hangs(unit, **arguments):
    while unit.payload["kind"] == "evaluation":
        pass
    return do_unit(unit, **arguments)

search.work.do_unit = hangs
from jobs.cli import main
main(sys.argv[1:])
"""


def hanging(*arguments):
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_a_batch_that_hangs_without_workers_ends_the_command_with_words_and_the_run_can_be_resumed(
    recipe, undisturbed, tmp_path
):
    limit = ["--set", "resources.max_evaluation_seconds=1"]
    left = hanging("search", recipe, "--out", tmp_path, *limit)
    run = tmp_path / "tiny"
    assert left.returncode == 1, left.stderr
    assert left.stdout.startswith(
        "Stopped: a unit in this process did not end in time, and only the process can be ended."
    )
    assert f"`ldnn resume {run}` goes on, with `--workers 1` also past units that hang" in left.stdout
    reason = "timeout: it did not answer for 1 s and was ended; resources.max_evaluation_seconds is exceeded"
    assert left.stdout.rstrip().endswith(reason)
    assert "Traceback" not in left.stderr

    status = ldnn("status", run)
    [note] = ldnn("status", run, "--json").json["not_judged"]
    words = f"{note['unit']} is not judged: timeout, it did not answer for 1 s"
    assert (note["status"], note["attempts"]) == ("timeout", 1)
    assert words in status.out

    free = ["--set", "resources.max_evaluation_seconds=0"]
    answer = ldnn("search", recipe, "--out", tmp_path, "--resume", "--json", *free)
    assert (answer.code, answer.json["skipped"], answer.json["verdict"]["not_judged"]) == (0, 4, [])
    assert ldnn("status", run, "--json").json["not_judged"] == []
    assert_same_rows(run, undisturbed[0])


def test_a_verdict_and_a_report_say_what_could_not_be_judged(recipe, tmp_path, monkeypatch):
    def fails(config, store, payload, device):
        raise OSError("the data is <gone>")

    monkeypatch.setattr("search.work.judge", fails)
    small = ["--set", "method=gradient", "--set", "search.trials=1", "--set", "evaluation.widths=[6]"]
    answer = ldnn("search", recipe, "--out", tmp_path, *small)
    assert answer.code == 1
    words = ["is not judged: failed,", "OSError: the data is <gone>"]
    assert [" ".join(answer.out.split()).count(one) for one in words] == [2, 4]
    page = (tmp_path / "tiny" / "report" / "index.html").read_text()
    assert "batches of networks not judged" in page
    assert page.count("failed, OSError: the data is &lt;gone&gt;") == 2
