"""MNIST-1D is what its package makes, and its cache survives damage and other processes."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldnn_core.tasks import DataError, Mnist1d, Rows, cache_folder, split_rows

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def task():
    return Mnist1d(samples=1000)


@pytest.fixture
def data(task, cache):
    return task.load(cache)


def all_rows(data):
    return torch.cat([part.x for part in (data.train, data.val, data.test)])


def test_it_is_what_its_package_makes(data):
    os.environ.setdefault("MPLBACKEND", "Agg")
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples = 1000
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    made = make_dataset(arguments)
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    train, test = data.split("test")
    assert (len(data.train), len(data.val), len(data.test)) == (640, 160, 200)
    np.testing.assert_array_equal(train.x.numpy(), made["x"].astype(np.float32))
    np.testing.assert_array_equal(test.x.numpy(), made["x_test"].astype(np.float32))
    np.testing.assert_array_equal(torch.cat([train.y, test.y]).numpy(), np.r_[made["y"], made["y_test"]])


def test_another_seed_or_size_is_another_data_set(data, cache):
    other = Mnist1d(samples=1000, data_seed=43).load(cache)
    assert not torch.equal(other.train.x, data.train.x)
    assert len(all_rows(Mnist1d(samples=1500).load(cache))) == 1500


def test_validation_rows_are_the_last_of_the_training_rows(data, cache):
    half = Mnist1d(samples=1000, validation_fraction=0.5).load(cache)
    assert len(half.train) == len(half.val) == 400
    assert torch.equal(all_rows(half), all_rows(data))


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.04])
def test_a_split_that_leaves_a_part_empty_is_refused(fraction):
    rows = Rows(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"must leave rows in both parts, but got {fraction} of 10 rows"):
        split_rows(rows, fraction)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        # Within the arrays, which the file holds as they are; a flip that breaks the container is the next case.
        with np.load(path) as file:
            arrays = dict(file)
        arrays["x"].view(np.uint8)[0, 0] ^= 1
        np.savez(path, **arrays)
        return
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"not an archive"}[how])


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "text"])
def test_a_damaged_cache_is_named_with_the_way_out(task, data, cache, tmp_path, how):
    (tmp_path / "cache").mkdir()
    [cached] = cache.glob("mnist1d-1000-42.npz")
    copy = tmp_path / "cache" / cached.name
    copy.write_bytes(cached.read_bytes())
    damage(copy, how)
    with pytest.raises(DataError, match=rf"the cached data set .*; delete {copy} and run again: it is generated anew"):
        task.load(copy.parent)
    if how == "text":
        copy.unlink()
        assert torch.equal(all_rows(task.load(copy.parent)), all_rows(data))


def test_a_pickle_in_the_cache_is_not_run(task, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    folder = tmp_path / "cache"
    folder.mkdir()
    names = ("x", "y", "x_test", "y_test", "checksum")
    np.savez(folder / "mnist1d-1000-42.npz", **{name: np.array([Hostile()], dtype=object) for name in names})
    with pytest.raises(DataError, match="cannot be read"):
        task.load(folder)
    assert not (tmp_path / "harm").exists()


_LOAD = """
import sys, time
from pathlib import Path
from ldnn_core.tasks import Mnist1d
cache = Path(sys.argv[1])
made = Mnist1d._generate
def counted(self):
    with (cache / "generated").open("a") as file:
        file.write("once\\n")
    return made(self)
Mnist1d._generate = counted
print("ready", flush=True)
sys.stdin.readline()
print(Mnist1d(samples=1000).load(cache).train.x.double().sum().item())
"""


def test_two_processes_at_once_generate_it_once(data, tmp_path):
    command = [sys.executable, "-c", _LOAD, str(tmp_path)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    sums = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [float(text) for text in sums] == [data.train.x.double().sum().item()] * 2
    assert (tmp_path / "generated").read_text() == "once\n"


def test_cache_folder_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("LDNN_CACHE", "/somewhere/of/ours")
    assert cache_folder() == Path("/somewhere/of/ours")
    monkeypatch.delenv("LDNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/ldnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/her")
    assert cache_folder() == Path("/home/her/.cache/ldnn")
