"""What an activation card has to keep to, and the error when it does not."""

from __future__ import annotations

import json
from typing import Any, Final

WAY_OUT: Final = "get the file again, or make it again with `ldnn export`"
_SHOWN: Final = 200
_DOES_NOT: Final = object()


class CardError(ValueError):
    """A file is not an activation card that can be trusted; the words say the rule, what was found and what to do."""


def hold(rule: bool, words: str, found: object = _DOES_NOT, way_out: str = WAY_OUT) -> None:
    """Go on only if a rule holds.

    Args:
        rule: whether it does.
        words: the rule.
        found: the value that breaks it, which may come from the file: it is shown in ASCII, and cut.
        way_out: what a person can do.

    Raises:
        CardError: it does not hold.
    """
    if not rule:
        but = "does not" if found is _DOES_NOT else f"got {ascii(found)[:_SHOWN]}"
        raise CardError(f"{words}, but {but}; {way_out}")


def parsed(text: str, what: str) -> Any:
    """JSON without constants that are no numbers, and without a name twice in an object.

    Raises:
        CardError: it is not that.
    """

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
        raise CardError(f"{what} must be JSON, but: {error}; {WAY_OUT}") from error


def whole(told: Any, most: int) -> bool:
    """Whether it is an integer from 1 on; to Python, True would be one."""
    return type(told) is int and 1 <= told <= most


def number(told: Any) -> bool:
    """Whether it is an integer or a finite real."""
    return type(told) in (int, float) and abs(told) <= 1e300
