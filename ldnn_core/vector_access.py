"""Reads and writes that tell the compiler what cannot overlap, so that it vectorises loops with look-ups.

LLVM vectorises a loop that reads at computed places (a gather) and writes only if the two cannot overlap.  For reads
in order it checks that while running; for a gather it cannot, and gives up: a look-up then takes 5 ns instead of
0.8.  So each access carries its role, and accesses of different roles are declared not to overlap (the scopes of
LLVM's ``noalias`` metadata): *input* is read in order, *table* is read anywhere, *output* is written.  What is
accessed must keep one role in a loop.  Indices are flat and must be in bounds, memory contiguous: nothing is checked.

Kernels take the addresses of tensors, see `ldnn_core.compiled.call`: with small networks, to make an array of each
tensor would cost more than what is done with it.  `numbers` says what lies at an address; arrays can be accessed too.

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


def _pointer(context: Any, builder: Any, memory_type: Any, memory: Any, index: Any) -> Any:
    is_array = isinstance(memory_type, types.Array)
    data = cgutils.create_struct_proxy(memory_type)(context, builder, memory).data if is_array else memory
    return builder.gep(data, [index], inbounds=True)


@intrinsic  # type: ignore[untyped-decorator]
def numbers(typing_context: Any, address: Any, like: Any) -> Any:
    """The memory at an address, as numbers of the type of ``like``."""
    signature = types.CPointer(like)(address, like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def cast(typing_context: Any, number: Any, like: Any) -> Any:
    """The number in the type of ``like``: one Python float in a loop would turn float32 into float64."""
    signature = like(number, like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return signature, generate


def _reader(role: str) -> Any:
    def read(typing_context: Any, memory: Any, index: Any) -> Any:
        signature = memory.dtype(memory, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
            _mark(builder, value, role)
            return value

        return signature, generate

    return intrinsic(read)


get = _reader("input")
"""``get(memory, index)``, for what is read in order."""

look_up = _reader("table")
"""``look_up(memory, index)``, for what is read anywhere."""


@intrinsic  # type: ignore[untyped-decorator]
def put(typing_context: Any, memory: Any, index: Any, value: Any) -> Any:
    """``memory[index] = value``, for what is only written."""
    signature = types.void(memory, index, memory.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory, index, value = arguments
        _mark(builder, builder.store(value, _pointer(context, builder, signature.args[0], memory, index)), "output")
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def add_four(typing_context: Any, out: Any, j: Any, parts: Any, k: Any) -> Any:
    """``out[j : j + 4] += parts[k : k + 4]`` as one vector; float32 or float64, both of one type."""
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
def _trial(like, ramp, doubled):  # type: ignore[no-untyped-def]
    ramp, doubled = numbers(ramp, like), numbers(doubled, like)
    for k in range(4):
        put(doubled, k, get(ramp, k) + look_up(ramp, 3 - k))
    add_four(doubled, 0, ramp, 0)


def works() -> bool:
    """Whether the five operations compile here and do what they should."""
    ramp, doubled = np.arange(4, dtype=np.float32), np.empty(4, np.float32)
    _trial(np.float32(1), ramp.ctypes.data, doubled.ctypes.data)
    return bool((doubled == ramp + 3).all())
