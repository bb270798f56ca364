"""The files for clusters: each is what its reader takes, has a token first and sends no statistics."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.results import CLUSTER_FILES
from tests.jobs.calls import ROOT, ldnn

SLURM = CLUSTER_FILES / "slurm.sh"


def loaded(name):
    return yaml.safe_load((CLUSTER_FILES / name).read_text())


def test_the_command_says_where_they_are():
    answer = ldnn("cluster", "--json")
    assert {Path(one["path"]) for one in answer.json} == set(CLUSTER_FILES.iterdir())
    assert all(one["description"] for one in answer.json)
    assert str(SLURM) in ldnn("cluster").out


def test_they_come_with_the_package(tmp_path):
    code = "import setuptools, sys; sys.argv = ['setup.py', '-q', 'build_py', '-d', sys.argv[1]]; setuptools.setup()"
    copy = tmp_path / "source"
    ignored = (".git", ".venv", "*.egg-info", "runs", ".*_cache", "docs", "build")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*ignored))
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "built"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {path.name for path in (tmp_path / "built" / "jobs" / "cluster").iterdir()}
    assert built == {path.name for path in CLUSTER_FILES.iterdir()} == {"ray-cluster.yaml", "rayjob.yaml", "slurm.sh"}


def test_the_cluster_launcher_takes_its_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(loaded("ray-cluster.yaml"))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"]) == 2
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        validate_config(config | {"tokens": True})


def test_the_cluster_launcher_copies_the_token_and_uses_it_on_every_node():
    config = loaded("ray-cluster.yaml")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    starts = [
        line
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in config[key]
        if " start " in line
    ]
    assert len(starts) == 2
    for line in starts:
        exported, _, command = line.partition(";")
        assert exported == "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0"
        assert "ray start" in command


def test_the_token_of_the_cluster_launcher_is_made_for_its_owner_alone(tmp_path):
    lines = (CLUSTER_FILES / "ray-cluster.yaml").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "umask 077" in line)
    command = "\n".join(line.removeprefix("#") for line in lines[first : first + 2])
    for _ in range(2):  # the second time it is kept
        subprocess.run(["bash", "-euc", command], env={**os.environ, "HOME": str(tmp_path)}, check=True)
        token = tmp_path / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(token.read_text()) == 64
        token.write_text(token.read_text()[:32] * 2)


def test_the_job_of_kuberay_is_whole():
    job = loaded("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"]["generateName"]
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec["entrypoint"].startswith("ldnn search mnist1d-compare --resume --address auto ")
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(groups) == 2
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all(isinstance(one["value"], str) for one in container["env"])
    workers = cluster["workerGroupSpecs"][0]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    cores = workers["replicas"] * int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert f"--workers {cores} " in spec["entrypoint"]


FAKES = {
    "scontrol": 'test "$1 $2" = "show hostnames" && test "$3" = "node[1-2]" && printf "127.0.0.1\\nnode2\\n"',
    # Runs the step here, without the options that say where.
    "srun": 'echo "srun $*" >> "$LOG"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": """
        echo "ray $* [$(stat -c %a "$RAY_AUTH_TOKEN_PATH") $(wc -c < "$RAY_AUTH_TOKEN_PATH") $RAY_AUTH_MODE \
$RAY_USAGE_STATS_ENABLED]" >> "$LOG"
        if [[ $* == *--head* ]]; then
          exec "$PYTHON" -c "import socket, time; s = socket.create_server(('127.0.0.1', $LDNN_PORT)); time.sleep(60)"
        fi
        exec sleep 60""",
    "ldnn": """echo "ldnn $* [$RAY_AUTH_MODE $(test -s "$RAY_AUTH_TOKEN_PATH" && echo with a token)]" >> "$LOG"
        eval "$DO\"""",
}


@pytest.fixture
def allocation(tmp_path):
    """A folder, and the environment of a batch script on the first of two nodes, whose commands are fakes."""
    (tmp_path / "bin").mkdir()
    for name, body in FAKES.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_", "LDNN_"))},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "PYTHON": sys.executable,
        "LDNN_OUT": str(tmp_path / "runs"),
        "LDNN_PORT": str(port),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "3",
        "DO": 'until grep -q "^ray start --address=" "$LOG"; do sleep 0.05; done; exit 3',
    }
    return tmp_path, environment


def test_the_slurm_script_starts_a_head_a_worker_and_the_search_with_a_token(allocation):
    folder, environment = allocation
    assert subprocess.run(["bash", "-n", SLURM]).returncode == 0
    port = environment["LDNN_PORT"]
    done = subprocess.run(["bash", SLURM, "smoke", "--set", "seed=1"], env=environment, timeout=60)
    assert done.returncode == 3  # of the search
    log = (folder / "log").read_text().splitlines()
    guarded = "[600 64 token 0]"
    assert log[1] == (
        f"ray start --head --block --port={port} --num-cpus=3 --temp-dir=/tmp/ldnn-ray-7 --include-dashboard=false "
        f"--disable-usage-stats {guarded}"
    )
    assert "--nodelist=127.0.0.1" in log[0]
    rest = sorted(log[2:])
    assert rest[0] == (
        f"ldnn search smoke --set seed=1 --resume --address 127.0.0.1:{port} --workers 6 --out {folder}/runs "
        "[token with a token]"
    )
    assert [line for line in rest if line.startswith("srun") and "--exclude=127.0.0.1" in line and "--nodes=1 " in line]
    assert list((folder / "runs").iterdir()) == []  # the token is gone


def test_the_slurm_script_passes_the_request_to_stop_on_and_waits(allocation):
    folder, environment = allocation
    environment["DO"] = """trap 'sleep 0.5; echo stopped >> "$LOG"; exit 130' TERM; kill -TERM $PPID
        for _ in {1..300}; do sleep 0.1; done"""
    done = subprocess.run(["bash", SLURM, "smoke"], env=environment, timeout=60)
    assert done.returncode == 130
    assert (folder / "log").read_text().splitlines()[-1] == "stopped"


@pytest.mark.parametrize(("arguments", "lacks"), [([], "recipe"), (["smoke"], "LDNN_OUT")])
def test_the_slurm_script_says_what_it_lacks(allocation, arguments, lacks):
    folder, environment = allocation
    del environment["LDNN_OUT"]
    done = subprocess.run(["bash", SLURM, *arguments], env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode != 0
    assert lacks in done.stderr
    assert not (folder / "log").exists()


def test_more_gpus_than_there_are_are_refused_before_anything_is_made(monkeypatch, recipe, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    wanted = "resources={device='cuda',gpus_per_trial=1,workers=2}"
    answer = ldnn("search", recipe, "--set", wanted, "--out", tmp_path)
    assert answer.code == 1
    assert "(workers=2, gpus_per_trial=1, GPUs=1, GPUs of one node=1); ask for fewer workers" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_without_workers_is_refused(recipe, tmp_path):
    answer = ldnn("search", recipe, "--address", "auto", "--workers", "0", "--out", tmp_path)
    assert answer.code == 2
    assert "a cluster (--address) is used by workers: at least 1" in answer.err
    assert list(tmp_path.iterdir()) == []
