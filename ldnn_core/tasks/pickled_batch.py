"""The published python batches of CIFAR-10, read without unpickling.

A pickle is a program for a stack machine, which may call anything.  Here its instructions are only listed
(`pickletools.genops` runs nothing), and a machine that knows the few of them that a batch is made of puts together
plain values; a call is written down and never made, and of three names only.

A batch is a dict of Python 2 with ``labels``, a list of whole numbers, and ``data``, an array of unsigned bytes.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ldnn_core.tasks._base import DataError
from ldnn_core.tasks._files import require_regular

LARGEST: Final = 64 << 20
"""Bytes of a batch; the published ones have half as many."""

MOST_INSTRUCTIONS: Final = 1_000_000
"""Of a batch; the published ones have a twentieth of it.  Each may take much more memory than its byte in the file."""

_NAMES: Final = ("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")
_VALUES: Final = frozenset(
    {"BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE"}
)  # whose argument is the value itself
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK: Final = object()


@dataclass
class _Call:
    """What a pickle wanted to be called, and what it wanted to set in the result."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass
class _Machine:
    """The stack machine: `step` does one instruction."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            count = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}.get(name)
            stack.append(tuple(self._marked() if count is None else self._last(count)))
        elif name in ("APPEND", "APPENDS"):
            values = self._marked() if name == "APPENDS" else self._last(1)
            stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._marked() if name == "SETITEMS" else self._last(2)
            stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name == "GLOBAL" and argument in _NAMES:
            stack.append(_Call(argument, ()))
        elif name == "REDUCE":
            called, arguments = self._last(2)
            stack.append(_Call(called.name, arguments))
        elif name == "BUILD":
            (state,) = self._last(1)
            stack[-1].state = state
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"it has {name} {argument if isinstance(argument, str) else ''}".strip())

    def _last(self, count: int) -> list[Any]:
        values = self.stack[-count:]
        if len(values) < count or any(value is _MARK for value in values):
            raise ValueError("it takes more from the stack than there is")
        del self.stack[-count:]
        return values

    def _marked(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("it takes more from the stack than there is")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values


def read_pickled_batch(path: Path, row_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R, row_bytes) of unsigned bytes, and their labels (R,), of a batch in Python's own format.

    Raises:
        DataError: it is larger than `LARGEST`, no pickle, or has in it what no batch has.
    """
    require_regular(path, LARGEST)
    machine = _Machine()
    try:
        content = path.read_bytes()
        for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if count == MOST_INSTRUCTIONS:
                raise ValueError(f"it has more than {MOST_INSTRUCTIONS} instructions")
            machine.step(instruction.name, argument)
        (batch,) = machine.stack
        data, labels = batch["data"], batch["labels"]
        version, shape, kind, by_columns, text = data.state
        rows, size = shape
        described = (data.name, kind.name, kind.arguments[0], version, bool(by_columns), size, type(text))
        if described != (_NAMES[0], _NAMES[2], "u1", 1, False, row_bytes, str):
            raise ValueError(f"its data is not {row_bytes} unsigned bytes a row")
        numbers = np.frombuffer(text.encode("latin-1"), np.uint8).reshape(rows, row_bytes)
        if not all(type(label) is int and 0 <= label < 256 for label in labels) or len(labels) != rows:
            raise ValueError(f"its labels are not {rows} whole numbers below 256")
        return numbers, np.array(labels, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, UnicodeError) as error:
        words = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is no published batch of CIFAR-10, and is not unpickled ({words})") from error
