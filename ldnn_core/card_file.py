"""Activation cards as files: safetensors with JSON metadata, read strictly and without running anything.

A file may come from anywhere.  Before memory is taken its size is looked at; before tensors are made, the header; and
what the functions are made of is checked against each other.  Whatever is wrong is a `CardError`.

A safetensors file begins with the length of its header (8 bytes, little endian), then the header (JSON: a tensor's
type, shape and bytes, and ``__metadata__``, text by name), then the bytes.  Here the metadata are ``format``,
``version`` and ``card``, which is JSON again: see `ldnn_core.card_json`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ldnn_core.card import ActivationCard, lowered, steepest_slopes, windows
from ldnn_core.card_json import card_text, told_of_card
from ldnn_core.card_rules import WAY_OUT, CardError, hold, parsed
from ldnn_core.subnetwork import gain_and_offset

FORMAT: Final = "ldnn-activation-card"
VERSION: Final = 1
LARGEST_FILE: Final = 64 << 20
LARGEST_HEADER: Final = 4 << 20
LARGEST_NUMBER: Final = 1e9
"""Of a genome or a table: far above what a search can find, and far below what overflows."""
_MOST_WINDOWS: Final = 16
_AGREEMENT: Final = 1e-9
"""How closely table and genomes must agree, relative to the largest number: far above rounding on any machine."""

_TENSORS: Final = ("coefficients", "gain", "genomes", "offset")


def write_card(card: ActivationCard, path: str | Path) -> None:
    """Write a card as a file, whole or not at all; a file that is there is replaced.

    Args:
        card: the card.
        path: of the file, by custom ``.safetensors``; its folder must be there.

    Raises:
        CardError: it is one that `read_card` would refuse, e.g. too large.
        OSError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "version": str(VERSION), "card": card_text(card)}
    data = save({name: getattr(card, name).contiguous() for name in _TENSORS}, metadata)
    card_of(data)
    path = Path(path)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)  # a temporary file is readable by its owner only
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_card(path: str | Path) -> ActivationCard:
    """Read a card from a file.

    Args:
        path: of the file.

    Raises:
        CardError: it is not one, or not a sound one.
        OSError: the file cannot be read, or is not there.
    """
    # Bytes as they are, where systems know another way; and a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        about = os.fstat(descriptor)
        hold(stat.S_ISREG(about.st_mode), "a card must be a file", str(path), "give the file itself")
        _hold_size(about.st_size)
    except BaseException:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST_FILE + 1)  # not more, if it grows meanwhile
    return card_of(data)


def card_of(data: bytes) -> ActivationCard:
    """The card in the bytes of a file.

    Raises:
        CardError: they are not those of a sound card.
    """
    _hold_size(len(data))
    header = _header(data)
    metadata = header.pop("__metadata__", None)
    _hold_metadata(metadata)
    told = told_of_card(metadata["card"])
    spec = told["spec"]
    shapes = {
        "coefficients": [spec.num_types, spec.grid.cells, 4],
        "gain": [spec.num_types],
        "genomes": [spec.num_types, spec.genome_size],
        "offset": [spec.num_types],
    }
    _hold_tensors(header, shapes)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise CardError(f"a card must be a sound safetensors file, but: {error}; {WAY_OUT}") from error
    for name in shapes:  # in the order of this list: that of the library differs from call to call
        _hold_numbers(name, tensors[name])
    card = ActivationCard(**(told | tensors))
    _hold_agreement(card)
    return card


def _hold_size(size: int) -> None:
    hold(8 < size <= LARGEST_FILE, f"a card must have 9 to {LARGEST_FILE} bytes", size)


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    most = min(LARGEST_HEADER, len(data) - 8)
    hold(2 <= length <= most, f"the header must have 2 to {most} bytes", length)
    try:
        text = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CardError(f"the header must be UTF-8, but: {error}; {WAY_OUT}") from error
    header = parsed(text, "the header")
    hold(isinstance(header, dict), "the header must be an object", type(header).__name__)
    return dict(header)


def _hold_metadata(metadata: Any) -> None:
    names = {"format", "version", "card"}
    hold(
        isinstance(metadata, dict)
        and set(metadata) == names
        and all(isinstance(value, str) for value in metadata.values()),
        "the metadata must be the texts card, format and version",
        metadata,
        "this may be another kind of safetensors file: give one made by `ldnn export`",
    )
    hold(metadata["format"] == FORMAT, f"format must be {FORMAT!r}", metadata["format"])
    newer = "read it with a version of this package that knows it"
    hold(metadata["version"] == str(VERSION), f"version must be '{VERSION}'", metadata["version"], newer)


def _hold_tensors(header: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    hold(set(header) == set(shapes), f"the tensors must be {', '.join(shapes)}", sorted(header)[:10])
    for name, shape in shapes.items():
        found = header[name]
        hold(
            isinstance(found, dict) and set(found) == {"dtype", "shape", "data_offsets"},
            f"{name} must be told by dtype, shape and data_offsets",
            found,
        )
        hold(found["dtype"] == "F64", f"{name} must be of type F64", found["dtype"])
        # True is 1 to Python, but not a size.
        whole = isinstance(found["shape"], list) and all(type(size) is int for size in found["shape"])
        hold(whole and found["shape"] == shape, f"{name} must have the shape {shape}", found["shape"])


def _hold_numbers(name: str, tensor: Tensor) -> None:
    largest = float(tensor.abs().max())  # NaN if there is one
    hold(largest <= LARGEST_NUMBER, f"the largest of {name} must be finite, at most {LARGEST_NUMBER:g}", largest)


def _hold_agreement(card: ActivationCard) -> None:
    """Table, gain, offset and Lipschitz bound must be those of the genomes."""
    spec, again = card.spec, f"the file was changed, so {WAY_OUT}"
    expected = dict(zip(("gain", "offset"), gain_and_offset(spec, card.genomes), strict=True))
    for name, column in expected.items():
        same = _alike(getattr(card, name), column.squeeze(1))
        hold(same, f"{name} must be that of the genomes", getattr(card, name).tolist(), again)
    for first, grid in windows(spec, _MOST_WINDOWS):
        same = _alike(card.coefficients[:, first : first + grid.cells], lowered(spec, card.genomes, grid))
        hold(same, "the table must follow from the genomes between {:g} and {:g}".format(*grid.ends), way_out=again)
    told = torch.tensor(card.lipschitz, dtype=torch.float64)
    steepest = torch.tensor(steepest_slopes(card.coefficients, spec.grid), dtype=torch.float64)
    hold(_alike(told, steepest), "lipschitz must be that of the table", card.lipschitz, again)


def _alike(found: Tensor, expected: Tensor) -> bool:
    tolerance = _AGREEMENT * (1 + float(expected.abs().max()))
    return bool(((found - expected).abs() <= tolerance).all())
