"""Activation cards as files: safetensors with JSON metadata, read strictly and without running anything.

A file may come from anywhere.  Before memory is taken its size is looked at; before tensors are made, the header; and
what the functions are made of is checked against each other.  Whatever is wrong is a `CardError`.

A safetensors file begins with the length of its header (8 bytes, little endian), then the header (JSON: a tensor's type,
shape and bytes, and ``__metadata__``, text by name), then the bytes.  Here the metadata are ``format``, ``version`` and
``card``, which is JSON again: see `_card_text`.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ldnn_core.base_functions import BASE_FUNCTIONS
from ldnn_core.card import ActivationCard, ObservedInputs, TableErrors, lowered, steepest_slopes, windows
from ldnn_core.subnetwork import ActivationSpec, gain_and_offset

FORMAT: Final = "ldnn-activation-card"
VERSION: Final = 1
LARGEST_FILE: Final = 64 << 20
LARGEST_HEADER: Final = 1 << 20
MOST_TYPES: Final = 64
MOST_LAYERS: Final = 8
MOST_UNITS: Final = 1024
LARGEST_RANGE: Final = 100.0
LARGEST_TABLE_SCALE: Final = 4096
LARGEST_NUMBER: Final = 1e9
"""Of a genome or a table: far above what a search can find, and far below what overflows."""
_MOST_WINDOWS: Final = 16
_DEEPEST: Final = 8
"""Levels of lists and objects in the free parts of the JSON, ``learned`` and ``passport``."""
_AGREEMENT: Final = 1e-9
"""How closely table and genomes must agree, relative to the largest number: far above rounding on any machine."""

_TENSORS: Final = ("coefficients", "gain", "genomes", "offset")
_KEYS: Final = {
    "base", "num_types", "hidden", "scale", "normalized", "table_range", "table_scale", "errors", "lipschitz",
    "observed_inputs", "learned", "passport",
}  # fmt: skip
_WAY_OUT: Final = "get the file again, or make it again with `ldnn export`"


class CardError(ValueError):
    """A file is not an activation card that can be trusted; the words say the rule, what was found and what to do."""


def write_card(card: ActivationCard, path: str | Path) -> None:
    """Write a card as a file, whole or not at all; a file that is there is replaced.

    Raises:
        CardError: it is one that `read_card` would refuse, e.g. too large.
        OSError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "version": str(VERSION), "card": _card_text(card)}
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

    Raises:
        CardError: it is not one, or not a sound one.
        OSError: the file cannot be read, or is not there.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    try:
        about = os.fstat(descriptor)
        _hold(stat.S_ISREG(about.st_mode), "a card must be a file", f"{str(path)!r} is none", "give the file itself")
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
    told = _parsed(metadata["card"], "the card's JSON")
    _hold(isinstance(told, dict), "the card's JSON must be an object", type(told).__name__)
    missing, unknown = sorted(_KEYS - set(told)), sorted(set(told) - _KEYS)
    _hold(not missing and not unknown, "a card has exactly its known keys", f"missing {missing}, unknown {unknown}")
    spec = _spec(told)
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
        raise CardError(f"a card must be a sound safetensors file, but: {error}; {_WAY_OUT}") from error
    for name, tensor in tensors.items():
        _hold_numbers(name, tensor)
    card = ActivationCard(
        spec,
        **tensors,
        errors=_errors(told["errors"], spec.num_types),
        lipschitz=_bounds("lipschitz", told["lipschitz"], spec.num_types),
        observed_inputs=_observed(told["observed_inputs"]),
        learned=_free("learned", told["learned"]),
        passport=None if told["passport"] is None else _free("passport", told["passport"]),
    )
    _hold_agreement(card)
    return card


def _card_text(card: ActivationCard) -> str:
    spec = card.spec
    told = {
        "base": spec.base,
        "num_types": spec.num_types,
        "hidden": list(spec.hidden),
        "scale": spec.scale,
        "normalized": spec.normalized,
        "table_range": spec.table_range,
        "table_scale": spec.table_scale,
        "errors": asdict(card.errors),
        "lipschitz": card.lipschitz,
        "observed_inputs": None if card.observed_inputs is None else asdict(card.observed_inputs),
        "learned": card.learned,
        "passport": card.passport,
    }
    try:
        return json.dumps(told, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CardError(f"what a card tells must be JSON without NaN, but: {error}; leave it out") from error


def _hold(rule: bool, words: str, found: object, way_out: str = _WAY_OUT) -> None:
    if not rule:
        shown = found if isinstance(found, str) else repr(found)
        raise CardError(f"{words}, but got {shown[:300]}; {way_out}")


def _hold_size(size: int) -> None:
    _hold(8 < size <= LARGEST_FILE, f"a card must have 9 to {LARGEST_FILE} bytes", f"{size} bytes")


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    most = min(LARGEST_HEADER, len(data) - 8)
    _hold(2 <= length <= most, f"the header must have 2 to {most} bytes", f"a length of {length}")
    try:
        text = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CardError(f"the header must be UTF-8, but: {error}; {_WAY_OUT}") from error
    header = _parsed(text, "the header")
    if not isinstance(header, dict):
        raise CardError(f"the header must be an object, but got a {type(header).__name__}; {_WAY_OUT}")
    return header


def _parsed(text: str, what: str) -> Any:
    """JSON without constants that are no numbers, and without a name twice in an object."""

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in an object")
        return found

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise CardError(f"{what} must be JSON, but: {error}; {_WAY_OUT}") from error


def _hold_metadata(metadata: Any) -> None:
    names = {"format", "version", "card"}
    _hold(
        isinstance(metadata, dict)
        and set(metadata) == names
        and all(isinstance(value, str) for value in metadata.values()),
        "the metadata must be the texts card, format and version",
        metadata,
        "this may be another kind of safetensors file: give one made by `ldnn export`",
    )
    _hold(metadata["format"] == FORMAT, f"format must be {FORMAT!r}", metadata["format"])
    newer = "read it with a version of this package that knows it"
    _hold(metadata["version"] == str(VERSION), f"version must be '{VERSION}'", metadata["version"], newer)


def _spec(told: Mapping[str, Any]) -> ActivationSpec:
    base = told["base"]
    _hold(
        isinstance(base, str) and base in BASE_FUNCTIONS,
        f"a base function must be one of {', '.join(BASE_FUNCTIONS)}",
        base,
    )
    hidden = told["hidden"]
    _hold(
        isinstance(hidden, list)
        and 1 <= len(hidden) <= MOST_LAYERS
        and all(_whole(units, MOST_UNITS) for units in hidden),
        f"hidden must be 1 to {MOST_LAYERS} sizes from 1 to {MOST_UNITS}",
        hidden,
    )
    types, scale, range_, cells = (told[name] for name in ("num_types", "scale", "table_range", "table_scale"))
    _hold(_whole(types, MOST_TYPES), f"num_types must be whole, from 1 to {MOST_TYPES}", types)
    _hold(_number(scale) and 0 < scale <= LARGEST_NUMBER, f"0 < scale <= {LARGEST_NUMBER:g} must hold", scale)
    _hold(isinstance(told["normalized"], bool), "normalized must be true or false", told["normalized"])
    _hold(
        _number(range_) and 0 < range_ <= LARGEST_RANGE, f"0 < table_range <= {LARGEST_RANGE:g} must hold", range_
    )
    _hold(
        _whole(cells, LARGEST_TABLE_SCALE) and cells.bit_count() == 1,
        f"table_scale must be a power of two up to {LARGEST_TABLE_SCALE}",
        cells,
    )
    try:
        spec = ActivationSpec(base, types, tuple(hidden), float(scale), told["normalized"], float(range_), cells)
        _hold(spec.grid.cells >= 1, "a table has cells", spec.grid.cells)
    except CardError:
        raise
    except ValueError as error:
        raise CardError(f"{error}; {_WAY_OUT}") from error
    return spec


def _hold_tensors(header: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    _hold(set(header) == set(shapes), f"the tensors must be {', '.join(shapes)}", sorted(header)[:10])
    for name, shape in shapes.items():
        found = header[name]
        _hold(
            isinstance(found, dict) and set(found) == {"dtype", "shape", "data_offsets"},
            f"{name} must be told by dtype, shape and data_offsets",
            found,
        )
        _hold(found["dtype"] == "F64", f"{name} must be of type F64", found["dtype"])
        # True is 1 to Python, but not a size.
        whole = isinstance(found["shape"], list) and all(type(size) is int for size in found["shape"])
        _hold(whole and found["shape"] == shape, f"{name} must have the shape {shape}", found["shape"])


def _hold_numbers(name: str, tensor: Tensor) -> None:
    largest = float(tensor.abs().max())  # NaN if there is one
    rule = f"{name} must be finite, at most {LARGEST_NUMBER:g} in size"
    _hold(largest <= LARGEST_NUMBER, rule, f"{largest} as its largest")


def _hold_agreement(card: ActivationCard) -> None:
    """Table, gain, offset and Lipschitz bound must be those of the genomes."""
    spec, again = card.spec, "the file was changed, so " + _WAY_OUT
    expected = dict(zip(("gain", "offset"), gain_and_offset(spec, card.genomes), strict=True))
    for name, column in expected.items():
        _hold(_alike(getattr(card, name), column.squeeze(1)), f"{name} must follow from the genomes", "others", again)
    for first, grid in windows(spec, _MOST_WINDOWS):
        part = card.coefficients[:, first : first + grid.cells]
        same = _alike(part, lowered(spec, card.genomes, grid))
        low, high = grid.ends
        _hold(same, "the table must follow from the genomes", f"another between {low:g} and {high:g}", again)
    steepest = torch.tensor(steepest_slopes(card.coefficients, spec.grid))
    _hold(
        _alike(torch.tensor(card.lipschitz), steepest), "lipschitz must be that of the table", card.lipschitz, again
    )


def _alike(found: Tensor, expected: Tensor) -> bool:
    tolerance = _AGREEMENT * (1 + float(expected.abs().max()))
    return bool(((found - expected).abs() <= tolerance).all())


def _errors(told: Any, types: int) -> TableErrors:
    names = ("value", "slope", "curvature")
    _hold(isinstance(told, dict) and set(told) == set(names), f"errors must be those of {', '.join(names)}", told)
    return TableErrors(*(_bounds(f"the error of a {name}", told[name], types) for name in names))


def _bounds(name: str, told: Any, types: int) -> tuple[float, ...]:
    _hold(
        isinstance(told, list) and len(told) == types and all(_number(one) and one >= 0 for one in told),
        f"{name} must be {types} finite numbers from 0 on",
        told,
    )
    return tuple(float(one) for one in told)


def _observed(told: Any) -> ObservedInputs | None:
    if told is None:
        return None
    names = {"low", "high", "share", "networks"}
    _hold(
        isinstance(told, dict) and set(told) == names and all(_number(one) for one in told.values()),
        f"observed_inputs must be null or the numbers {', '.join(sorted(names))}",
        told,
    )
    try:
        return ObservedInputs(float(told["low"]), float(told["high"]), float(told["share"]), int(told["networks"]))
    except ValueError as error:
        raise CardError(f"{error}; {_WAY_OUT}") from error


def _free(name: str, told: Any) -> dict[str, Any]:
    """An object of texts, numbers, flags, lists and objects of them, not too deep."""
    _hold(isinstance(told, dict), f"{name} must be an object", type(told).__name__)
    _hold(_depth(told) <= _DEEPEST, f"{name} must have at most {_DEEPEST} levels", "more")
    return dict(told)


def _depth(told: Any) -> int:
    if isinstance(told, float):
        _hold(math.isfinite(told), "numbers must be finite", told)
    inside = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    return 1 + max(map(_depth, inside), default=0) if isinstance(told, dict | list) else 0


def _whole(told: Any, most: int) -> bool:
    return type(told) is int and 1 <= told <= most


def _number(told: Any) -> bool:
    return type(told) in (int, float) and abs(told) <= 1e300  # not for NaN, nor for what is infinite
