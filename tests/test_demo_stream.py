"""The demo of a fit larger than memory, with few rows: what it writes, goes on from,
draws and says."""

import matplotlib.image
import numpy as np
import pytest
from rich.progress import Progress

import fastem.demo_stream as demo
from fastem.cli import main

from .common import assert_same_bits, assert_same_fit
from .test_cli import run

SMALL = ("--rows", 3000, "--components", 3)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "segments.png"


@pytest.fixture
def models(monkeypatch):
    """The models that would be drawn."""
    models = []
    monkeypatch.setattr(demo, "draw_photographs", lambda _, model: models.append(model))
    return models


def write(path, n_rows=3000, seed=0):
    demo.write_rows(path, n_rows, seed, Progress(disable=True))
    return np.load(path)


def test_draws_and_reports(output, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(demo.tempfile, "tempdir", str(tmp_path / "temporary"))
    result = run("demo", "stream", "--output", output, *SMALL)
    assert result.exit_code == 0, result.output
    for said in ("3,000 rows", "M rows/s", "rows on disk", "fit added", str(output)):
        assert said in result.output
    height, width, _ = matplotlib.image.imread(output).shape
    assert height > 100 and width > 100
    assert not list((tmp_path / "temporary").iterdir())


def test_what_a_folder_keeps(output, tmp_path):
    folder = tmp_path / "new" / "folder"
    command = ("demo", "stream", "--output", output, *SMALL, "--folder", folder)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "rows written" in result.output
    (path,) = folder.iterdir()
    assert np.load(path).shape == (3000, demo.N_FEATURES)
    written = path.stat().st_mtime_ns
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "rows written" not in result.output
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [written]


@pytest.mark.parametrize("last", [1, 4, demo.ITERATIONS])
def test_an_interrupted_fit_goes_on(output, tmp_path, models, monkeypatch, last):
    def command(folder):
        return run(
            *("demo", "stream", "--output", output, *SMALL),
            *("--folder", tmp_path / folder),
        )

    assert command("undisturbed").exit_code == 0
    iteration, iterations = demo.PassProgress.iteration, []

    def interrupt(self, n_iter, *about):
        iterations.append(n_iter)
        if n_iter == last and iterations.count(last) == 1:
            raise KeyboardInterrupt
        return iteration(self, n_iter, *about)

    monkeypatch.setattr(demo.PassProgress, "iteration", interrupt)
    result = command("interrupted")
    assert result.exit_code == 130
    assert result.output.strip().endswith("Interrupted.")
    result = command("interrupted")
    assert result.exit_code == 0, result.output
    assert_same_fit(*models)
    assert iterations.count(1) == 1


def test_rows_are_those_of_the_seed(tmp_path):
    n_rows = demo.VIEW**2 + 500
    X = write(tmp_path / "x.npy", n_rows)
    assert X.shape == (n_rows, demo.N_FEATURES) and X.dtype == np.float32
    assert_same_bits(write(tmp_path / "y.npy", n_rows), X)
    assert (write(tmp_path / "z.npy", n_rows, seed=1) != X).any()
    assert_same_bits(write(tmp_path / "short.npy", 500), X[:500])
    assert X[:, :6].min() >= 0 and X[:, :6].max() <= 255
    assert (X[:, 6:] >= 0).all() and X[:, 6:].std(axis=0).min() > 0.1


def test_features_of_a_pixel():
    image = np.random.default_rng(0).uniform(0, 255, (20, 30, 3)).astype(np.float32)
    rows = demo.pixel_features(image).reshape(20, 30, -1)
    y, x = 8, 17
    around, wide = (image[y - r : y + r + 1, x - r : x + r + 1] for r in (1, 4))
    contrasts = [part.mean(axis=2).std() for part in (around, wide)]
    want = [*image[y, x], *around.mean(axis=(0, 1)), *contrasts]
    np.testing.assert_allclose(rows[y, x], want, rtol=1e-5)


def test_views_stay_within_the_photograph():
    rng = np.random.default_rng(0)
    for _ in range(50):
        view = demo.draw_view(np.ones((427, 640, 3), np.float32), rng)
        np.testing.assert_allclose(view, 1, rtol=1e-6)


def test_views_are_turned_squares():
    """A photograph whose colours are its coordinates shows where pixels come from."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:427.0, :640.0].astype(np.float32)
    image = np.dstack([y, x, x])
    for _ in range(5):
        places = demo.draw_view(image, rng)[:, :, :2].astype(float)
        down, across = places[-1, 0] - places[0, 0], places[0, -1] - places[0, 0]
        assert np.dot(down, across) == pytest.approx(0, abs=1)
        steps = np.hypot(*down) / (demo.VIEW - 1)
        assert demo.SCALES[0] <= steps <= demo.SCALES[1]
        assert np.hypot(*across) == pytest.approx(np.hypot(*down), rel=1e-4)
        np.testing.assert_allclose(np.diff(places, n=2, axis=0), 0, atol=1e-3)


def test_memory_that_arrays_add():
    if demo.anonymous_memory() is None:
        pytest.skip("the system does not tell")
    with demo.peak_memory() as memory:
        rows = np.ones(50 << 20, np.uint8)
        assert rows.all() and not memory
    assert 45 << 20 < memory[0] < 200 << 20


def test_memory_that_the_system_does_not_tell(output, models, monkeypatch):
    monkeypatch.setattr(demo, "anonymous_memory", lambda: None)
    result = run("demo", "stream", "--output", output, *SMALL)
    assert result.exit_code == 0, result.output
    assert "not known" in result.output


def test_a_full_disk_ends_with_one_line(output, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "pixels.npy")

    monkeypatch.setattr(demo, "write_rows", full)
    result = run("demo", "stream", "--output", output, *SMALL)
    assert result.exit_code == 1
    assert "No space left on device: 'pixels.npy'" in result.output
    assert "Traceback" not in result.output
    assert not output.exists()


def test_refuses_an_unwritable_path_before_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "fit_larger_than_memory", pytest.fail)
    result = run("demo", "stream", "--output", tmp_path / "missing" / "x.png")
    assert result.exit_code == 2
    assert "cannot write" in result.output


def test_is_a_command():
    assert "stream" in main.commands["demo"].commands
