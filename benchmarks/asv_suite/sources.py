"""Speed, memory and result of a mixture whose rows are read from files."""

import numpy as np

from .common import THREADS, Timed, choose, since, use_threads
from .data import blobs, mixture
from .mixture import load

N_ROWS = choose(100_000, 4_000_000, quick=1)
N_FEATURES, N_COMPONENTS = 8, 16
FORMATS = ("npy", "parquet")


def setup_cache():
    """Write rows and compile, once a commit."""
    for n_rows in N_ROWS:
        X, means = blobs((n_rows, N_FEATURES, N_COMPONENTS))
        np.save(f"{n_rows}.npy", X)
        np.save("means.npy", means)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            continue
        table = pyarrow.table({f"x{j}": column for j, column in enumerate(X.T)})
        pyarrow.parquet.write_table(table, f"{n_rows}.parquet", row_group_size=1 << 18)
    load("full")


setup_cache.timeout = 1_200


class FromFiles(Timed):
    params = (FORMATS, N_ROWS, THREADS)
    param_names = ("format", "N", "threads")

    def setup(self, format, n_rows, threads):
        use_threads(threads)
        load("full")
        self.path, self.model = given(format, n_rows)

    def time_one_iteration(self, format, n_rows, threads):
        self.model.fit(self.path)


class Fitted:
    params = (FORMATS, N_ROWS)
    param_names = ("format", "N")
    timeout = 300

    def setup(self, format, n_rows):
        self.path, self.model = given(format, n_rows)

    def peakmem_one_iteration(self, format, n_rows):
        self.model.fit(self.path)

    def track_log_likelihood(self, format, n_rows):
        return float(self.model.fit(self.path).lower_bound_)

    track_log_likelihood.unit = "nats per row"


def given(format, n_rows):
    """Return a file and a mixture that reads it once."""
    since("source")
    if format == "parquet":
        try:
            import pyarrow  # noqa: F401 - only asked for
        except ImportError as error:
            raise NotImplementedError("pyarrow is not installed") from error
    return f"{n_rows}.{format}", mixture(np.load("means.npy"), "full", max_iter=1)
