"""What fastem adds to Numba's own way from Python to machine code.

Functions that only kernels call are not made machine code of by themselves, and the
arguments of a parallel loop's parts travel as one address, so that all kernels share
one such loop. Together that halves the time to compile (measured for a first fit of a
mixture: 26 to 14 s).
"""

import hashlib

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once_value
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.imputils import impl_ret_borrowed
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    overload,
    register_model,
    unbox,
)


class _OptimizedCallees(JITCodeLibrary):
    """Functions to link into those that call them, of which no code is made."""

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """Return that there is no such code."""
        return 0

    @property
    def codegen(self):
        """Return what takes the environment that code would look up."""
        return self

    def set_env(self, name, environment):
        """Forget it."""


class _Callees(_OptimizedCallees):
    """Functions that are not optimised, either, before they are in their place."""

    def _optimize_final_module(self):
        """Leave it to the callers."""


class CalleeCompiler(Compiler):
    """Compiles functions that only compiled functions call."""

    _library = _Callees

    def __init__(self, typing_context, target_context, library, *others):
        library = self._library(target_context.codegen(), "callees")
        super().__init__(typing_context, target_context, library, *others)


class OptimizingCalleeCompiler(CalleeCompiler):
    """Optimises them by themselves before."""

    _library = _OptimizedCallees


class Packed(types.Type):
    """Where arguments of these types lie, one after another, as an integer."""

    def __init__(self, members):
        self.members = types.Tuple(members)
        # Symbols are named after types, and some of these names fill a page.
        name = hashlib.sha256(str(self.members).encode()).hexdigest()
        super().__init__(f"packed_{name}")


@register_model(Packed)
class _PackedModel(models.PrimitiveModel):
    def __init__(self, manager, packed):
        super().__init__(manager, packed, ir.IntType(64))


@unbox(Packed)
def _unbox_packed(packed, number, c):
    return NativeValue(c.pyapi.long_as_longlong(number))


@intrinsic
def pack(typing_context, values):
    """Return the address of a tuple's copy, which lives as long as the caller."""

    def generate(context, builder, signature, arguments):
        place = alloca_once_value(builder, arguments[0])
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(values), generate


def unpack(packed):
    """Return the tuple that was packed; without the JIT it never was."""
    return packed


@overload(unpack)
def _overload_unpack(packed):
    return lambda packed: _load(packed)


@intrinsic
def _load(typing_context, packed):
    def generate(context, builder, signature, arguments):
        members = context.get_value_type(signature.return_type)
        place = builder.inttoptr(arguments[0], members.as_pointer())
        values = builder.load(place)
        return impl_ret_borrowed(context, builder, signature.return_type, values)

    return packed.members(packed), generate


@intrinsic
def take_next(typing_context, counter):
    """Return the first number of an array, one more for each thread that asks."""

    def generate(context, builder, signature, arguments):
        place = context.make_array(counter)(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), generate
