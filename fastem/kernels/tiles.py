"""Tiles: a few hundred rows turned on their side, so that inner loops run over rows.

A tile holds ``LANES`` rows of data as the lanes of vectors: feature ``i`` of row ``b``
lies at ``tile[i * STRIDE + b]``. Every inner loop then has stride one and a constant
trip count, and LLVM vectorises it. Short tiles are filled up with zeros.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import (
    intrinsic,
    overload,
    register_jitable,
)

from fastem.compile import (
    ROUNDING_EXACT,
    TILE_OPTIONS,
    tile_function,
    tile_subroutine,
)
from fastem.lowering import lowers

LANES = 256
# Rows of a tile must not lie a power of two apart: loads and stores that agree in their
# low twelve address bits wait for each other (measured: 85 to 110 GF/s at D = 128).
# The room between them holds the messages that enter a tile of a chain.
STRIDE = LANES + 32

# Rows are cut into at most so many parts, each with a slot of its own for sums,
# whatever the number of threads; 48 share evenly among 2, 3, 4, 6, 8, 12, 16, 24 or 48.
MAX_PARTS = 48


def padded(size, block=2):
    """Return the size rounded up to a multiple of the block."""
    return -(-size // block) * block


@tile_function
def part_tiles(n_rows, n_parts, part):
    """Return the first tile of a part of the rows and the first after it."""
    n_tiles = (n_rows + LANES - 1) // LANES
    return part * n_tiles // n_parts, (part + 1) * n_tiles // n_parts


def load_tile(X, start, stop, origin, inverse_scale, tile):
    """Copy rows start..stop of X into the tile, centred on the origin and scaled.

    Contiguous rows go in blocks of four rows by four features that are turned in
    registers (measured at D = 8 to 128: 0.13 to 0.18 ns an element, element by element
    0.28 to 0.60). As many features are loaded as the origin has. A tile of float32
    takes rows of float64, too.
    """
    _load_entries(X, start, 0, stop - start, 0, origin, inverse_scale, tile)
    _clear_lanes(stop - start, origin.size, tile)


@overload(load_tile, jit_options=TILE_OPTIONS)
def _load_tile(X, start, stop, origin, inverse_scale, tile):
    def load(X, start, stop, origin, inverse_scale, tile):
        n_rows, n_turned, first = stop - start, 0, 0
        if rows_are_contiguous(X):
            n_turned, first = n_rows // 16 * 16, origin.size // 4 * 4
            for b in range(0, n_turned, 4):
                for i in range(0, first, 4):
                    place = i * STRIDE + b
                    _turn_block(X, start + b, i, origin, inverse_scale, tile, place)
        _load_entries(X, start, 0, n_turned, first, origin, inverse_scale, tile)
        _load_entries(X, start, n_turned, n_rows, 0, origin, inverse_scale, tile)
        _clear_lanes(n_rows, origin.size, tile)

    return load


@tile_subroutine
def _load_entries(X, start, begin, end, first, origin, inverse_scale, tile):
    """Load lanes begin..end from one feature on, sixteen at a time.

    Of unsigned indices Numba does not ask whether they count from the end.
    """
    for strip in range(begin, end, 16):
        rows = np.uint64(start + strip)
        for i in range(np.uint64(first), np.uint64(origin.size)):
            shift, factor = origin[i], inverse_scale[i]
            place = i * np.uint64(STRIDE) + np.uint64(strip)
            if strip + 16 <= end:
                for b in range(np.uint64(16)):
                    tile[place + b] = (X[rows + b, i] - shift) * factor
            else:
                for b in range(np.uint64(end - strip)):
                    tile[place + b] = (X[rows + b, i] - shift) * factor


@tile_subroutine
def _clear_lanes(begin, n_features, tile):
    for i in range(n_features if begin < LANES else 0):
        tile[i * STRIDE + begin : i * STRIDE + LANES] = 0


@register_jitable(**TILE_OPTIONS | ROUNDING_EXACT)
def to_tile(x, origin, inverse_scale):
    """Return a number in tile coordinates.

    Were it a tile function, the scale might be multiplied with what follows, and
    overflow.
    """
    return (x - origin) * inverse_scale


@tile_subroutine
def load_rows(X, start, stop, origin, inverse_scale, rows):
    """Copy rows start..stop of X, centred and scaled, and zeros after them."""
    n_rows = stop - start
    for b in range(n_rows):
        row = rows[b]
        for i in range(origin.size):
            row[i] = (X[start + b, i] - origin[i]) * inverse_scale[i]
    for b in range(n_rows, LANES):
        rows[b] = 0


@tile_function
def rows_are_contiguous(X):
    """Say whether rows follow each other with no room between entries."""
    one_by_one = X.shape[1] == 1 or X.strides[1] == X.itemsize
    return one_by_one and X.strides[0] == X.itemsize * X.shape[1]


@intrinsic
def as_contiguous(typing_context, X):
    """Return contiguous rows as what they are, which their type need not say.

    So a kernel is compiled once for all layouts, and yet reads these fastest.
    """

    def generate(context, builder, signature, arguments):
        return impl_ret_borrowed(context, builder, signature.args[0], arguments[0])

    return X.copy(layout="C")(X), generate


@intrinsic
def _turn_block(typing_context, X, row, i, origin, inverse_scale, tile, place):
    """Copy rows row..row+4, features i..i+4, to four lanes of four rows of the tile."""
    signature = types.void(X, row, i, origin, inverse_scale, tile, place)

    def generate(context, builder, signature, arguments):
        X, row, i, origin, inverse_scale, tile, place = (
            context.make_array(kind)(context, builder, value)
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        align, narrow = (signature.args[i].dtype.bitwidth // 8 for i in (0, 5))

        def address(array, entry):
            place = builder.gep(array.data, [entry])
            vector = ir.VectorType(place.type.pointee, 4)
            return builder.bitcast(place, vector.as_pointer())

        def pick(a, b, *lanes):
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), lanes)
            return builder.shuffle_vector(a, b, lanes)

        shift = builder.load(address(origin, i), align=align)
        factor = builder.load(address(inverse_scale, i), align=align)
        rows = []
        width = builder.extract_value(X.shape, 1)
        entry = builder.add(builder.mul(row, width), i)
        for _ in range(4):
            x = builder.load(address(X, entry), align=align)
            x = builder.fmul(builder.fsub(x, shift), factor)
            if narrow < align:
                x = builder.fptrunc(x, address(tile, place).type.pointee)
            rows.append(x)
            entry = builder.add(entry, width)
        even01, odd01 = (pick(*rows[:2], j, j + 4, j + 2, j + 6) for j in (0, 1))
        even23, odd23 = (pick(*rows[2:], j, j + 4, j + 2, j + 6) for j in (0, 1))
        features = (
            pick(even01, even23, 0, 1, 4, 5),
            pick(odd01, odd23, 0, 1, 4, 5),
            pick(even01, even23, 2, 3, 6, 7),
            pick(odd01, odd23, 2, 3, 6, 7),
        )
        for lanes in features:
            builder.store(lanes, address(tile, place), align=narrow)
            place = builder.add(place, place.type(STRIDE))
        return context.get_dummy_value()

    return signature, generate


@tile_function
def prefetch_rows(X, begin, end):
    """Ask memory for rows begin..end, which may be past the last, and do not wait.

    Spread over the work on one tile, this hides most of the wait for the next (measured
    in k-means at D = 8, K = 16: 12.4 against 15.6 ns a row). Only contiguous rows are
    asked for, and none without the JIT.
    """
    first = address_of_rows(X, begin)
    if first != 0:
        prefetch(first, first + (end - begin) * X.shape[1] * X.itemsize)


def address_of_rows(X, begin):
    """Return where contiguous rows lie; of others, and without the JIT, zero."""
    return 0


@overload(address_of_rows, jit_options=TILE_OPTIONS)
def _address_of_rows(X, begin):
    def find(X, begin):
        return _address(X, begin * X.shape[1]) if rows_are_contiguous(X) else 0

    return find


def prefetch(begin, end):
    """Ask memory for the lines between two addresses, and do not wait."""


@overload(prefetch, jit_options=TILE_OPTIONS)
def _prefetch(begin, end):
    def ask(begin, end):
        for address in range(begin, end, 64):
            _prefetch_line(address)

    return ask


@intrinsic
def _address(typing_context, X, entry):
    def generate(context, builder, signature, arguments):
        data = context.make_array(X)(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(X, types.int64), generate


@intrinsic
def _prefetch_line(typing_context, address):
    def generate(context, builder, signature, arguments):
        prefetch_line(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def prefetch_line(builder, address):
    """Write the instruction that asks for the line at an address."""
    place = builder.inttoptr(address, ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
    ask = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
    # To read; into the second cache, for the first has no room for two tiles
    # (measured at D = 16, K = 16: 23 against 30 ns a row); data.
    builder.call(ask, [place, flag(0), flag(2), flag(1)])


def at_address(address, like):
    """Return an array like another, of what lies at an address; at zero, the other."""
    return like


@lowers(at_address)
def _lower_at_address(typing_context, address, like):
    def generate(context, builder, signature, arguments):
        address, like = arguments
        array = context.make_array(signature.return_type)(context, builder, like)
        elsewhere = builder.inttoptr(address, array.data.type)
        here = builder.icmp_signed("==", address, address.type(0))
        array.data = builder.select(here, array.data, elsewhere)
        value = array._getvalue()
        return impl_ret_borrowed(context, builder, signature.return_type, value)

    return like(types.int64, like), generate


@tile_function
def load_weights(sample_weight, start, stop, tile_weight):
    """Copy the weights of rows start..stop; ones where there are none, then zeros."""
    n_rows = stop - start
    if sample_weight.size == 0:
        for b in range(n_rows):
            tile_weight[b] = 1
    else:
        for b in range(n_rows):
            tile_weight[b] = sample_weight[start + b]
    for b in range(n_rows, LANES):
        tile_weight[b] = 0


@tile_function
def fill_rows(values, out):
    """Set every lane of row k to ``values[k]``."""
    for k in range(values.size):
        row = out[k * STRIDE : k * STRIDE + LANES]
        for b in range(LANES):
            row[b] = values[k]


@tile_function
def lane_sum(values, n_lanes):
    """Return the sum of the first lanes."""
    total = values.dtype.type(0)
    for b in range(n_lanes):
        total += values[b]
    return total


@tile_function
def count_positive(values):
    """Return how many lanes are above zero."""
    count = np.int64(0)
    for b in range(LANES):
        count += values[b] > 0
    return count
