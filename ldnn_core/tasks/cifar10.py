"""CIFAR-10 (Krizhevsky 2009): 32 x 32 colour images of ten classes, in the published python or binary batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ldnn_core.tasks._base import DataError, TaskData
from ldnn_core.tasks._files import digest_of, find_data, require_digest, require_regular
from ldnn_core.tasks._standard import image_task
from ldnn_core.tasks.pickled_batch import LARGEST, read_pickled_batch

SHAPE: Final = (3, 32, 32)
ROW: Final = 3 * 32 * 32
_BATCHES: Final = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_WAY_OUT: Final = (
    "the path must name a folder with the published batches, data_batch_1 to data_batch_5 and test_batch, all python "
    "ones without an ending or all binary ones with .bin"
)


def read_binary_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R, 3072) and labels (R,) of a binary batch: one byte of label and 3072 of image for each row.

    Raises:
        DataError: it is not made of whole rows, or larger than `LARGEST`.
    """
    size = require_regular(path, LARGEST)
    if not size or size % (1 + ROW):
        raise DataError(f"{path} has {size} bytes, which are not rows of {1 + ROW}: it is truncated or no such batch")
    try:
        rows = np.fromfile(path, np.uint8).reshape(-1, 1 + ROW)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return rows[:, 1:], rows[:, 0]


@dataclass(frozen=True)
class Cifar10:
    """The task ``cifar10``; all of it takes 0.8 GB of memory.

    Attributes:
        path: the folder that holds the batches.
        validation_fraction: share of the 50000 learning rows, the last of them, that is kept back for choosing.
        rows: of the learning rows the first of each class are taken, as many in all; 0 for all.
        test_rows: the same for the test rows.
        checksum: what the files must have, see `digest`; empty for any.
    """

    path: str = "cifar-10-batches-py"
    validation_fraction: float = 0.2
    rows: int = 0
    test_rows: int = 0
    checksum: str = ""

    def digest(self) -> str:
        """SHA-256 of the files.

        Raises:
            DataError: they are not there.
        """
        return digest_of(self._files())

    def load(self, cache: Path) -> TaskData:
        """The data; nothing of it is cached.

        Raises:
            DataError: the files are missing, damaged, or not those of the checksum.
        """
        files = self._files()
        require_digest(files, self.checksum)
        read = [read_binary_batch(one) if one.suffix else read_pickled_batch(one, ROW) for one in files]
        learning = tuple(np.concatenate([batch[part] for batch in read[:-1]]) for part in (0, 1))
        test, test_labels = read[-1]
        return image_task(
            "cifar10",
            (learning[0].reshape(-1, *SHAPE), learning[1]),
            (test.reshape(-1, *SHAPE), test_labels),
            validation_fraction=self.validation_fraction,
            rows=self.rows,
            test_rows=self.test_rows,
        )

    def _files(self) -> list[Path]:
        folder = find_data(self.path, _WAY_OUT)
        kinds = [[folder / f"{name}{ending}" for name in _BATCHES] for ending in ("", ".bin")]
        missing = [[path.name for path in files if not path.exists()] for files in kinds]
        for files, absent in zip(kinds, missing, strict=True):
            if not absent:
                return files
        raise DataError(f"{folder} has no {', '.join(sorted(missing, key=len)[0])}: {_WAY_OUT}")
