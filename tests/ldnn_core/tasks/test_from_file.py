"""A user's own data: what is read of it, and what is refused with which words."""

import os
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ldnn_core.tasks import DataError, FromFile
from ldnn_core.tasks._base import Rows, split_rows
from tests.ldnn_core.tasks.writers import write_npz


def load(path, **options):
    return FromFile(str(path), **options).load(path.parent)


def test_rows_are_dealt_to_the_parts_and_standardised_by_the_training_rows(tmp_path):
    x, y = write_npz(tmp_path / "own.npz", regression=True, rows=50)
    data = load(tmp_path / "own.npz", test_fraction=0.3, validation_fraction=0.2, data_seed=7)
    order = np.random.default_rng(7).permutation(50)
    for values, part in ((x[order], "x"), (y[order], "y")):
        training = values[:28]
        deviation = training.std(axis=0)
        expected = (values - training.mean(axis=0)) / np.where(deviation > 1e-12, deviation, 1)
        found = np.concatenate([getattr(getattr(data, name), part) for name in ("train", "val", "test")])
        np.testing.assert_allclose(found, expected, atol=2e-6)
    assert [len(part) for part in (data.train, data.val, data.test)] == [28, 7, 15]
    assert (data.metric, data.outputs, data.chance) == ("loss", 2, 0.0)


def test_classes_are_left_as_they_are(tmp_path):
    _, y = write_npz(tmp_path / "own.npz")
    data = load(tmp_path / "own.npz")
    order = np.random.default_rng(42).permutation(60)
    assert torch.cat([data.train.y, data.val.y, data.test.y]).tolist() == y[order].tolist()
    assert (data.metric, data.outputs, data.chance) == ("accuracy", 3, pytest.approx(1 / 3))


def test_images_keep_their_shape(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (30, 2, 5, 4)).astype(np.uint8)
    np.savez_compressed(tmp_path / "own.npz", x=x, y=np.arange(30) % 2)
    data = load(tmp_path / "own.npz")
    assert (data.shape, data.inputs) == ((2, 5, 4), 40)
    assert data.train.x.mean(dim=(0, 2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float64(), 4)])
@pytest.mark.parametrize("regression", [True, False])
def test_parquet_gives_the_same_as_npz(kind, regression, tmp_path):
    x, y = write_npz(tmp_path / "own.npz", regression=regression)
    x = x.astype(np.float32).astype(np.float64)
    y = pa.array(y.tolist())
    table = pa.table({"name": ["row"] * 60, "y": y, "x": pa.array(x.tolist(), kind)})
    pq.write_table(table, tmp_path / "own.parquet", row_group_size=7)
    one, other = load(tmp_path / "own.npz"), load(tmp_path / "own.parquet")
    torch.testing.assert_close(one.train.x, other.train.x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.test.y, other.test.y)


X, Y = np.ones((12, 3)), np.arange(12) % 2
BAD = {
    "no y": ({"x": X}, "has no y, but x"),
    "nothing": ({"a": X}, "has no x and no y, but a"),
    "x of one axis": ({"x": X[:, 0], "y": Y}, "numbers x of shape (R, D) or (R, C, H, W), but has float64 of (12,)"),
    "x of text": ({"x": X.astype(str), "y": Y}, "must have numbers x"),
    "x that is not finite": ({"x": X * np.inf, "y": Y}, "has x that are not finite in 32 bits"),
    "x that is too large": ({"x": X * 1e300, "y": Y}, "has x that are not finite in 32 bits"),
    "x without features": ({"x": X[:, :0], "y": Y}, "must have numbers x"),
    "y of two axes of whole numbers": ({"x": X, "y": Y[:, None]}, "must have y of whole numbers (R,)"),
    "y of text": ({"x": X, "y": Y.astype(str)}, "must have y of whole numbers (R,)"),
    "y below 0": ({"x": X, "y": Y - 1}, "must have classes y from 0 to 9999, but has -1 to 0"),
    "y far above": ({"x": X, "y": Y * 10**6}, "must have classes y from 0 to 9999, but has 0 to 1000000"),
    "y not finite": ({"x": X, "y": Y * np.nan}, "has y that are not finite in 32 bits"),
    "fewer y": ({"x": X, "y": Y[:-1]}, "needs 10 rows and as many x as y, but has 12 x and 11 y"),
    "few rows": ({"x": X[:9], "y": Y[:9]}, "needs 10 rows and as many x as y, but has 9 x and 9 y"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_a_file_is_refused(how, tmp_path):
    arrays, words = BAD[how]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(words)):
        load(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [[1.0], [2.0, 3.0]] * 6, "y": [0, 1] * 6}, "lists of several lengths"),
        ({"x": [[1.0, 2.0], None] * 6, "y": [0, 1] * 6}, "rows without a value"),
        ({"x": [[1.0, None]] * 12, "y": [0, 1] * 6}, "rows without a value"),
        ({"x": [[1.0]] * 12, "y": [0, None] * 6}, "rows without a value"),
        ({"x": [[[1.0]]] * 12, "y": [0, 1] * 6}, "must have numbers x"),
        ({"x": ["a"] * 12, "y": [0, 1] * 6}, "must have numbers x"),
        ({"y": [0, 1] * 6}, "has no x, but y"),
    ],
)
def test_a_parquet_file_is_refused(columns, words, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "own.parquet")
    with pytest.raises(DataError, match=words):
        load(tmp_path / "own.parquet")


@pytest.mark.parametrize("name", ["own.npz", "own.parquet"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(50)])
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read as "):
        load(tmp_path / name)


def test_objects_in_a_file_are_not_unpickled(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    np.savez(tmp_path / "own.npz", x=np.array([Hostile()] * 12, dtype=object), y=Y)
    with pytest.raises(DataError, match=r"cannot be read as .npz without running code in it"):
        load(tmp_path / "own.npz")
    assert not (tmp_path / "harm").exists()


def test_what_is_no_such_file_is_said(tmp_path):
    (tmp_path / "own.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"own.csv is neither .npz nor .parquet: the path must name"):
        load(tmp_path / "own.csv")
    with pytest.raises(
        DataError, match=r"there is no .*own.npz: the path must name a .npz or .parquet file with x and y"
    ):
        load(tmp_path / "own.npz")
    with pytest.raises(DataError, match="no path is given: the path must name"):
        FromFile("").load(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="is not a regular file"):
        load(tmp_path / "folder.npz")


def test_fractions_that_leave_a_part_empty_are_refused(tmp_path):
    write_npz(tmp_path / "own.npz", rows=12)
    with pytest.raises(DataError, match=r"must leave rows in both parts, but got 0.01 of 12 rows"):
        load(tmp_path / "own.npz", test_fraction=0.01)


def test_a_changed_file_is_refused_by_its_checksum(tmp_path):
    write_npz(tmp_path / "own.npz")
    checksum = FromFile(str(tmp_path / "own.npz")).digest()
    load(tmp_path / "own.npz", checksum=checksum)
    write_npz(tmp_path / "own.npz", rows=61)
    with pytest.raises(DataError, match=r"own.npz has changed since its checksum was kept"):
        load(tmp_path / "own.npz", checksum=checksum)


def test_neighbouring_rows_are_joined_without_a_copy(tmp_path):
    write_npz(tmp_path / "own.npz")
    data = load(tmp_path / "own.npz")
    both = data.split("test")[0]
    assert both.x.data_ptr() == data.train.x.data_ptr()
    elsewhere = data.to("meta")
    together = elsewhere.split("test")[0].x.untyped_storage()
    assert together._cdata == elsewhere.train.x.untyped_storage()._cdata  # the very same memory
    assert len(elsewhere.train) == len(data.train)
    first, second = split_rows(both, 0.5)
    apart = replace(data, train=Rows(first.x.clone(), first.y), val=second)
    assert torch.equal(apart.split("test")[0].x, torch.cat([first.x, second.x]))
