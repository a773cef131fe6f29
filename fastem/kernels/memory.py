"""Arrays that compiled code makes for itself.

NumPy's own constructors do the same, but Numba compiles a function of each for every
number of dimensions, type, constant size and set of flags: 28 in a first fit of a
mixture, which take more than a second. These are written where they are called.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import for_range, memset, pack_array, unpack_tuple
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing.npydecl import parse_dtype
from numba.np.arrayobj import populate_array

from fastem.lowering import lowers

SIZE = ir.IntType(64)
# Of lines of the cache, which vectors must not straddle.
ALIGNMENT = 64


def empty(shape, dtype):
    """Return a new array; what is in it is anything."""
    return np.empty(shape, dtype)


def zeros(shape, dtype):
    """Return a new array of zeros."""
    return np.zeros(shape, dtype)


def zeros_from(begin, shape, dtype):
    """Return a new array of which all from an index on is zero, the rest anything.

    Parts of the rows have memory of their own; cleared, it took a twentieth of an
    E-step at D = 64, K = 64.
    """
    array = np.empty(shape, dtype)
    array[begin:] = 0
    return array


def full(shape, value, dtype):
    """Return a new array of one number."""
    return np.full(shape, value, dtype)


@lowers(empty)
def _lower_empty(typing_context, shape, dtype):
    def generate(context, builder, signature, arguments):
        array = _allocate(context, builder, signature.args[0], arguments[0], signature)
        return _new_reference(context, builder, signature, array)

    return _array_type(shape, dtype)(shape, dtype), generate


@lowers(zeros)
def _lower_zeros(typing_context, shape, dtype):
    def generate(context, builder, signature, arguments):
        array = _allocate(context, builder, signature.args[0], arguments[0], signature)
        memset(builder, array.data, builder.mul(array.nitems, array.itemsize), 0)
        return _new_reference(context, builder, signature, array)

    return _array_type(shape, dtype)(shape, dtype), generate


@lowers(zeros_from)
def _lower_zeros_from(typing_context, begin, shape, dtype):
    def generate(context, builder, signature, arguments):
        begin, shape, _ = arguments
        array = _allocate(context, builder, signature.args[1], shape, signature)
        first = builder.mul(begin, builder.extract_value(array.strides, 0))
        place = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        n_bytes = builder.mul(array.nitems, array.itemsize)
        n_bytes = builder.sub(n_bytes, first)
        memset(builder, builder.gep(place, [first]), n_bytes, 0)
        return _new_reference(context, builder, signature, array)

    return _array_type(shape, dtype)(types.int64, shape, dtype), generate


@lowers(full)
def _lower_full(typing_context, shape, value, dtype):
    def generate(context, builder, signature, arguments):
        shape, value, _ = arguments
        array = _allocate(context, builder, signature.args[0], shape, signature)
        entry = signature.return_type.dtype
        value = context.cast(builder, value, signature.args[1], entry)
        with for_range(builder, array.nitems) as loop:
            builder.store(value, builder.gep(array.data, [loop.index]))
        return _new_reference(context, builder, signature, array)

    return _array_type(shape, dtype)(shape, value, dtype), generate


def _array_type(shape, dtype):
    ndim = 1 if isinstance(shape, types.Integer) else len(shape)
    return types.Array(parse_dtype(dtype), ndim, "C")


def _allocate(context, builder, kind, shape, signature):
    sizes = [shape] if isinstance(kind, types.Integer) else unpack_tuple(builder, shape)
    array = context.make_array(signature.return_type)(context, builder)
    entry = array.data.type.pointee
    itemsize = SIZE(context.get_abi_sizeof(entry))
    strides = [itemsize]
    for size in reversed(sizes):
        strides.append(builder.mul(strides[-1], size))
    n_bytes, *strides = reversed(strides)
    alignment = ir.IntType(32)(ALIGNMENT)
    place = context.nrt.meminfo_alloc_aligned(builder, n_bytes, alignment)
    data = context.nrt.meminfo_data(builder, place)
    populate_array(
        array,
        data=builder.bitcast(data, entry.as_pointer()),
        shape=pack_array(builder, sizes, SIZE),
        strides=pack_array(builder, strides, SIZE),
        itemsize=itemsize,
        meminfo=place,
    )
    return array


def _new_reference(context, builder, signature, array):
    value = array._getvalue()
    return impl_ret_new_ref(context, builder, signature.return_type, value)
