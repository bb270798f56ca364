"""A cluster of a real head and a real worker: joined by its address, refused with the reason.

Both are started with `ray start` and end with this module.  They advertise a loopback address; `ray start` has no
switch to listen on nothing else, so a random token guards them.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from search import ray_setup
from search.booking import Booking
from search.ray_setup import AddressError, ClusterError, check_resources, cluster_nodes
from tests.jobs.calls import ldnn
from tests.small_runs import assert_same_rows, drive_here, new_run

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.2"
SMALL = {"evaluation": {"best": 1, "widths": [6], "usual": []}}
DRIVE = """
import json, sys
from pathlib import Path
from search.config import RunConfig
from search.launch import drive
from search.run_folder import open_run
from tests.small_runs import Listener
run = open_run(Path(sys.argv[1]))
resources = RunConfig.model_validate(run.info.config).resources.model_copy(update={"workers": 2})
account = drive(run, resources, Listener(), address=sys.argv[2])
print(json.dumps([account.finished, account.interrupted, len(account.problems)]))
"""


def a_free_port():
    # Workers of Ray have ports up to 19999.
    while True:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        if port >= 20000:
            return port


@contextlib.contextmanager
def ray_start(*arguments, folder, until):
    """A process of `ray start --block` with all its children, ended together."""
    log = folder / "start.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("ray"),
                "start",
                *arguments,
                "--block",
                "--num-cpus=1",
                f"--node-ip-address={HOST}",
                f"--temp-dir={folder}",
                "--object-store-memory=80000000",
                "--min-worker-port=0",
                "--max-worker-port=0",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while until not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def cluster():
    """Its address, and the file with its token; a head and a worker with one core each."""
    folder = Path(tempfile.mkdtemp(prefix="ldnn-test-", dir="/tmp"))
    token, address = folder / "token", f"{HOST}:{a_free_port()}"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    (folder / "h").mkdir()
    (folder / "w").mkdir()
    port = address.rpartition(":")[2]
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            with (
                ray_start(*head, folder=folder / "h", until="Ray runtime started"),
                ray_start(f"--address={address}", folder=folder / "w", until="Ray runtime started"),
            ):
                yield address
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def test_a_search_on_a_head_and_a_worker_has_the_rows_of_a_local_one(cluster, tmp_path):
    (tmp_path / "here").mkdir()
    here, there = new_run(tmp_path / "here", **SMALL), new_run(tmp_path, **SMALL)
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, there.path, cluster], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    account, _ = drive_here(here)
    assert json.loads(done.stdout.splitlines()[-1]) == [account.finished, False, 0]
    assert_same_rows(there.path, here.path)


def test_the_nodes_of_a_cluster_are_seen_and_more_than_they_have_is_refused(cluster, tmp_path):
    nodes = cluster_nodes(cluster)
    assert [(node["CPU"], node.get("GPU", 0)) for node in nodes] == [(1, 0), (1, 0)]
    with pytest.raises(ClusterError, match=r"\(workers=1, gpus_per_trial=2, GPUs=0, .*; ask for fewer workers"):
        check_resources(nodes, Booking(1, 2.0), workers=1)
    answer = ldnn("search", "quickstart", "--set", "resources.threads=3", "--address", cluster, "--out", tmp_path)
    assert answer.code == 1
    assert "threads <= cores of one node must hold, but got (threads=3, cores=1); ask for fewer threads" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_token_is_refused_in_a_sentence_before_anything_is_made(cluster, tmp_path, monkeypatch):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
    answer = ldnn("search", "quickstart", "--address", cluster, "--out", tmp_path / "runs")
    assert answer.code == 1
    assert f"the Ray cluster at {cluster} refuses the token of this process" in answer.err
    assert "RAY_AUTH_TOKEN_PATH" in answer.err
    assert not (tmp_path / "runs").exists()


def test_an_address_that_does_not_answer_fails_within_30_seconds(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        answer = ldnn("search", "quickstart", "--address", address, "--out", tmp_path / "runs")
        assert time.monotonic() - start < 30
    assert answer.code == 1
    assert (
        f"what listens at {address} does not answer as a Ray cluster; start one with `ray start --head`" in answer.err
    )
    assert ray_setup.CONNECT_SECONDS <= 20
    assert not (tmp_path / "runs").exists()


def test_auto_without_a_cluster_on_this_machine_is_said(monkeypatch):
    def silent(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr("search.ray_setup.subprocess.run", silent)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ClusterError, match="no Ray cluster answers on this machine; start one with `ray start --head`"):
        cluster_nodes("auto")


@pytest.mark.parametrize("address", ["auto", "192.0.2.1:6379", "[2001:db8::1]:6379", "head:6379"])
@pytest.mark.parametrize(("mode", "token"), [("token", ""), ("", ""), ("disabled", "0" * 64)])
def test_without_a_token_nobody_beyond_loopback_is_asked(address, mode, token, tmp_path, monkeypatch):
    monkeypatch.setattr("search.ray_setup.subprocess.run", None)
    monkeypatch.setattr("search.ray_setup.socket.create_connection", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    for name, value in (("RAY_AUTH_MODE", mode), ("RAY_AUTH_TOKEN", token)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    with pytest.raises(AddressError, match=r"RAY_AUTH_MODE must be token, .* beyond loopback, but got .*; set both as"):
        cluster_nodes(address)
