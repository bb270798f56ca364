"""What must be refused, as data: one JSON object a line in `tests/data`, so that a line more is a test more.

Lines that begin with ``#`` say what the others mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).parent / "data"

BASE: Final = """
description = "what the tables below are laid over"
[search.space]
inner_lr = { low = 1e-3, high = 0.1, log = true }
width = { choices = [20, 50] }
"""
"""The recipe that bad settings are laid over."""

Case = dict[str, Any]


def cases(name: str) -> list[Case]:
    """All lines of a corpus."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip() and not line.startswith("#")]


def whole_text(case: Case, key: str) -> str:
    """The text under a key with what shall follow it: long texts are written short."""
    return str(case[key]) + case.get("then", "") * case.get("times", 0) + case.get("end", "")


def with_base_recipes(folder: Path) -> Path:
    """Write the recipes that the corpora speak of: base, and plain, which is empty."""
    (folder / "base.toml").write_text(BASE)
    (folder / "plain.toml").write_text("")
    return folder
