"""The sizes that are measured and the ratios asked for."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.data import chain
from benchmarks.peers.plan import grouped, matches


class Asked(NamedTuple):
    """How many times faster than hmmlearn each task should be."""

    scaling: float | None = None  # an EM step, against its implementation 'scaling'
    log: float | None = None  # an EM step, against its default
    viterbi: float | None = None
    posterior: float | None = None


NOTHING = Asked()


@dataclass(frozen=True)
class Case:
    """A chain of ``n_states``, the rows drawn from it, and what is asked."""

    n_states: int
    n_features: int
    n_rows: int
    n_iter: int = 5
    asked: Asked = NOTHING
    stay: float = 0.9
    distance: float = 3.0
    n_sequences: int = 1

    @property
    def size(self):
        return f"{self.n_states}, {self.n_features}, {grouped(self.n_rows)}"

    def matches(self, wanted):
        """Tell whether a filter such as ``4,2,1000000`` names this case."""
        return matches(wanted, self.size)

    def shrunk(self):
        """Return a case of seconds rather than minutes."""
        return replace(
            self,
            n_states=min(self.n_states, 8),
            n_rows=4_000,
            n_iter=3,
            n_sequences=min(self.n_sequences, 80),
        )

    def data(self):
        """Return rows and a start."""
        return chain(
            self.n_rows, self.n_features, self.n_states, self.stay, self.distance
        )


CHAINS = (
    Case(2, 1, 1_000_000, asked=Asked(10, 45, 6, 10)),
    Case(4, 2, 1_000_000, asked=Asked(12, 40, 10, 10)),
    Case(16, 4, 200_000, asked=Asked(18, 70, 10, 10)),
    Case(64, 8, 50_000, asked=Asked(25, 110, 12, 15)),
)
# States that last and overlap: what is long past still matters.
STICKY = (
    Case(2, 1, 1_000_000, stay=0.9999, distance=0.5),
    Case(16, 4, 200_000, stay=0.999, distance=0.2),
)
SEQUENCES = (Case(4, 2, 5_000_000, n_sequences=100_000),)
MEMORY = (Case(4, 1, 10_000_000),)
LONG_MEMORY = (Case(4, 1, 100_000_000),)
