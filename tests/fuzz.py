"""A coverage-guided search for inputs that the loaders of cards and recipes do not refuse in a sentence.

``python -m tests.fuzz [--seconds 60] [--seed 0]`` mutates sound and hostile files of the corpora. An input that
reaches a line of a loader that none before has reached is kept and mutated further. Whatever ends other than well or
by the loader's own error is a crash: it is printed and written to fuzz-crash-*, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import ldnn_core.card_file
import ldnn_core.card_json
import ldnn_core.card_rules
import search.config
import search.config_errors
import search.config_keys
import search.config_space
import search.config_tables
import search.config_tasks
import search.config_types
import search.recipes
from ldnn_core import CardError
from ldnn_core.card_file import card_of
from search.config_errors import ConfigError
from search.recipes import load_recipe
from tests.corpora import cases, whole_text, with_base_recipes
from tests.jobs.calls import ROOT
from tests.ldnn_core.spoiled_cards import sound, spoiled

CARD_MODULES: Final = (ldnn_core.card_file, ldnn_core.card_json, ldnn_core.card_rules)
RECIPE_MODULES: Final = (
    search.recipes,
    search.config,
    search.config_errors,
    search.config_keys,
    search.config_space,
    search.config_tables,
    search.config_tasks,
    search.config_types,
)
SLOW: Final = 20.0
"""Seconds after which an input counts as a crash too: a loader must not be kept busy."""

WORDS: Final = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 40, b"null", b"true", b"[]", b"{}", b"[[[[[[[[[", b'""', b"\x00"),
    *(b"data_offsets", b"F64", b"shape", b"__metadata__", b"..", b"/", b"\\u0000", b"\\ud800", b"inf", b"nan", b"= "),
    *(b"[search.space]\n", b"extends = 'base'\n", b"low", b"choices", b"1979-05-27", b"'''", b"0x", b"\x1b[2J", b"\n"),
    *(b"=", b".", b"\xff"),
)  # fmt: skip


@dataclass
class Finding:
    """How a run of inputs went.

    Attributes:
        tried: inputs.
        refused: by the loader's own error.
        taken: as sound.
        kept: those that reached something new.
        lines: of the loader that were reached.
        crashes: what was raised instead, by its input.
    """

    tried: int = 0
    refused: int = 0
    taken: int = 0
    kept: int = 0
    lines: set[tuple[str, int]] = field(default_factory=set)
    crashes: list[tuple[bytes, str]] = field(default_factory=list)


def fuzz(
    load: Callable[[bytes], Any],
    refusal: type[Exception],
    modules: tuple[Any, ...],
    seeds: list[bytes],
    mutate: Callable[[bytes, bytes, random.Random], bytes],
    *,
    seconds: float,
    chance: random.Random,
) -> Finding:
    """Feed mutations of inputs to a loader for so long."""
    files = {str(module.__file__) for module in modules}
    finding, pool, waiting = Finding(), list(seeds), list(seeds)
    end = time.monotonic() + seconds
    while time.monotonic() < end or waiting:
        data = waiting.pop() if waiting else mutate(chance.choice(pool), chance.choice(pool), chance)
        before = len(finding.lines)
        _try(load, refusal, files, data, finding)
        if len(finding.lines) > before:
            finding.kept += 1
            pool.append(data)
    return finding


def _try(
    load: Callable[[bytes], Any], refusal: type[Exception], files: set[str], data: bytes, finding: Finding
) -> None:
    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            finding.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    finding.tried += 1
    began = time.process_time()
    sys.settrace(trace)
    try:
        load(data)
        finding.taken += 1
    except refusal as error:
        finding.refused += 1
        if not str(error).strip():
            finding.crashes.append((data, "a refusal without words"))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        finding.crashes.append((data, f"{type(error).__name__}: {error}"))
    finally:
        sys.settrace(None)
    if (seconds := time.process_time() - began) > SLOW:
        finding.crashes.append((data, f"it took {seconds:.0f} s"))


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four small changes: bits, words, pieces removed, repeated, or taken from another input."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(result))
        length = min(chance.choice((1, 2, 4, 8, 30)), len(result) - place)
        kind = chance.randrange(6)
        if kind == 0 and length:
            result[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            result[place : place + length * chance.randrange(2)] = chance.choice(WORDS)
        elif kind == 2:
            del result[place : place + length]
        elif kind == 3:
            result[place:place] = result[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 4 and other:
            begin = chance.randrange(len(other))
            result[place : place + length] = other[begin : begin + chance.choice((1, 4, 30, 300))]
        elif length:
            result[place] = chance.choice(b"0123456789-+.eE[]{},:\"'\\ \n=")
    return bytes(result)


def mutated_card(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Mostly only the header, with its length said rightly; else the bytes would hide all that comes after them."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length or chance.random() < 0.2:
        return mutated(data, other, chance)
    if chance.random() < 0.2:
        return data[: 8 + length] + mutated(data[8 + length :], other[8:], chance)
    header = mutated(data[8 : 8 + length], other[8 : 8 + int.from_bytes(other[:8], "little") % (1 << 20)], chance)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def fuzz_cards(seconds: float, chance: random.Random) -> Finding:
    """The loader of activation cards."""
    seeds = [sound(), *(spoiled(case["card"]) for case in cases("hostile_cards") if "times" not in case["card"])]
    return fuzz(card_of, CardError, CARD_MODULES, seeds, mutated_card, seconds=seconds, chance=chance)


def fuzz_recipes(seconds: float, chance: random.Random, folder: Path) -> Finding:
    """The loader of recipes: a file, or where it begins with ``--set `` a setting of one."""
    with_base_recipes(folder)

    def load(data: bytes) -> None:
        if data.startswith(b"--set "):
            load_recipe("base", [data[6:].decode("utf-8", "surrogateescape")], folder=folder)
        else:
            (folder / "any.toml").write_bytes(data)
            load_recipe(str(folder / "any.toml"), folder=folder)

    shipped = [path.read_bytes() for path in sorted((ROOT / "jobs" / "recipes").glob("*.toml"))]
    files = [whole_text(case, "toml").encode() for case in cases("bad_recipes") if case.get("times", 0) < 5000]
    sets = [f"--set {whole_text(case, 'set')}".encode() for case in cases("bad_overrides")]
    return fuzz(load, ConfigError, RECIPE_MODULES, [*shipped, *files, *sets], mutated, seconds=seconds, chance=chance)


def main() -> int:
    """Both loaders, half of the time each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of both loaders together")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        findings = {
            "cards": fuzz_cards(given.seconds / 2, chance),
            "recipes": fuzz_recipes(given.seconds / 2, chance, Path(folder)),
        }
    print("| loader | inputs | refused | taken as sound | kept for new lines | lines reached | crashes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, one in findings.items():
        cells = (one.tried, one.refused, one.taken, one.kept, len(one.lines), len(one.crashes))
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    for name, one in findings.items():
        for data, words in one.crashes[:20]:
            file = Path(f"fuzz-crash-{name}-{hashlib.sha256(data).hexdigest()[:12]}")
            file.write_bytes(data)
            print(f"{file}: {words}", file=sys.stderr)
    return int(any(one.crashes for one in findings.values()))


if __name__ == "__main__":
    sys.exit(main())
