"""Benchmarks that asv follows over commits.

asv imports this package before any benchmark module and so before fastem. It gives each
commit in each environment one folder of kernels, for all of its benchmarks: no commit
runs what another one compiled, and none compiles twice.

In an environment that is not asv's own (``-E existing``) there is one fastem, and its
kernels stay where it keeps them: an edited source compiles anew by itself, since the
digest of all sources of kernels is part of what they are found by.
"""

import importlib.util
import os
import sys
from pathlib import Path


def _keep_kernels_with(commit):
    os.environ["NUMBA_CACHE_DIR"] = str(Path(sys.prefix, "kernels", commit))
    # Numba discards kernels that are older than their source, and asv installs a commit
    # anew in each round: so that its files have the same time each time, of no other
    # commit's.
    time = int(commit[:7], 16)
    package = Path(importlib.util.find_spec("fastem").origin).parent
    for source in package.rglob("*.py"):
        if source.stat().st_mtime != time:
            os.utime(source, (time, time))


if "ASV_COMMIT" in os.environ:
    _keep_kernels_with(os.environ["ASV_COMMIT"])
