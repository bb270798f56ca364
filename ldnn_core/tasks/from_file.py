"""The task ``file``: a user's own data, ``x`` and ``y`` of a ``.npz`` or a Parquet file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.tasks._base import DataError, Rows, TaskData, split_rows
from ldnn_core.tasks._files import MOST_BYTES, digest_of, find_data, require_digest, require_regular
from ldnn_core.tasks._standard import standardised

MOST_CLASSES: Final = 10_000
FEWEST_ROWS: Final = 10
_WAY_OUT: Final = "the path must name a .npz or .parquet file with x and y"


@dataclass(frozen=True)
class FromFile:
    """The task ``file``.

    ``x`` is (R, D) or images (R, C, H, W); a column of lists in Parquet is (R, D).  Whole numbers ``y`` (R,) are
    classes from 0, floating point ``y`` (R,) or (R, C) are targets of a regression.  Inputs, and targets of a
    regression, are standardised by the training rows, each feature, channel or target by itself.

    Attributes:
        path: of the file.
        test_fraction: share of all rows that judge.
        validation_fraction: share of the others that is kept back for choosing.
        data_seed: of the order in which rows are dealt to the parts.
        checksum: what the file must have, see `digest`; empty for any.
    """

    path: str
    test_fraction: float = 0.2
    validation_fraction: float = 0.2
    data_seed: int = 42
    checksum: str = ""

    def digest(self) -> str:
        """SHA-256 of the file.

        Raises:
            DataError: it is not there.
        """
        return digest_of([find_data(self.path, _WAY_OUT)])

    def load(self, cache: Path) -> TaskData:
        """The data; nothing of it is cached.

        Raises:
            DataError: the file is missing, damaged, not that of the checksum, or holds something else.
        """
        path = find_data(self.path, _WAY_OUT)
        require_regular(path)
        require_digest([path], self.checksum)
        if path.suffix not in (".npz", ".parquet"):
            raise DataError(f"{path} is neither .npz nor .parquet: {_WAY_OUT}")
        x, y = _from_npz(path) if path.suffix == ".npz" else _from_parquet(path)
        x, y = _inputs(path, x), _targets(path, y)
        if len(x) != len(y) or len(x) < FEWEST_ROWS:
            raise DataError(f"{path} needs {FEWEST_ROWS} rows and as many x as y, but has {len(x)} x and {len(y)} y")
        order = np.random.default_rng(self.data_seed).permutation(len(x))
        whole = Rows(torch.from_numpy(x[order]), torch.from_numpy(y[order]))
        try:
            learning, _ = split_rows(whole, self.test_fraction)
            train, _ = split_rows(learning, self.validation_fraction)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        classes = y.dtype.kind != "f"
        targets = whole.y if classes else standardised(whole.y, train.y)
        learning, test = split_rows(Rows(standardised(whole.x, train.x), targets), self.test_fraction)
        train, val = split_rows(learning, self.validation_fraction)
        if classes:
            outputs = int(y.max()) + 1
            return TaskData("file", train, val, test, outputs, CrossEntropy(), chance=1 / outputs)
        return TaskData("file", train, val, test, y.shape[1], SquaredError(), chance=0.0, metric="loss")


def _from_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise DataError(f"{path} unpacks to {size} bytes, more than the {MOST_BYTES} that data may have")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            _require_both(path, file.files)
            return file["x"], file["y"]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz without running code in it ({error})") from error


def _from_parquet(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError("Parquet files are read by pyarrow: pip install pyarrow") from error
    try:
        with pq.ParquetFile(path) as file:
            groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            if size > MOST_BYTES:
                raise DataError(f"{path} unpacks to {size} bytes, more than the {MOST_BYTES} that data may have")
            _require_both(path, file.schema_arrow.names)
            table = file.read(columns=["x", "y"])
        return _column(path, table["x"]), _column(path, table["y"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error})") from error


def _column(path: Path, column: Any) -> np.ndarray:
    """A column of numbers as (R,), a column of lists of numbers of one length as (R, D)."""
    from pyarrow import types

    array = column.combine_chunks()
    lists = types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)
    inside = array.flatten() if lists else array
    if array.null_count or inside.null_count:
        raise DataError(f"{path} has rows without a value: leave them out")
    numbers: np.ndarray = inside.to_numpy(zero_copy_only=False)
    if not lists:
        return numbers
    width, rest = divmod(len(numbers), max(1, len(array)))
    if rest or any(len(one) != width for one in array):
        raise DataError(f"{path} has lists of several lengths in a column: all rows need the same")
    return numbers.reshape(len(array), width)


def _require_both(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in ("x", "y") if name not in names]
    if missing:
        raise DataError(f"{path} has no {' and no '.join(missing)}, but {', '.join(names) or 'nothing'}")


def _inputs(path: Path, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 4) or 0 in x.shape:
        raise DataError(f"{path} must have numbers x of shape (R, D) or (R, C, H, W), but has {x.dtype} of {x.shape}")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(f"{path} has x that are not finite in 32 bits: leave such rows out")
    return x


def _targets(path: Path, y: np.ndarray) -> np.ndarray:
    """Classes (R,) int64, or targets (R, C) float32."""
    if y.dtype.kind in "iu" and y.ndim == 1:
        if len(y) and not 0 <= y.min() <= y.max() < MOST_CLASSES:
            raise DataError(f"{path} must have classes y from 0 to {MOST_CLASSES - 1}, but has {y.min()} to {y.max()}")
        return y.astype(np.int64)
    if y.dtype.kind != "f" or y.ndim not in (1, 2) or 0 in y.shape:
        raise DataError(
            f"{path} must have y of whole numbers (R,), which are classes, or of floating point (R,) or (R, C), but "
            f"has {y.dtype} of {y.shape}"
        )
    with np.errstate(over="ignore"):
        y = y.astype(np.float32).reshape(len(y), -1)
    if not np.isfinite(y).all():
        raise DataError(f"{path} has y that are not finite in 32 bits: leave such rows out")
    return y
