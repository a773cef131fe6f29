"""Benchmarks that asv follows over commits.

Importing this package, which asv does before any benchmark module and so before
fastem, gives each version of fastem in each environment a kernel cache of its own:
no commit runs what another one compiled.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path


def _kernel_cache():
    package = Path(importlib.util.find_spec("fastem").origin).parent
    digest = hashlib.sha256(sys.prefix.encode())
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return Path(tempfile.gettempdir()) / "fastem-asv" / digest.hexdigest()[:16]


os.environ["NUMBA_CACHE_DIR"] = str(_kernel_cache())
