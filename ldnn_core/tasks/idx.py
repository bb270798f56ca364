"""MNIST and Fashion-MNIST: 28 x 28 grey images of ten classes, in IDX files, plain or compressed.

The format (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, the type of a number, how many axes there
are, the length of each axis as a big-endian 32-bit number, then the numbers, the last axis running fastest.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from ldnn_core.tasks._base import DataError, TaskData
from ldnn_core.tasks._files import digest_of, find_data, require_digest, require_regular
from ldnn_core.tasks._standard import image_task

LARGEST: Final = 1 << 30
"""Bytes of an IDX file, decompressed; ten times what the published ones have."""

FASHION_FOLDER: Final = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist installs it."""

_TYPES: Final = {0x08: "unsigned byte", 0x09: "byte", 0x0B: "short", 0x0C: "int", 0x0D: "float", 0x0E: "double"}
_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_GZIP: Final = b"\x1f\x8b"


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, which is compressed exactly if its name ends in ``.gz``.

    Args:
        path: of the file.
        axes: how many it must have, 3 for images and 1 for labels.

    Raises:
        DataError: it is not such a file, is shorter or longer than its header says, or is larger than `LARGEST`.
    """
    require_regular(path, LARGEST)
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                return _read(stream, path, axes)
        with path.open("rb") as plain:
            return _read(plain, path, axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no whole gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _read(stream: gzip.GzipFile | BinaryIO, path: Path, axes: int) -> np.ndarray:
    header = stream.read(4)
    if header.startswith(_GZIP):
        raise DataError(f"{path} is compressed, but its name does not end in .gz: rename it")
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _TYPES:
        raise DataError(f"{path} is no IDX file: it begins with {header.hex(' ') or 'nothing'}")
    if header[2] != 0x08 or header[3] != axes:
        raise DataError(
            f"{path} must hold numbers of type unsigned byte along {axes} axes, but has {_TYPES[header[2]]} along "
            f"{header[3]}: another file may have been given this name"
        )
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{path} is truncated: it ends within its header")
    shape = struct.unpack(f">{axes}I", lengths)
    size = math.prod(shape)
    if size > LARGEST:
        raise DataError(f"{path} says that it has {size} bytes, more than the {LARGEST} that such a file may have")
    content = stream.read(size + 1)  # one more, to see whether there is more
    if len(content) != size:
        less = "is truncated: it has fewer" if len(content) < size else "has more"
        raise DataError(f"{path} {less} bytes than the {size} of its {' x '.join(map(str, shape))} numbers")
    return np.frombuffer(content, np.uint8).reshape(shape)


@dataclass(frozen=True)
class IdxImages:
    """Ten classes of 28 x 28 images in four IDX files.

    Attributes:
        path: the folder that holds them.
        validation_fraction: share of the 60000 learning rows, the last of them, that is kept back for choosing.
        rows: of the learning rows the first of each class are taken, as many in all; 0 for all.
        test_rows: the same for the test rows.
        checksum: what the files must have, see `digest`; empty for any.
        name: of the task, ``mnist`` or ``fashion_mnist``.
    """

    path: str = "mnist"
    validation_fraction: float = 0.2
    rows: int = 0
    test_rows: int = 0
    checksum: str = ""
    name: str = "mnist"

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
        images, labels, test_images, test_labels = (
            read_idx(path, axes=axes) for path, axes in zip(files, (3, 1, 3, 1), strict=True)
        )
        for path, one in ((files[0], images), (files[2], test_images)):
            if one.shape[1:] != (28, 28):
                raise DataError(f"{path} must hold images of 28 x 28, but they are {one.shape[1]} x {one.shape[2]}")
        return image_task(
            self.name,
            (images[:, None], labels),
            (test_images[:, None], test_labels),
            validation_fraction=self.validation_fraction,
            rows=self.rows,
            test_rows=self.test_rows,
        )

    def _files(self) -> list[Path]:
        way_out = "the path must name a folder with the four IDX files (train-images-idx3-ubyte.gz, ...)"
        if self.name == "fashion_mnist":
            way_out += f"; Debian's package dataset-fashion-mnist installs them in {FASHION_FOLDER}"
        folder = find_data(self.path, way_out)
        found = []
        for name in _FILES:
            dotted = name.replace("-idx", ".idx")  # another name under which the same files are spread
            there = [folder / f"{one}{end}" for one in (name, dotted) for end in ("", ".gz")]
            present = [path for path in there if path.exists()]
            if not present:
                raise DataError(f"{folder} has no {name} and no {name}.gz: {way_out}")
            found.append(present[0])
        return found
