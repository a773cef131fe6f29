"""The sizes that are measured and the ratios asked for."""

from dataclasses import dataclass, replace

from benchmarks.peers.plan import grouped, matches


@dataclass(frozen=True)
class Case:
    """A data set, what to fit to it, and how many times faster that should be."""

    n_rows: int
    n_features: int
    n_components: int
    covariance_type: str = "full"
    n_iter: int = 5
    asked: float | None = None

    @property
    def shape(self):
        return self.n_rows, self.n_features, self.n_components

    @property
    def size(self):
        return f"{grouped(self.n_rows)}, {self.n_features}, {self.n_components}"

    def matches(self, wanted):
        """Tell whether a filter such as ``200000,32,32 full`` names this case."""
        return matches(wanted, f"{self.size} {self.covariance_type}")

    def shrunk(self):
        """Return a case of seconds rather than minutes."""
        return replace(
            self,
            n_rows=4_000,
            n_features=max(2, self.n_features // 4),
            n_components=max(2, self.n_components // 4),
            n_iter=3,
        )


MIXTURES = (
    Case(1_000_000, 2, 8, "full", n_iter=10, asked=60),
    Case(1_000_000, 8, 16, "full", n_iter=6, asked=50),
    Case(200_000, 32, 32, "full", n_iter=5, asked=28),
    Case(50_000, 128, 32, "full", n_iter=4, asked=11),
    Case(1_000_000, 8, 16, "diag", n_iter=8, asked=20),
    Case(200_000, 64, 64, "diag", n_iter=6, asked=15),
    Case(200_000, 64, 64, "spherical", n_iter=6, asked=12),
    Case(200_000, 32, 32, "tied", n_iter=5, asked=60),
)
WHOLE_FITS = (Case(1_000_000, 8, 16, "full", asked=20),)
KMEANS = (
    Case(1_000_000, 2, 8, n_iter=50, asked=2),
    Case(1_000_000, 8, 16, n_iter=50, asked=2),
    Case(50_000, 128, 32, n_iter=50, asked=1),
)
DENSE = (
    Case(200_000, 32, 32, "full", n_iter=6),
    Case(50_000, 128, 32, "full", n_iter=4),
)
SCALING = (Case(200_000, 32, 32, "full", n_iter=5),)
# 256 MB of float64 each.
MEMORY = (
    Case(4 * 2**20, 8, 16),
    Case(2**20, 32, 16),
)
