"""Cards as files: what is written is read again, and nothing else is."""

import json
import os
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from ldnn_core import CardError, LearnedActivation, read_card, write_card
from ldnn_core import card_file as limits
from ldnn_core.card import make_card
from ldnn_core.card_file import card_of
from ldnn_core.card_json import card_text
from ldnn_core.subnetwork import ActivationSpec
from tests.ldnn_core.cards import SPECS, exact, small_card

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", SPECS)
def test_a_card_survives_its_file(name, tmp_path):
    card = small_card(name, passport={"label": "holds", "rows": [{"width": 20, "advantage": 0.01}]})
    write_card(card, tmp_path / "set.safetensors")
    again = read_card(str(tmp_path / "set.safetensors"))
    for field in ("genomes", "coefficients", "gain", "offset"):
        assert torch.equal(getattr(again, field), getattr(card, field))
    for field in ("spec", "errors", "lipschitz", "observed_inputs", "learned", "passport"):
        assert getattr(again, field) == getattr(card, field)


def test_the_file_is_safetensors_that_others_can_read(tmp_path):
    card = small_card()
    write_card(card, tmp_path / "set.safetensors")
    with safe_open(tmp_path / "set.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("genomes"), card.genomes)
        told = json.loads(file.metadata()["card"])
    assert told["base"] == "sin"
    assert told["learned"] == {"run_id": "made-up", "widths": [20, 50], "score": None}
    assert told["passport"] is None


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "set.safetensors"
    write_card(small_card(), path)
    write_card(small_card("kinked"), path)
    assert read_card(path).spec.base == "hat"
    assert [one.name for one in tmp_path.iterdir()] == ["set.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_process_with_little_more_than_torch_gives_the_same_outputs(tmp_path):
    card = small_card("normalised")
    write_card(card, tmp_path / "set.safetensors")
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        gone = "ray optuna pandas pyarrow pydantic scipy matplotlib sklearn search jobs analysis typer rich"
        if name.partition(".")[0] in gone.split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import json
import torch
import ldnn_core
module = ldnn_core.load_activation({str(tmp_path / "set.safetensors")!r})
x = torch.linspace(-12, 12, 700).view(4, 7, 25)
print(json.dumps(module(x).flatten().tolist()))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x = torch.linspace(-12, 12, 700).view(4, 7, 25)
    # Outside the table the functions go on straight, the sub-networks do not.
    inside = x.abs() <= card.spec.table_range
    found = torch.tensor(json.loads(done.stdout)).view(4, 7, 25).double()
    torch.testing.assert_close(found[inside], exact(card, x)[inside], atol=1e-6, rtol=1e-6)


@cache
def sound():
    card = small_card()
    tensors = {name: getattr(card, name) for name in ("coefficients", "gain", "genomes", "offset")}
    data = save(tensors, {"format": limits.FORMAT, "version": "1", "card": card_text(card)})
    card_of(data)
    return data


def parts():
    """Header and bytes of a sound file, to be spoiled."""
    data = sound()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


def spoiled_metadata(**changes):
    header, body = parts()
    header["__metadata__"] |= changes
    return joined(header, body)


def spoiled_told(**changes):
    header, _ = parts()
    told = json.loads(header["__metadata__"]["card"]) | changes
    return spoiled_metadata(card=json.dumps(told))


def without(key):
    header, _ = parts()
    told = json.loads(header["__metadata__"]["card"])
    del told[key]
    return spoiled_metadata(card=json.dumps(told))


def spoiled_tensor(name, **changes):
    header, body = parts()
    header[name] |= changes
    return joined(header, body)


def spoiled_number(name, value, index=0):
    header, body = parts()
    begin = header[name]["data_offsets"][0] + 8 * index
    body[begin : begin + 8] = struct.pack("<d", value)
    return joined(header, body)


def renamed(name, to):
    header, body = parts()
    header[to] = header.pop(name)
    return joined(header, body)


def doubled_name():
    header, body = parts()
    text = json.dumps(header)
    return joined((text[:-1] + ', "gain": ' + json.dumps(header["gain"]) + "}").encode(), body)


def without_metadata():
    header, body = parts()
    del header["__metadata__"]
    return joined(header, body)


def more_bytes():
    header, body = parts()
    return joined(header, body + b"\0" * 8)


class Evil:
    def __reduce__(self):
        return os.abort, ()


def a_pickle():
    import pickle

    return pickle.dumps(Evil()) * 4


HOSTILE = {
    "empty": (lambda: b"", "a card must have 9 to"),
    "a few bytes": (lambda: b"\0" * 8, "a card must have 9 to"),
    "a pickle": (a_pickle, "the header must have 2 to"),
    "a header longer than the file": (lambda: struct.pack("<Q", 1 << 62) + b"{}", "the header must have 2 to 2 bytes"),
    "a header of nothing": (lambda: struct.pack("<Q", 0) + b"{}", "the header must have"),
    "a header that is no text": (lambda: joined(b"\xff\xfe", b""), "the header must be UTF-8"),
    "a header that is no JSON": (lambda: joined(b"{nothing}", b""), "the header must be JSON"),
    "a header of lists": (lambda: joined(b"[" * 200_000, b""), "the header must be JSON"),
    "a header that is no object": (lambda: joined(b"[1]", b""), "the header must be an object, but got 'list'"),
    "a name twice": (doubled_name, "a name stands twice"),
    "no metadata": (without_metadata, "give one made by `ldnn export`"),
    "more metadata": (lambda: spoiled_metadata(more="x"), "the metadata must be the texts"),
    "metadata that are no text": (lambda: spoiled_metadata(version=1), "the metadata must be the texts"),
    "another format": (lambda: spoiled_metadata(format="pt\x1b[2J"), r"but got 'pt\\x1b\[2J'"),
    "another version": (lambda: spoiled_metadata(version="2"), "read it with a version of this package"),
    "told by no JSON": (lambda: spoiled_metadata(card="{"), "the card's JSON must be JSON"),
    "told by no object": (lambda: spoiled_metadata(card="3"), "the card's JSON must be an object"),
    "a constant": (lambda: spoiled_metadata(card='{"scale": NaN}'), "NaN is no number"),
    "a key less": (lambda: without("base"), "missing"),
    "a key more": (lambda: spoiled_told(code="import os"), "unknown"),
    "another base": (lambda: spoiled_told(base="__import__('os')"), "a base function must be one of zero"),
    "a base that is no text": (lambda: spoiled_told(base=["sin"]), "a base function must be one of zero"),
    "no types": (lambda: spoiled_told(num_types=0), "num_types must be whole"),
    "many types": (lambda: spoiled_told(num_types=10**9), "num_types must be whole"),
    "a flag for a number": (lambda: spoiled_told(num_types=True), "num_types must be whole"),
    "no hidden layers": (lambda: spoiled_told(hidden=[]), "hidden must be 1 to 8 sizes"),
    "a wide layer": (lambda: spoiled_told(hidden=[10**12]), "hidden must be 1 to 8 sizes"),
    "a layer and a half": (lambda: spoiled_told(hidden=[1.5]), "hidden must be 1 to 8 sizes"),
    "a scale of nothing": (lambda: spoiled_told(scale=0), "0 < scale"),
    "an infinite scale": (lambda: spoiled_metadata(card='{"scale": 1e999}'), "must have all of its keys"),
    "normalised by a word": (lambda: spoiled_told(normalized="no"), "normalized must be true or false"),
    "a long table": (lambda: spoiled_told(table_range=1e9), "table_range <= 100"),
    "a table of fine cells": (lambda: spoiled_told(table_scale=1 << 40), "table_scale must be a power of two"),
    "cells that are no power": (lambda: spoiled_told(table_scale=63), "table_scale must be a power of two"),
    "ends that are no knots": (lambda: spoiled_told(table_range=9.99), "the ends of a table must be knots"),
    "kinks outside": (lambda: spoiled_told(base="hat", table_range=2.0), "kinks of the base function"),
    "errors for too many": (
        lambda: spoiled_told(errors={"value": [0, 0, 0], "slope": [0, 0], "curvature": [0, 0]}),
        "the error of a value must be 2 finite numbers",
    ),
    "errors of something": (lambda: spoiled_told(errors={"value": [0, 0]}), "errors must be those of"),
    "a lower bound": (lambda: spoiled_told(lipschitz=[0.1, 0.1]), "lipschitz must be that of the table"),
    "a negative bound": (lambda: spoiled_told(lipschitz=[-1, 1]), "lipschitz must be 2 finite numbers"),
    "inputs from right to left": (
        lambda: spoiled_told(observed_inputs={"low": 1, "high": 0, "share": 1, "networks": 1}),
        "low < high",
    ),
    "inputs of half a network": (
        lambda: spoiled_told(observed_inputs={"low": 0, "high": 1, "share": 1, "networks": 0.5}),
        "networks must be whole",
    ),
    "inputs by name": (lambda: spoiled_told(observed_inputs={"low": "x"}), "observed_inputs must be null"),
    "learned in a word": (lambda: spoiled_told(learned="here"), "learned must be an object"),
    "a deep passport": (
        lambda: spoiled_told(passport={"rows": json.loads("[" * 20 + "]" * 20)}),
        "passport must have at most 8 levels",
    ),
    "an endless number": (
        lambda: spoiled_told().replace(b'\\"made-up\\"', b"1e999      "),
        "numbers in learned must be finite",
    ),
    "a tensor by another name": (lambda: renamed("gain", "__class__"), "the tensors must be"),
    "a tensor told by more": (lambda: spoiled_tensor("gain", more=1), "gain must be told by"),
    "half precision": (lambda: spoiled_tensor("gain", dtype="F16"), "gain must be of type F64"),
    "another shape": (lambda: spoiled_tensor("genomes", shape=[25, 2]), r"genomes must have the shape \[2, 25\]"),
    "a shape of flags": (lambda: spoiled_tensor("gain", shape=[2.0]), r"gain must have the shape \[2\]"),
    "bytes elsewhere": (lambda: spoiled_tensor("gain", data_offsets=[0, 16]), "a sound safetensors file"),
    "bytes before the first": (lambda: spoiled_tensor("gain", data_offsets=[-16, 0]), "a sound safetensors file"),
    "bytes left over": (more_bytes, "a sound safetensors file"),
    "bytes that are missing": (lambda: joined(parts()[0], parts()[1][:-8]), "a sound safetensors file"),
    "NaN": (lambda: spoiled_number("genomes", float("nan")), "the largest of genomes must be finite"),
    "infinity": (lambda: spoiled_number("coefficients", float("inf"), 7), "the largest of coefficients must be finite"),
    "a giant": (lambda: spoiled_number("genomes", 1e300), "the largest of genomes must be finite"),
    "another gain": (lambda: spoiled_number("gain", 2.0), "gain must be that of the genomes"),
    "another offset": (lambda: spoiled_number("offset", 0.5), "offset must be that of the genomes"),
    "another genome": (lambda: spoiled_number("genomes", 0.5, 3), "the table must follow from the genomes"),
    "another table": (lambda: spoiled_number("coefficients", 0.5, 4 * 1279), "the table must follow from the genomes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_sound_card_is_refused_with_rule_and_way_out(name, tmp_path):
    make, words = HOSTILE[name]
    path = tmp_path / "set.safetensors"
    path.write_bytes(make())
    with pytest.raises(CardError, match=words) as caught:
        read_card(path)
    assert "; " in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "set.safetensors"
    with path.open("wb") as file:
        file.truncate(limits.LARGEST_FILE + 1)  # takes no place on the disk
    with pytest.raises(CardError, match=f"9 to {limits.LARGEST_FILE} bytes, but got {limits.LARGEST_FILE + 1}"):
        read_card(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(CardError, match="a card must be a file"):
        read_card(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CardError, match="a card must be a file"):
        read_card(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_card(tmp_path / "absent")


def test_what_would_not_be_read_is_not_written(tmp_path):
    spec = ActivationSpec("sin", 1, (2,))
    with pytest.raises(CardError, match="JSON without NaN"):
        write_card(make_card(spec, torch.ones(1, 7), learned={"score": float("nan")}), tmp_path / "a")
    with pytest.raises(CardError, match="the largest of coefficients must be finite, at most 1e"):
        write_card(make_card(spec, torch.full((1, 7), 2e9)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_card(small_card(), tmp_path / "absent" / "set.safetensors")


def test_a_card_of_version_1_stays_readable():
    card = read_card(ROOT / "tests" / "golden" / "card_v1.safetensors")
    assert card.learned == {"run_id": "golden", "widths": [20, 50]}
    assert card.observed_inputs.networks == 8
    assert card.passport == {"label": None, "rows": [{"width": 20}]}
    x = torch.arange(-16, 17, dtype=torch.float64) / 8  # knots, where the table is exact
    module = LearnedActivation(card, axis=0, dtype=torch.float64)
    for k, (w1, w2, b1, b2, v1, v2, c) in enumerate(card.genomes.tolist()):
        expected = torch.sin(x) + 0.2 * (v1 * torch.tanh(w1 * x + b1) + v2 * torch.tanh(w2 * x + b2) + c)
        torch.testing.assert_close(module(torch.stack([x, x]))[k], expected, atol=1e-14, rtol=0)
