"""Compiled kernels: kept on disk, found again, never stale, and never in the way."""

import functools
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import fastem
from fastem import compile as fastem_compile

PACKAGE = Path(fastem.__file__).parent

# Counts what Numba compiles, as opposed to loads; starts before fastem is imported.
PRELUDE = """
import json, warnings
import numpy as np
from numba.core import event

class Compiled(event.Listener):
    names = []
    def on_start(self, event):
        self.names.append(event.data["dispatcher"].py_func.__qualname__)
    def on_end(self, event):
        pass

event.register("numba:compile", Compiled())
warnings.simplefilter("ignore")

X = np.random.default_rng(0).normal(size=(600, 2))

def start(n_components=2):
    return {
        "n_components": n_components,
        "weights_init": np.full(n_components, 1 / n_components),
        "means_init": X[:n_components],
        "precisions_init": np.eye(2),
        "covariance_type": "tied",  # compiles soonest
        "max_iter": 3,
    }
"""

FIT = """
from fastem import GaussianMixture
model = GaussianMixture(**start()).fit(X)
print(json.dumps({"bound": model.lower_bound_, "compiled": Compiled.names}))
"""

# One kernel, of those that compile soonest.
SCORE = """
from fastem.families.gaussian_tied import TIED
from fastem.models import mixture
components = TIED.from_variances(X[:2], np.ones(2))
params = mixture.MixtureParams(np.array([0.3, 0.7]), components)
score = mixture.score(TIED, params, X, np.empty(0))
print(json.dumps({"score": score.log_likelihood, "compiled": Compiled.names}))
"""


def run(script, site=PACKAGE.parent, **environment):
    """Run a script in a process of its own, with fastem from `site`; its last line."""
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "PYTHONPATH": str(site), **environment},
        cwd=site,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def copied_package(folder, *left_out):
    """A folder with a copy of the package, free to be edited.

    With it come the kernels that lie beside its sources, unless left out.
    """
    site = folder / "site"
    # What other processes are writing has such names until it is complete.
    ignore = shutil.ignore_patterns("*.tmp.*", "*.pyc.*", *left_out)
    shutil.copytree(PACKAGE, site / "fastem", ignore=ignore)
    return site


@pytest.fixture
def site(tmp_path):
    return copied_package(tmp_path, "__pycache__")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A copy of the package that has run once: a function to run it again, what the
    first run said, and its cache."""
    folder = tmp_path_factory.mktemp("warm")
    site = copied_package(folder, "__pycache__")
    again = functools.partial(run, site=site, NUMBA_CACHE_DIR=str(folder / "cache"))
    return again, again(FIT), folder / "cache"


def contents(folder):
    """Every file below a folder, and when it was last written."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_second_process_compiles_nothing(warm):
    again, first, cache = warm
    assert first["compiled"], "the listener hears compilations"
    written = contents(cache)
    assert any(path.suffix == ".nbi" for path in written)
    assert again(FIT) == {"bound": first["bound"], "compiled": []}
    assert contents(cache) == written


def test_one_kernel_serves_contiguous_rows_and_one_all_others(warm):
    """No array that is read-only, short, or laid out oddly compiles a twin."""
    again, _, _ = warm
    script = """
from fastem import GaussianMixture

frozen = X.copy()
frozen.flags.writeable = False
weights = np.ones(len(X))

def compiled_for(*arrays):
    del Compiled.names[:]
    for data in arrays:
        for w in (None, weights[: len(data)], weights[::-1][: len(data)]):
            GaussianMixture(**start()).fit(data, sample_weight=w)
    return list(Compiled.names)

contiguous = compiled_for(frozen, X[:30], X[100:])
compiled_for(np.asfortranarray(X))
others = compiled_for(X[::2], X[::-1, ::-1], frozen[:, ::-1], np.asfortranarray(frozen))
GaussianMixture(**start(5)).fit(X)
print(json.dumps([contiguous, others, Compiled.names]))
"""
    assert again(script) == [[], [], []]


# Edits that change a result, one to each room whose sources kernels are made of.
EDITS = [
    ("kernels/responsibilities.py", "largest[b] + log(total[b])", "largest[b]"),
    (
        "families/gaussian_tied.py",
        "        tile_params.shift,\n",
        "tile_params.ones,\n",
    ),
    (
        "models/mixture.py",
        "lane_values[b] + tile_params.log_offset[0]",
        "lane_values[b]",
    ),
]


def test_an_edited_source_is_compiled_anew(tmp_path):
    site = copied_package(tmp_path)
    scores = [run(SCORE, site)["score"]]
    for name, old, new in EDITS:
        path = site / "fastem" / name
        text = path.read_text()
        assert old in text, f"{name} no longer has what this test edits"
        path.write_text(text.replace(old, new))
        after = run(SCORE, site)
        assert after["compiled"]
        assert after["score"] not in scores
        scores.append(after["score"])
    assert run(SCORE, site) == {"score": scores[-1], "compiled": []}

    # What was compiled for a type that is gone is in nobody's way.
    for path in (site / "fastem/families").glob("*.py"):
        text = path.read_text()
        path.write_text(text.replace("TiedTileParams", "RenamedTileParams"))
    after = run(SCORE, site)
    assert after["compiled"]
    assert after["score"] == scores[-1]


# A decorator that compiles, or numba's own called outright.
COMPILING = re.compile(
    r"@(tile_|callee|allocating_|parallel_kernel|serial_kernel|overload|intrinsic"
    r"|lowers|register_)|\bnjit\("
)
COMPILED_SOURCES = sorted(
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob("*.py")
    if COMPILING.search(path.read_text())
)


@pytest.mark.parametrize("name", COMPILED_SOURCES)
def test_every_source_of_kernels_is_in_the_digest(site, monkeypatch, name):
    digest = fastem_compile.source_digest.__wrapped__
    monkeypatch.setattr(fastem_compile, "__file__", str(site / "fastem/compile.py"))
    before = digest()
    assert before == digest()
    path = site / "fastem" / name
    path.write_text(path.read_text() + "\n# edited\n")
    assert digest() != before


def test_a_new_file_changes_the_digest(site, monkeypatch):
    digest = fastem_compile.source_digest.__wrapped__
    monkeypatch.setattr(fastem_compile, "__file__", str(site / "fastem/compile.py"))
    before = digest()
    (site / "fastem/kernels/new.py").write_text("")
    assert digest() != before


def test_no_place_for_a_cache_costs_one_warning(site, tmp_path):
    """A folder below a file can be made by no one, not even by root."""
    for folder in [site / "fastem", *(site / "fastem").glob("*/")]:
        (folder / "__pycache__").touch()
    script = """
from fastem import GaussianMixture
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = GaussianMixture(**start()).fit(X)
    model.predict(X)
print(json.dumps({
    "bound": model.lower_bound_,
    "categories": [w.category.__name__ for w in caught],
    "text": [str(w.message) for w in caught],
}))
"""
    nowhere = str(tmp_path / "a file")
    Path(nowhere).touch()
    result = run(
        script,
        site,
        NUMBA_CACHE_DIR=nowhere + "/cache",
        HOME=nowhere,
        XDG_CACHE_HOME=nowhere,
        LOCALAPPDATA=nowhere,
    )
    assert result["categories"].count("CacheWarning") == 1
    assert "NUMBA_CACHE_DIR" in "".join(result["text"])
    assert result["bound"] == run(FIT)["bound"]


def test_nothing_compiles_at_import(site, tmp_path):
    script = """
import fastem
import fastem.estimators, fastem.models, fastem.families, fastem.kernels
fastem.GaussianMixture(3), fastem.KMeans(3)
print(json.dumps(Compiled.names))
"""
    cache = tmp_path / "cache"
    assert run(script, site, NUMBA_CACHE_DIR=str(cache)) == []
    assert not cache.exists() or not contents(cache)
    assert not list(site.rglob("*.nb[ic]"))


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was(enabled):
    """Also where a function cannot be compiled."""
    kernel = fastem_compile.serial_kernel(numba.types.int64)
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(numba.TypingError):
            kernel(lambda x: x.nothing)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_after_warmup_nothing_compiles():
    """In the suite's own cache, so that what is compiled here serves other tests."""
    script = """
import fastem
from fastem import GaussianMixture, KMeans
fastem.warmup()
warm = list(Compiled.names)
for dtype in (np.float64, np.float32):
    data = X.astype(dtype)
    weights = np.ones(len(X), dtype)
    for kind in ("full", "tied", "diag", "spherical"):
        model = GaussianMixture(3, covariance_type=kind, random_state=0)
        model.fit(data, sample_weight=weights)
        model.predict(data), model.predict_proba(data), model.sample(3)
        model.score(data), model.bic(data), model.score_samples(data)
    for init in ("kmeans", "k-means++", "random", "random_from_data"):
        GaussianMixture(3, init_params=init, random_state=0).fit(data)
    for init in ("k-means++", "random", data[:3]):
        clusters = KMeans(3, init=init, n_init=1, random_state=0)
        clusters.fit(data, sample_weight=weights)
        clusters.predict(data), clusters.transform(data), clusters.score(data)
print(json.dumps(Compiled.names[len(warm):]))
"""
    assert run(script) == []
