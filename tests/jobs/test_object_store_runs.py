"""The command with a run in an object store: every command works there, and finds what it finds in a folder."""

import json
import signal
import time

import pandas as pd
import pytest

from analysis import RunFolderError, load_run
from jobs import running
from search.location import parse_location
from search.run_folder import open_run
from search.storage import storage_at
from tests.jobs.calls import ldnn, start
from tests.search.s3_server import SECRET, s3_server
from tests.small_runs import drive_here, new_run, rows_of


@pytest.fixture(scope="module")
def place():
    with s3_server() as bucket:
        yield f"{bucket}/runs"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("here"))
    drive_here(run)
    return run


@pytest.mark.ray
def test_an_interrupted_search_goes_on_with_workers_to_the_rows_of_a_run_in_a_folder(recipe, place, here, monkeypatch):
    url = f"{place}/tiny"
    storage = storage_at(parse_location(url))
    process = start("search", recipe, "--out", place)
    deadline = time.monotonic() + 120
    while not storage.names("trials"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = ldnn("resume", url)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert second.code == 2
    assert f"{url} is being driven by process {process.pid} on " in second.err
    assert process.returncode == 130, err
    assert f"go on with `ldnn resume {url}`" in out
    assert "Traceback" not in err
    done = len(storage.names("trials")) + len(storage.names("evaluations"))
    assert 0 < done < 10
    monkeypatch.setattr(running, "_write_report", lambda run: run.path)
    answer = ldnn("resume", url, "--workers", 2, "--json")
    assert (answer.code, answer.json["skipped"], answer.json["run"]) == (0, done, url), answer.err
    for table in ("trials", "steps", "activations", "evaluations"):
        found = rows_of(open_run(parse_location(url)), table)
        pd.testing.assert_frame_equal(found, rows_of(here, table), check_exact=True, obj=table)
    assert SECRET not in "".join([out, err, answer.out, answer.err, storage.read("run.json").decode()])


def test_every_command_finds_there_what_it_finds_in_a_folder(place, here, monkeypatch):
    monkeypatch.setattr("analysis.report._figures", lambda run, folder: ([], []))
    run = new_run(parse_location(place), name="whole")
    drive_here(run)
    url = str(run.path)
    found, expected = ldnn("status", url, "--json").json, ldnn("status", here.path, "--json").json
    assert [(one["trial_id"], one["state"], one["score"]) for one in found["trials"]] == [
        (one["trial_id"], one["state"], one["score"]) for one in expected["trials"]
    ]
    assert found["evaluated_networks"] == expected["evaluated_networks"] == 32
    assert (found["run"], found["damaged_parts"]) == (url, [])
    assert found["disk_bytes"] > 100_000
    compared = [json.loads(ldnn("compare", path, "--json").out)["final_sets"] for path in (url, here.path)]
    assert compared[0] == compared[1] != []
    frames = [load_run(path).evaluations for path in (url, str(here.path))]
    columns = ["trial_id", "arm", "width", "depth", "seed", "accuracy", "loss"]
    pd.testing.assert_frame_equal(*(frame[columns].sort_values(columns[:5], ignore_index=True) for frame in frames))
    monkeypatch.setattr(running, "_write_report", lambda run: run.path)
    more = ldnn("evaluate", url, "--widths", "6,12", "--seeds", 1, "--json")
    assert (more.code, more.json["finished"], more.json["skipped"]) == (0, 3, 3), more.err
    page = ldnn("report", url)
    assert page.out.strip() == f"{url}/report/index.html"
    assert run.store.storage.read("report/index.html").lstrip().lower().startswith(b"<!doctype html")
    assert "cross_size.csv" in run.store.storage.names("report")


def test_what_is_no_run_there_is_refused(place):
    for command in ("resume", "status", "evaluate", "compare", "report"):
        answer = ldnn(command, f"{place}/none")
        assert answer.code == 2
        assert "run.json" in answer.err
    with pytest.raises(RunFolderError, match=r"must hold run\.json"):
        load_run(f"{place}/none")
    with pytest.raises(RunFolderError, match="must start with s3://"):
        load_run("gs://bucket/none")


def test_an_address_with_a_secret_is_refused_without_showing_it(recipe):
    answer = ldnn("search", recipe, "--out", "s3://AKIA:hunter2@bucket/runs")
    assert answer.code == 2
    assert "credentials come from the standard chain" in " ".join(answer.err.replace("│", " ").split())
    assert "hunter2" not in answer.err + answer.out


def test_an_endpoint_without_encryption_is_refused(recipe, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1:9000")
    answer = ldnn("search", recipe, "--out", "s3://bucket/runs")
    assert answer.code == 2
    assert "plain http is for endpoints on loopback only" in answer.err
