"""Image files of the published formats: read as they were written, and refused when anything about them is wrong."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ldnn_core.tasks import TASKS, DataError
from ldnn_core.tasks.cifar10 import read_binary_batch
from ldnn_core.tasks.idx import FASHION_FOLDER, LARGEST, read_idx
from ldnn_core.tasks.pickled_batch import read_pickled_batch
from tests.ldnn_core.tasks.writers import idx_bytes, pictures, python_batch, text, write_cifar_folder, write_idx_folder


def standardised(x, training):
    """The rows as the docs say, by numpy in float64."""
    x, training = x.astype(np.float64), training.astype(np.float64)
    axes = (0, 2, 3)
    return (x - training.mean(axis=axes, keepdims=True)) / training.std(axis=axes, keepdims=True)


# IDX


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("compressed", [True, False])
def test_idx_images_are_those_written_standardised_by_the_training_rows(name, compressed, tmp_path):
    (x, y), (x_test, y_test) = write_idx_folder(tmp_path / "set", compressed=compressed)
    data = TASKS[name](path=str(tmp_path / "set"), validation_fraction=0.4).load(tmp_path)
    assert (data.name, data.shape, len(data.train), len(data.val), len(data.test)) == (name, (1, 28, 28), 180, 120, 60)
    x, x_test = x[:, None], x_test[:, None]
    np.testing.assert_allclose(data.split("test")[0].x, standardised(x, x[:180]), atol=2e-6)
    np.testing.assert_allclose(data.test.x, standardised(x_test, x[:180]), atol=2e-6)
    assert data.split("test")[0].y.tolist() == y.tolist()
    assert data.test.y.tolist() == y_test.tolist()


def test_rows_are_the_first_of_each_class(tmp_path):
    (x, y), _ = write_idx_folder(tmp_path / "set")
    data = TASKS["mnist"](path=str(tmp_path / "set"), rows=53, test_rows=20).load(tmp_path)
    taken = data.split("test")[0]
    assert len(taken) == 53
    assert torch.bincount(taken.y).tolist() == [6] * 3 + [5] * 7
    counts, kept = dict.fromkeys(range(10), 0), []
    for index, label in enumerate(y.tolist()):
        if counts[label] < (6 if label < 3 else 5):
            kept.append(index)
        counts[label] += 1
    assert taken.y.tolist() == y[kept].tolist()
    np.testing.assert_allclose(taken.x, standardised(x[kept][:, None], x[kept][: len(data.train), None]), atol=2e-6)
    assert torch.bincount(data.test.y).tolist() == [2] * 10
    with pytest.raises(DataError, match="1000 rows need 100 of class 0, but there are 30: ask for fewer"):
        TASKS["mnist"](path=str(tmp_path / "set"), rows=1000).load(tmp_path)


def test_other_names_of_the_same_files_are_found(tmp_path):
    write_idx_folder(tmp_path / "set", compressed=False)
    for path in list((tmp_path / "set").iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(TASKS["mnist"](path=str(tmp_path / "set")).load(tmp_path).test) == 60


IMAGES = idx_bytes(np.zeros((3, 28, 28), np.uint8))
BAD_IDX = {
    "empty": (b"", "is no IDX file: it begins with nothing"),
    "of text": (b"hello world", "is no IDX file: it begins with 68 65 6c 6c"),
    "of an unknown type": (b"\0\0\x07\x03" + IMAGES[4:], "is no IDX file: it begins with 00 00 07 03"),
    "of floating point": (b"\0\0\x0d\x03" + IMAGES[4:], "type unsigned byte along 3 axes, but has float along 3: ano"),
    "of labels": (idx_bytes(np.zeros(3, np.uint8)), "along 3 axes, but has unsigned byte along 1: another file may"),
    "without its header": (IMAGES[:10], "is truncated: it ends within its header"),
    "truncated": (IMAGES[:-1], "is truncated: it has fewer bytes than the 2352 of its 3 x 28 x 28 numbers"),
    "with more": (IMAGES + b"\0", "has more bytes than the 2352 of its 3 x 28 x 28 numbers"),
    "oversized": (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31), f"more than the {LARGEST} that such"),
    "without axes": (b"\0\0\x08\0", "along 3 axes, but has unsigned byte along 0"),
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("how", BAD_IDX)
def test_an_idx_file_is_refused(how, compressed, tmp_path):
    content, words = BAD_IDX[how]
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=f"{path} .*".replace("\\", "") + words):
        read_idx(path, axes=3)


def test_what_is_compressed_is_what_says_so(tmp_path):
    plain, named, cut = tmp_path / "images", tmp_path / "images.gz", tmp_path / "cut.gz"
    plain.write_bytes(gzip.compress(IMAGES))
    named.write_bytes(IMAGES)
    cut.write_bytes(gzip.compress(IMAGES)[:-5])
    with pytest.raises(DataError, match=r"is compressed, but its name does not end in .gz: rename it"):
        read_idx(plain, axes=3)
    with pytest.raises(DataError, match="is no whole gzip file"):
        read_idx(named, axes=3)
    with pytest.raises(DataError, match="is no whole gzip file"):
        read_idx(cut, axes=3)


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(IMAGES + bytes(10_000_000)))
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(DataError, match="has more bytes than the 2352"):
        read_idx(path, axes=3)
    assert sum(asked) < 3000
    assert min(asked) >= 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((300, 28, 27), np.uint8)), "28 x 28, but they are 28 x 27"),
        (
            "train-images-idx3-ubyte",
            idx_bytes(np.zeros((299, 28, 28), np.uint8)),
            "299 images, but 300 labels: they do",
        ),
        (
            "t10k-labels-idx1-ubyte",
            idx_bytes(np.full(60, 10, np.uint8)),
            "classes of mnist are 0 to 9, but there are 10",
        ),
        ("train-labels-idx1-ubyte", None, "has no train-labels-idx1-ubyte and no train-labels-idx1-ubyte.gz: the path"),
    ],
)
def test_a_folder_of_idx_files_that_do_not_belong_together_is_refused(name, content, words, tmp_path):
    write_idx_folder(tmp_path / "set", compressed=False)
    path = tmp_path / "set" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        TASKS["mnist"](path=str(tmp_path / "set")).load(tmp_path)


def test_missing_images_are_said_with_the_way_out(tmp_path):
    with pytest.raises(
        DataError,
        match=r"there is no .*nowhere: the path must name a folder with the four IDX files .*"
        r"Debian's package dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist; if",
    ):
        TASKS["fashion_mnist"](path=str(tmp_path / "nowhere")).load(tmp_path)
    with pytest.raises(DataError, match=r"six|data_batch_1 to data_batch_5 and test_batch"):
        TASKS["cifar10"](path=str(tmp_path / "nowhere")).load(tmp_path)


def test_data_that_has_moved_is_found_in_the_folder_of_data_sets(tmp_path, monkeypatch):
    write_idx_folder(tmp_path / "elsewhere" / "set")
    monkeypatch.setenv("LDNN_DATA", str(tmp_path / "elsewhere"))
    assert len(TASKS["mnist"](path="gone/set").load(tmp_path).test) == 60


def test_changed_files_are_refused_by_their_checksum(tmp_path):
    write_idx_folder(tmp_path / "set", compressed=False)
    task = TASKS["mnist"](path=str(tmp_path / "set"))
    checksum = task.digest()
    assert len(TASKS["mnist"](path=str(tmp_path / "set"), checksum=checksum).load(tmp_path).test) == 60
    path = tmp_path / "set" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert task.digest() != checksum
    with pytest.raises(
        DataError, match=rf"{tmp_path / 'set'} has changed since its checksum was kept \({checksum[:12]}"
    ):
        TASKS["mnist"](path=str(tmp_path / "set"), checksum=checksum).load(tmp_path)


# CIFAR-10


@pytest.mark.parametrize("binary", [True, False])
def test_cifar10_images_are_those_written_standardised_channel_by_channel(binary, tmp_path):
    (x, y), (x_test, y_test) = write_cifar_folder(tmp_path / "set", binary=binary)
    data = TASKS["cifar10"](path=str(tmp_path / "set")).load(tmp_path)
    assert (data.shape, len(data.train), len(data.val), len(data.test)) == ((3, 32, 32), 80, 20, 40)
    np.testing.assert_allclose(data.split("test")[0].x, standardised(x, x[:80]), atol=2e-6)
    np.testing.assert_allclose(data.test.x, standardised(x_test, x[:80]), atol=2e-6)
    assert data.split("test")[0].y.tolist() == y.tolist()
    assert data.test.y.tolist() == y_test.tolist()


def test_the_batches_of_the_writer_are_what_python_unpickles_too(tmp_path):
    # The writer is our own; python's own unpickler says whether it writes the format of python 2.
    x, y = pictures(12, (3072,), 0)
    batch = pickle.loads(python_batch(x, y), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], x)
    assert batch[b"labels"] == y.tolist()
    (tmp_path / "batch").write_bytes(python_batch(x, y))
    found = read_pickled_batch(tmp_path / "batch", 3072)
    np.testing.assert_array_equal(found[0], x)
    np.testing.assert_array_equal(found[1], y)


class Hostile:
    """Runs something when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return (os.mkdir, (self.folder,))


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_is_refused_and_not_run(protocol, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Hostile(str(tmp_path / "harm")), "labels": []}, protocol=protocol))
    with pytest.raises(DataError, match="is no published batch of CIFAR-10, and is not unpickled"):
        read_pickled_batch(path, 3072)
    assert not (tmp_path / "harm").exists()


X, Y = pictures(4, (3072,), 0)
GOOD = python_batch(X, Y)
BAD_BATCHES = {
    "empty": (b"", "not unpickled"),
    "text": (b"hello", "not unpickled"),
    "truncated": (GOOD[:-100], "not unpickled"),
    "a name that is not of numpy": (GOOD.replace(b"cnumpy\ndtype\n", b"cposix\nsystem\n"), "it has GLOBAL posix"),
    "other numbers": (GOOD.replace(text(b"u1"), text(b"i8")), "its data is not 3072 unsigned bytes a row"),
    "rows of another size": (python_batch(X[:, :3071], Y), "its data is not 3072 unsigned bytes a row"),
    "too few bytes": (GOOD.replace(text(X.tobytes()), text(X.tobytes()[:-1])), "cannot reshape array"),
    "too few labels": (python_batch(X, Y[:3]), "its labels are not 4 whole numbers below 256"),
    "labels of text": (
        GOOD.replace(text(b"labels"), text(b"others")).replace(text(b"filenames"), text(b"labels")),
        "its labels are not 4 whole numbers below 256",
    ),
    "no data": (GOOD.replace(text(b"data"), text(b"date")), "KeyError: 'data'"),
    "a memo that was never set": (b"\x80\x02h\x07.", "KeyError: 7"),
    "more than there is": (b"\x80\x02e.", "not unpickled"),
    "a call of a list": (b"\x80\x02]]R.", "AttributeError"),
    "a state of a list": (b"\x80\x02]]b.", "AttributeError"),
    "a mark as a value": (b"\x80\x02(R.", "it takes more from the stack than there is"),
    "very many instructions": (b"\x80\x02" + b"]" * 1_000_001 + b".", "it has more than 1000000 instructions"),
    "huge memo": (b"\x80\x02]r\xff\xff\xff\x7f.", "not unpickled"),
    "a long number": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not unpickled"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD_BATCHES)
def test_a_python_batch_is_refused(how, tmp_path):
    content, words = BAD_BATCHES[how]
    assert content != GOOD
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DataError, match=rf"{tmp_path / 'batch'} is no published batch of CIFAR-10.*{words}"):
        read_pickled_batch(tmp_path / "batch", 3072)


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3073 * 2 + 1)])
def test_a_binary_batch_is_made_of_whole_rows(content, tmp_path):
    (tmp_path / "batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"has {len(content)} bytes, which are not rows of 3073: it is truncated or no"):
        read_binary_batch(tmp_path / "batch.bin")


def test_a_batch_that_is_too_large_or_no_file_is_not_read(tmp_path):
    with (tmp_path / "batch").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for read in (read_binary_batch, lambda path: read_pickled_batch(path, 3072)):
        with pytest.raises(DataError, match="67108865 bytes, more than the 67108864 that such a file may have"):
            read(tmp_path / "batch")
        with pytest.raises(DataError, match="is not a regular file"):
            read(tmp_path)


def test_missing_batches_are_named(tmp_path):
    write_cifar_folder(tmp_path / "set", binary=True)
    (tmp_path / "set" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"set has no data_batch_3.bin: the path must name a folder with the published"):
        TASKS["cifar10"](path=str(tmp_path / "set")).load(tmp_path)


def test_digits_without_scikit_learn_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"the task digits comes with scikit-learn: pip install 'ldnn\[sklearn\]'"):
        TASKS["digits"]().load(tmp_path)


def test_digits_are_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    data = TASKS["digits"]().load(tmp_path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [1150, 288, 359]
    assert data.shape == (1, 8, 8)
    rows = torch.cat([part.x for part in (data.train, data.val, data.test)]).flatten(1).double().numpy()
    y = torch.cat([part.y for part in (data.train, data.val, data.test)]).numpy()
    images, labels = load_digits(return_X_y=True)
    # Standardising is a shift and a factor: undo it by what the darkest and the brightest pixel are.
    rows = np.round((rows - rows.min()) / (rows.max() - rows.min()) * 16)
    written = {(*row, label) for row, label in zip(images.tolist(), labels.tolist(), strict=True)}
    assert {(*row, label) for row, label in zip(rows.tolist(), y.tolist(), strict=True)} == written


@pytest.mark.skipif(not Path(FASHION_FOLDER).is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_what_others_know_it_as(tmp_path):
    data = TASKS["fashion_mnist"]().load(tmp_path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [48000, 12000, 10000]
    assert data.train.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert data.test.y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert torch.bincount(data.split("test")[0].y).tolist() == [6000] * 10
    # Published mean and standard deviation of the 60000 rows, with pixels from 0 to 1.
    x = read_idx(Path(FASHION_FOLDER) / "train-images-idx3-ubyte.gz", axes=3) / 255
    assert (x.mean(), x.std()) == (pytest.approx(0.2860, abs=5e-5), pytest.approx(0.3530, abs=5e-5))
