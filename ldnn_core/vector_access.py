"""Reads and writes that tell the compiler what cannot overlap, so that it vectorises loops with look-ups.

LLVM vectorises a loop that reads at computed places (a gather) and writes only if the two cannot overlap.  For reads
in order it checks that while running; for a gather it cannot, and gives up: a look-up then takes 5 ns instead of
0.8.  So each access carries its role, and accesses of different roles are declared not to overlap (the scopes of
LLVM's ``noalias`` metadata): *input* is read in order, *table* is read anywhere, *output* is written.  An array must
keep one role in a loop.  Indices are flat and must be in bounds; arrays are contiguous; nothing is checked.

This uses the part of Numba that it calls its low-level extension API.  `ldnn_core.compiled` tries it once and does
without the kernels where it does not work.  Numba's disk cache looks at the file of a kernel only: after a change
here, the cached kernels have to be deleted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
"""What the compiler may assume; not "nnan" and "ninf": NaN and infinity must stay, so that divergence is seen."""

_ROLES = ("input", "table", "output")


def _mark(builder: Any, instruction: Any, role: str) -> None:
    """Declare that an access of this role overlaps none of another."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "ldnn")])
    scopes = {name: module.add_metadata([ir.MetaDataString(module, name), domain]) for name in _ROLES}
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[role]]))
    instruction.set_metadata("noalias", module.add_metadata([scopes[name] for name in _ROLES if name != role]))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


def _reader(role: str) -> Any:
    def read(typing_context: Any, array: Any, index: Any) -> Any:
        signature = array.dtype(array, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
            _mark(builder, value, role)
            return value

        return signature, generate

    return intrinsic(read)


get = _reader("input")
"""``get(array, index)``, for arrays that are read in order."""

look_up = _reader("table")
"""``look_up(array, index)``, for arrays that are read anywhere."""


@intrinsic  # type: ignore[untyped-decorator]
def put(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``, for arrays that are only written."""
    signature = types.void(array, index, array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        _mark(builder, builder.store(value, _pointer(context, builder, signature.args[0], array, index)), "output")
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def add_four(typing_context: Any, out: Any, j: Any, parts: Any, k: Any) -> Any:
    """``out[j : j + 4] += parts[k : k + 4]`` as one vector; float32 or float64, both arrays of one type."""
    signature = types.void(out, j, parts, k)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_type, _, parts_type, _ = signature.args
        out, j, parts, k = arguments
        four = ir.VectorType(context.get_data_type(out_type.dtype), 4).as_pointer()
        align = out_type.dtype.bitwidth // 8  # of an element, not of the vector: cells begin anywhere
        place = builder.bitcast(_pointer(context, builder, out_type, out, j), four)
        more = builder.load(builder.bitcast(_pointer(context, builder, parts_type, parts, k), four), align=align)
        builder.store(builder.fadd(builder.load(place, align=align), more), place, align=align)
        return context.get_dummy_value()

    return signature, generate


@njit(cache=True)
def _trial(numbers, doubled):  # type: ignore[no-untyped-def]
    for k in range(4):
        put(doubled, k, get(numbers, k) + look_up(numbers, 3 - k))
    add_four(doubled, 0, numbers, 0)


def works() -> bool:
    """Whether the four operations compile here and do what they should."""
    numbers, doubled = np.arange(4, dtype=np.float32), np.empty(4, np.float32)
    _trial(numbers, doubled)
    return bool((doubled == numbers + 3).all())
