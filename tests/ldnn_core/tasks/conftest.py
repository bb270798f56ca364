"""A small variant of every task; a new task needs one to be held to what all tasks hold."""

import os

import pytest

from ldnn_core.tasks import TASKS
from tests.ldnn_core.tasks.writers import write_cifar_folder, write_idx_folder, write_npz

VARIANTS = (*TASKS, "cifar10 in binary", "file of a regression", "van_der_pol with noise", "mnist uncompressed")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Variant → a task made of few rows."""
    folder = tmp_path_factory.mktemp("data")
    for name, compressed in (("fashion", True), ("mnist", True), ("plain", False)):
        write_idx_folder(folder / name, compressed=compressed)
    write_cifar_folder(folder / "python", binary=False)
    write_cifar_folder(folder / "binary", binary=True)
    write_npz(folder / "classes.npz")
    write_npz(folder / "targets.npz", regression=True)
    orbits = {"trajectories": 20, "steps": 8}
    made = {
        "mnist1d": TASKS["mnist1d"](samples=1000),
        "van_der_pol": TASKS["van_der_pol"](**orbits),
        "van_der_pol with noise": TASKS["van_der_pol"](**orbits, noise=0.1),
        "digits": TASKS["digits"](),
        "fashion_mnist": TASKS["fashion_mnist"](path=str(folder / "fashion")),
        "mnist": TASKS["mnist"](path=str(folder / "mnist")),
        "mnist uncompressed": TASKS["mnist"](path=str(folder / "plain")),
        "cifar10": TASKS["cifar10"](path=str(folder / "python")),
        "cifar10 in binary": TASKS["cifar10"](path=str(folder / "binary")),
        "file": TASKS["file"](path=str(folder / "classes.npz")),
        "file of a regression": TASKS["file"](path=str(folder / "targets.npz")),
    }
    assert set(made) == set(VARIANTS)
    return made


@pytest.fixture(params=VARIANTS)
def task(request, small):
    return small[request.param]


@pytest.fixture
def data(task, cache):
    return task.load(cache)


@pytest.fixture(autouse=True)
def _no_data_elsewhere(monkeypatch):
    monkeypatch.delenv("LDNN_DATA", raising=False)
    os.environ.setdefault("MPLBACKEND", "Agg")
