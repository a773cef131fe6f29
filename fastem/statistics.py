"""Statistics form a vector space: they add over blocks, scale and subtract.

A statistics object is a NamedTuple of numbers, arrays and NamedTuples of the same kind;
these functions know no more.
"""

import operator


def add(first, second):
    """Return the statistics of two blocks together."""
    return _combine(operator.add, first, second)


def subtract(whole, part):
    """Return the statistics of a whole without one of its blocks."""
    return _combine(operator.sub, whole, part)


def scale(statistics, factor):
    """Return the statistics of data whose weights are all multiplied by a factor."""
    return _combine(lambda field: field * factor, statistics)


def _combine(operation, first, *others):
    """Return the results of an operation on corresponding fields, at any depth."""
    if not isinstance(first, tuple):
        return operation(first, *others)
    fields = zip(first, *others, strict=True)
    return type(first)(*(_combine(operation, *field) for field in fields))
