"""The command line: what it prints, writes and refuses."""

import subprocess
import sys

import matplotlib.image
import numba
import pytest
from click.testing import CliRunner

import fastem
import fastem.cli
import fastem.demo
import fastem.demo_chain
from fastem.cli import main
from fastem.families.family import WIDE_MIN_FEATURES
from fastem.warmup import warmup_steps

SMALL = ("--downscale", "8", "--components", "3")
SHORT = ("--states", "3", "--starts", "2")

# What runs and draws each demo.
DEMOS = {
    ("demo",): "fastem.demo.segment_photograph",
    ("demo", "chain"): "fastem.demo_chain.decode_record",
}
each_demo = pytest.mark.parametrize("demo", DEMOS, ids=" ".join)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "segments.png"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_module_runs_as_a_program():
    finished = subprocess.run(
        [sys.executable, "-m", "fastem", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert "demo" in finished.stdout
    assert "warmup" in finished.stdout


def test_version():
    assert fastem.__version__ in run("--version").output


def test_demo_draws_and_reports(output):
    result = run("demo", "--output", output, *SMALL)
    assert result.exit_code == 0, result.output
    assert "fastem" in result.output
    assert "scikit-learn" in result.output
    assert str(output) in result.output
    height, width, _ = matplotlib.image.imread(output).shape
    assert width > height > 100


def test_demo_without_peer(output):
    result = run("demo", "--output", output, *SMALL, "--no-peer")
    assert result.exit_code == 0, result.output
    assert "scikit-learn" not in result.output
    assert output.exists()


def test_both_fits_of_the_demo_reach_the_same_likelihood():
    image = fastem.demo.load_sample_image(fastem.demo.PHOTOGRAPH)[::8, ::8]
    X = fastem.demo.pixel_features(image)
    start = fastem.demo.seed_mixture(X, 3, seed=0)
    console = fastem.demo.Console(quiet=True)
    ours = fastem.demo.fit_fastem(X, start, console)
    theirs = fastem.demo.fit_scikit_learn(X, start, console)
    assert ours.model.n_iter_ == theirs.model.n_iter_ == fastem.demo.ITERATIONS
    assert ours.model.lower_bound_ == pytest.approx(theirs.model.lower_bound_, rel=1e-9)


def test_demo_of_chains_draws_and_reports(output):
    result = run("demo", "chain", "--output", output, *SHORT)
    assert result.exit_code == 0, result.output
    assert "12,000 steps" in result.output
    assert "hmmlearn" in result.output
    assert str(output) in result.output
    height, width, _ = matplotlib.image.imread(output).shape
    assert width > height > 100


@pytest.mark.parametrize("peer", ["--no-peer", "--peer"])
def test_demo_of_chains_without_peer(output, monkeypatch, peer):
    monkeypatch.setitem(sys.modules, "hmmlearn", None)
    result = run("demo", "chain", "--output", output, *SHORT, peer)
    assert result.exit_code == 0, result.output
    assert ("hmmlearn" in result.output) == (peer == "--peer")
    assert "difference" not in result.output
    assert output.exists()


def test_both_fits_of_the_demo_of_chains_reach_the_same_likelihood():
    X = fastem.demo_chain.record_features()
    console = fastem.demo.Console(quiet=True)
    ours = fastem.demo_chain.fit_fastem(X, 3, 2, 0, console)
    theirs = fastem.demo_chain.fit_hmmlearn(X, 3, 2, 0, console)
    assert ours.n_iter == theirs.n_iter
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, rel=1e-9)


@each_demo
@pytest.mark.parametrize("name", ["missing/segments.png", "."])
def test_demo_refuses_an_unwritable_path_before_it_works(
    tmp_path, monkeypatch, name, demo
):
    monkeypatch.setattr(DEMOS[demo], pytest.fail)
    result = run(*demo, "--output", tmp_path / name)
    assert result.exit_code == 2
    assert "cannot write" in result.output


@each_demo
def test_checking_the_path_leaves_files_as_they_were(output, monkeypatch, demo):
    monkeypatch.setattr(DEMOS[demo], lambda *a, **k: None)
    assert run(*demo, "--output", output).exit_code == 0
    assert not output.exists()
    output.write_text("precious")
    assert run(*demo, "--output", output).exit_code == 0
    assert output.read_text() == "precious"


@each_demo
@pytest.mark.parametrize("missing", ["matplotlib", "PIL", "rich"])
def test_demo_names_the_extra_that_is_missing(output, monkeypatch, missing, demo):
    monkeypatch.setitem(sys.modules, missing, None)
    result = run(*demo, "--output", output)
    assert result.exit_code == 1
    assert missing in result.output
    assert 'pip install "fastem[demo]"' in result.output


@each_demo
def test_interrupt_ends_with_one_line(output, monkeypatch, demo):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(DEMOS[demo], interrupt)
    result = run(*demo, "--output", output)
    assert result.exit_code == 130
    assert result.output.strip() == "Interrupted."


@pytest.fixture
def asked(monkeypatch):
    """What the command would compile, as (covariance types, dtypes, models, D)."""
    asked = []

    def steps(*items):
        asked.append(items)
        return [("a kernel", lambda: None)]

    monkeypatch.setattr(fastem.cli.warmup, "warmup_steps", steps)
    return asked


def test_warmup_compiles():
    result = run("warmup", "--covariance-type", "diag", "--dtype", "float64")
    assert result.exit_code == 0, result.output
    assert "diag e_step float64" in result.output
    assert "full" not in result.output
    assert "float32" not in result.output


def test_warmup_takes_several_of_each(asked):
    result = run(
        *("warmup", "--covariance-type", "diag", "--covariance-type", "full"),
        *("--dtype", "float32", "--model", "GMMHMM", "--model", "PoissonHMM"),
        *("--features", "8"),
    )
    assert result.exit_code == 0, result.output
    assert asked == [(("diag", "full"), ("float32",), ("GMMHMM", "PoissonHMM"), 8)]
    assert "a kernel" in result.output


def test_warmup_compiles_everything_of_mixtures_by_default(asked):
    assert run("warmup").exit_code == 0
    assert asked == [
        (
            ("full", "tied", "diag", "spherical"),
            ("float64", "float32"),
            ("GaussianMixture",),
            None,
        ),
    ]


def test_warmup_says_where_kernels_are_kept(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert str(tmp_path) in run("warmup").output


def test_unknown_covariance_type_is_refused():
    result = run("warmup", "--covariance-type", "banded")
    assert result.exit_code == 2
    assert "'full', 'tied', 'diag', 'spherical'" in result.output


def test_warmup_steps_of_a_number_of_features():
    narrow, wide, both = (
        dict(warmup_steps(["full", "tied"], ["float64"], n_features=n))
        for n in (WIDE_MIN_FEATURES - 1, WIDE_MIN_FEATURES, None)
    )
    assert narrow.keys() | wide.keys() == both.keys()
    assert both.keys() - narrow.keys() == {
        "full e_step float64 wide",
        "full posterior float64 wide",
    }
    assert both.keys() - wide.keys() == {
        "full e_step float64",
        "full posterior float64",
    }
