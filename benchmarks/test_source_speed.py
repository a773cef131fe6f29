"""Sources: ``pytest benchmarks --benchmark-only``."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.data import blobs
from fastem import GaussianMixture
from fastem.data.source import open_source

SHAPE = (1_000_000, 8, 16)
BLOCK_ROWS = 1 << 18
KINDS = ("npy", "parquet", "table", "list")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def rows():
    return blobs(*SHAPE)


@pytest.fixture(scope="module")
def kept(rows, tmp_path_factory):
    """The same rows in every kind of source."""
    X, _ = rows
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "rows.npy", X)
    table = pyarrow.table({f"x{j}": column for j, column in enumerate(X.T)})
    pyarrow.parquet.write_table(
        table, folder / "rows.parquet", row_group_size=BLOCK_ROWS
    )
    blocks = np.split(X, range(BLOCK_ROWS, len(X), BLOCK_ROWS))
    return {
        "npy": folder / "rows.npy",
        "parquet": folder / "rows.parquet",
        "table": table,
        "list": blocks,
    }


@pytest.fixture(params=KINDS)
def data(request, kept):
    return kept[request.param]


@pytest.mark.benchmark(group="sources: reading alone")
def test_reading(benchmark, data):
    source = open_source(data)

    def read():
        return sum(len(block.X) for block in source.blocks())

    assert benchmark(read) == SHAPE[0]


@pytest.mark.benchmark(group="sources: one EM iteration, with fit around it")
def test_one_iteration(benchmark, data, rows):
    _, start = rows
    mixture = GaussianMixture(
        len(start.weights),
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
        max_iter=1,
    )
    mixture.fit(data)  # compiles
    benchmark(mixture.fit, data)
    assert mixture.n_iter_ == 1
