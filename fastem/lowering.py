"""What fastem adds to Numba's own way from Python to machine code.

Functions that only kernels call are not made machine code of by themselves, and the
arguments of a parallel loop's parts travel as one address, so that all kernels share
one such loop. Together that halves the time to compile (measured for a first fit of a
mixture: 26 to 14 s). Code that many kernels share is called through its address, with
arguments that travel likewise.
"""

import hashlib

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once_value
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import infer, infer_global, make_intrinsic_template
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    models,
    register_model,
    unbox,
)

# Of functions that do not count the references they are handed.
BORROWING = {"_nrt": False}


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


def lowers(function):
    """Let what is decorated, as an intrinsic is, write the code of calls of a function.

    With ``overload`` each intrinsic that is a Python function, too, would be compiled
    within a function of its own.
    """

    def decorate(define):
        template = make_intrinsic_template(function, define, function.__name__)
        infer(template)
        infer_global(function, types.Function(template))
        return define

    return decorate


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


@box(Packed)
def _box_packed(packed, value, c):
    return c.pyapi.long_from_longlong(value)


@intrinsic
def pack(typing_context, values):
    """Return the address of a tuple's copy, which lives as long as the caller."""

    def generate(context, builder, signature, arguments):
        return _address_of_copy(builder, arguments[0])

    return types.int64(values), generate


def _address_of_copy(builder, value):
    return builder.ptrtoint(alloca_once_value(builder, value), ir.IntType(64))


def keep(values):
    """Return the address of a tuple's copy, which lives until it is dropped."""
    return values


@lowers(keep)
def _lower_keep(typing_context, values):
    def generate(context, builder, signature, arguments):
        (kind,), (members,) = signature.args, arguments
        size = context.get_abi_sizeof(members.type)
        place = context.nrt.allocate(builder, ir.IntType(64)(size))
        builder.store(members, builder.bitcast(place, members.type.as_pointer()))
        context.nrt.incref(builder, kind, members)
        return builder.ptrtoint(place, ir.IntType(64))

    return Packed(values.types)(values), generate


def drop(packed):
    """Let go of what was kept."""


@lowers(drop)
def _lower_drop(typing_context, packed):
    def generate(context, builder, signature, arguments):
        place = context.get_value_type(packed.members).as_pointer()
        place = builder.inttoptr(arguments[0], place)
        context.nrt.decref(builder, packed.members, builder.load(place))
        context.nrt.free(builder, builder.bitcast(place, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(packed), generate


def call(code, packed, argument):
    """Call what lies at an address; a tuple is packed for as long as that takes."""
    code(packed, argument)


@lowers(call)
def _lower_call(typing_context, code, packed, argument):
    def generate(context, builder, signature, arguments):
        code, packed, argument = arguments
        if isinstance(signature.args[2], types.BaseTuple):
            argument = _address_of_copy(builder, argument)
        number, nothing = ir.IntType(64), context.get_value_type(types.void)
        function = ir.FunctionType(nothing, (number, number)).as_pointer()
        builder.call(builder.inttoptr(code, function), (packed, argument))
        return context.get_dummy_value()

    return types.void(code, packed, argument), generate


def unpack(packed):
    """Return the tuple that was packed; without the JIT it never was."""
    return packed


@lowers(unpack)
def _lower_unpack(typing_context, packed):
    def generate(context, builder, signature, arguments):
        members = context.get_value_type(signature.return_type)
        place = builder.inttoptr(arguments[0], members.as_pointer())
        values = builder.load(place)
        return impl_ret_borrowed(context, builder, signature.return_type, values)

    return packed.members(packed), generate


@intrinsic
def take_next(typing_context, packed):
    """Return the number that was packed, one more for each thread that asks."""

    def generate(context, builder, signature, arguments):
        number = ir.IntType(64)
        place = builder.inttoptr(arguments[0], number.as_pointer())
        return builder.atomic_rmw("add", place, number(1), "monotonic")

    return types.int64(packed), generate
