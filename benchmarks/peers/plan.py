"""What a run of the comparisons measures, and how it words a comparison."""

from typing import NamedTuple

from benchmarks.peers.memory import megabytes_added


class Plan(NamedTuple):
    repeats: int
    smoke: bool
    filters: tuple[str, ...]
    peers: tuple[str, ...] = ()
    long: bool = False

    def select_peers(self, peers):
        """Return the peers that are named, all where none is."""
        return [peer for peer in peers if not self.peers or peer.NAME in self.peers]

    def select(self, cases):
        """Yield the cases that a filter names, shrunk in a smoke run."""
        for case in cases:
            if not self.filters or any(case.matches(text) for text in self.filters):
                yield case.shrunk() if self.smoke else case

    def asked(self, bound):
        """Return what is asked for, which is nothing of a smoke run's tiny sizes."""
        return None if self.smoke else bound

    def megabytes_added(self, prepare, *arguments):
        """Return what ``memory.megabytes_added`` does, where sizes are worth it."""
        return None if self.smoke else megabytes_added(prepare, *arguments)


def matches(wanted, label):
    """Tell whether a filter such as ``200000,32,32 full`` names a case so labelled."""
    return _plain(wanted) in _plain(label)


def _plain(label):
    return label.replace(" ", "").replace("_", "").lower()


def grouped(number):
    """Return a whole number with its digits in groups of three."""
    return f"{number:_}".replace("_", " ")


def compare(theirs, ours, asked):
    """Return the columns that say how many times faster fastem is."""
    ratio = _ratio(theirs.minimum, ours.minimum)
    return {
        "peer min s": theirs.minimum,
        "peer median s": theirs.median,
        "fastem min s": ours.minimum,
        "fastem median s": ours.median,
        "ratio": ratio,
        "median ratio": _ratio(theirs.median, ours.median),
        "asked": asked,
        "met": None if asked is None or ratio is None else ratio >= asked,
    }


def _ratio(theirs, ours):
    """Return their time over ours, None where noise swallowed a time by difference."""
    return theirs / ours if theirs > 0 and ours > 0 else None
