"""How commands answer: on a terminal for people, as one line of JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from rich.console import Console

AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "soft_wrap": True}
"""For lines with paths, which are there to be copied: no line breaks of ours."""


def console() -> Console:
    """Where results are printed; wide enough for a table when nobody watches."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def print_json(answer: Any) -> None:
    """Print plain values, and paths as text."""
    print(json.dumps(answer, default=os.fspath))  # noqa: T201
