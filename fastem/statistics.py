"""Statistics form a vector space: they add over blocks, scale and subtract.

A statistics object is a NamedTuple of numbers and arrays; these functions know no more.
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
    return type(statistics)(*(field * factor for field in statistics))


def _combine(operation, first, second):
    return type(first)(*map(operation, first, second))
