"""What every task must hold, and what is particular about the cache of the generated one."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldnn_core.tasks import TASKS, DataError, Mnist1d, Rows, cache_folder, split_rows

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"mnist1d": Mnist1d(samples=1000)}
"""A small variant of each task; a new task needs one to be held to what all tasks hold."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=TASKS)
def task(request):
    return SMALL[request.param]


@pytest.fixture
def data(task, cache):
    return task.load(cache)


def all_rows(data):
    return torch.cat([part.x for part in (data.train, data.val, data.test)])


def test_shapes_and_types_fit_together(data):
    for part in (data.train, data.val, data.test):
        assert len(part) == len(part.x) == len(part.y) > 0
        assert part.x.shape[1:] == (data.inputs,)
        assert part.x.dtype == torch.float32
        assert torch.isfinite(part.x).all()
        assert part.y.dtype == torch.int64
        assert part.y.min() >= 0
        assert part.y.max() < data.outputs
    assert data.name in TASKS
    assert data.chance == pytest.approx(1 / data.outputs)


def test_parts_share_no_row(data):
    rows = all_rows(data)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_every_class_is_in_every_part(data):
    for part in (data.train, data.val, data.test):
        assert set(part.y.tolist()) == set(range(data.outputs))


def test_the_final_judgement_trains_on_all_rows_but_the_test_rows(data):
    train, judge = data.split("test")
    assert torch.equal(train.x, torch.cat([data.train.x, data.val.x]))
    assert torch.equal(train.y, torch.cat([data.train.y, data.val.y]))
    assert judge is data.test
    assert data.split("val") == (data.train, data.val)
    with pytest.raises(ValueError, match="split must be val or test, but got 'train'"):
        data.split("train")


def test_accuracy_is_the_share_of_right_answers_of_each_network(data):
    y = torch.tensor([0, 1, 2, 1])
    z = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 1], [0, 1, 1, 0]]), data.outputs).float()
    assert data.accuracy(z, y).tolist() == [1.0, 0.5]


def test_loading_again_gives_the_same_numbers(task, data, cache):
    again = task.load(cache)
    assert torch.equal(all_rows(data), all_rows(again))


def test_generating_again_gives_the_same_numbers_and_leaves_global_generators_alone(task, data, tmp_path):
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002 - the global generator is what must be left alone
    torch.manual_seed(3)
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    again = task.load(tmp_path / "new" / "cache")
    assert random.getstate() == python
    assert np.random.get_state()[2] == numpy[2]  # noqa: NPY002
    assert (np.random.get_state()[1] == numpy[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.equal(all_rows(data), all_rows(again))


def test_mnist1d_is_what_its_package_makes(cache):
    os.environ.setdefault("MPLBACKEND", "Agg")
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples = 1000
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    made = make_dataset(arguments)
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    data = SMALL["mnist1d"].load(cache)
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
