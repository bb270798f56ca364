"""Card files that are spoiled in one place, as the corpus `tests/data/hostile_cards.jsonl` says it."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from safetensors.torch import save

from ldnn_core import card_file as limits
from ldnn_core.card_file import card_of
from ldnn_core.card_json import card_text
from tests.ldnn_core.cards import small_card


@cache
def sound() -> bytes:
    """The bytes of a card that nothing is wrong with."""
    card = small_card()
    tensors = {name: getattr(card, name) for name in ("coefficients", "gain", "genomes", "offset")}
    data: bytes = save(tensors, {"format": limits.FORMAT, "version": "1", "card": card_text(card)})
    card_of(data)
    return data


class Evil:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return os.abort, ()


def spoiled(edit: Mapping[str, Any]) -> bytes:
    """A sound card with an edit.

    Args:
        edit: any of ``told`` (keys of the card's JSON to set; null removes one), ``told_text`` (that JSON as text),
            ``told_replace`` ([text, text] in it), ``metadata`` (keys to set), ``no_metadata``, ``tensor`` ([name, keys
            to set]), ``rename`` ([name, name] of a tensor), ``number`` ([tensor, index, value as text]), ``cut`` or
            ``add`` (bytes at the end), ``twice`` (a tensor that the header has twice); or instead of all that
            ``header`` (its text; with ``times`` so often), ``header_hex``, ``length`` (what the file says of a header
            of two bytes), ``hex`` (all bytes) or ``pickle``.
    """
    if "hex" in edit:
        return bytes.fromhex(edit["hex"])
    if "pickle" in edit:
        return pickle.dumps(Evil()) * 4
    if "length" in edit:
        return struct.pack("<Q", edit["length"]) + b"{}"
    if "header_hex" in edit:
        return _joined(bytes.fromhex(edit["header_hex"]), b"")
    if "header" in edit:
        return _joined(edit["header"].encode() * edit.get("times", 1), b"")
    return _edited(edit)


def _edited(edit: Mapping[str, Any]) -> bytes:
    data = sound()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    told = json.loads(header["__metadata__"]["card"])
    told = {key: value for key, value in (told | edit.get("told", {})).items() if key not in edit.get("without", ())}
    text = json.dumps(told).replace(*edit.get("told_replace", ("", "")))
    header["__metadata__"] |= {"card": edit.get("told_text", text)} | edit.get("metadata", {})
    if "no_metadata" in edit:
        del header["__metadata__"]
    if "tensor" in edit:
        name, changes = edit["tensor"]
        header[name] |= changes
    if "number" in edit:
        name, index, value = edit["number"]
        begin = header[name]["data_offsets"][0] + 8 * index
        body[begin : begin + 8] = struct.pack("<d", float(value))
    if "rename" in edit:
        name, to = edit["rename"]
        header[to] = header.pop(name)
    body = body[: len(body) - edit.get("cut", 0)] + bytes(edit.get("add", 0))
    whole = json.dumps(header)
    if "twice" in edit:
        whole = f"{whole[:-1]}, {json.dumps(edit['twice'])}: {json.dumps(header[edit['twice']])}}}"
    return _joined(whole.encode(), body)


def _joined(header: bytes, body: bytes | bytearray) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(body)
