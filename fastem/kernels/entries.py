"""Vectors of consecutive numbers, for rows that lie upright, in LLVM's own language."""

from llvmlite import ir

from fastem.kernels.lanes import INDEX, REGISTER_BYTES, loop, spread

# Sums of so many rows, or vectors of one, grow at a time, so that none waits for its
# last addition.
ABREAST = 4


class Entries:
    """Numbers of an array's type, one or a vector of them, in arrays of any shape."""

    def __init__(self, builder, array):
        self.builder = builder
        self.number = array.data.type.pointee
        self.itemsize = 4 if self.number == ir.FloatType() else 8
        self.vector = ir.VectorType(self.number, REGISTER_BYTES // self.itemsize)
        self.single = ir.VectorType(self.number, 1)

    def place(self, kind, array, index):
        """Return where what an array has from an index on lies."""
        place = self.builder.gep(array.data, [index])
        return self.builder.bitcast(place, kind.as_pointer())

    def load(self, kind, array, index):
        """Return a number, or a vector of them, from an index on."""
        place = self.place(kind, array, index)
        return self.builder.load(place, align=self.itemsize)

    def fill(self, kind, array, index):
        """Return one number of an array in all entries of a vector."""
        return spread(self.builder, kind, self.load(self.number, array, index))

    def store(self, value, array, index):
        """Set a number, or a vector of them, from an index on."""
        place = self.place(value.type, array, index)
        self.builder.store(value, place, align=self.itemsize)

    def add_to(self, array, index, value):
        """Add a number, or a vector of them, to ``float64`` numbers."""
        wide = ir.DoubleType()
        if isinstance(value.type, ir.VectorType):
            wide = ir.VectorType(wide, value.type.count)
        if value.type != wide:
            value = self.builder.fpext(value, wide)
        place = self.place(wide, array, index)
        total = self.builder.fadd(self.builder.load(place, align=8), value)
        self.builder.store(total, place, align=8)

    def in_tile_coordinates(self, kind, rows, entry, frame):
        """Return entries of rows, less those of an origin, times a scale."""
        origin, inverse_scale = frame
        x = self.builder.fsub(self.load(kind, rows, entry), origin)
        return self.builder.fmul(x, inverse_scale)

    def visit(self, size, visit):
        """Call ``visit(kind, i)`` for vectors of all entries, from each i on.

        They are of four registers, then of one, and at last of single entries.
        """
        builder, begin = self.builder, INDEX(0)
        for count in (ABREAST * self.vector.count, self.vector.count, 1):
            kind = ir.VectorType(self.number, count)

            def step(n, carried, kind=kind, begin=begin):
                visit(kind, builder.add(begin, builder.mul(n, INDEX(kind.count))))
                return []

            n_blocks = builder.sdiv(builder.sub(size, begin), INDEX(count))
            loop(builder, INDEX(0), n_blocks, [], step)
            begin = builder.add(begin, builder.mul(n_blocks, INDEX(count)))


def zero(kind):
    """Return a vector of zeros."""
    return ir.Constant(kind, [0.0] * kind.count)


def load_index(builder, array, n):
    """Return the n-th number of an array of integers."""
    return builder.load(builder.gep(array.data, [n]))


def clamped(builder, group, offset, last):
    """Return the index of a group of four, or the last where they are over."""
    n = builder.add(builder.mul(group, INDEX(ABREAST)), INDEX(offset))
    return builder.select(builder.icmp_signed("<", n, last), n, last)


def count_groups(builder, size):
    """Return how many groups of four there are, the last perhaps not whole."""
    return builder.sdiv(builder.add(size, INDEX(ABREAST - 1)), INDEX(ABREAST))
