"""The commands on models: what they fit, answer, print and refuse, and how they end."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner

import fastem
from fastem.cli import main, progress
from fastem.data import blocks
from fastem.em.monitors import ProgressMonitor
from fastem.exceptions import ConvergenceWarning

from .common import assert_same_bits

N, NAMES = 600, ["a", "b", "c"]
LENGTHS = [200, 300, 100]
QUICK = ("-k", 3, "--max-iter", 200)
CHAINS = {
    "gaussian-hmm": fastem.GaussianHMM,
    "gmm-hmm": fastem.GMMHMM,
    "poisson-hmm": fastem.PoissonHMM,
    "multinomial-hmm": fastem.MultinomialHMM,
    "categorical-hmm": fastem.CategoricalHMM,
}
COMMANDS = "fit", "predict", "score", "decode", "sample", "info"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments):
    """What a command prints to standard output."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def report(*arguments):
    """The one JSON object that a command prints."""
    return json.loads(succeed(*arguments, "--json"))


def refuse(exit_code, *arguments):
    """What a command that fails says on standard error, and nowhere else."""
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def blobs(seed=0):
    rng = np.random.default_rng(seed)
    z = np.repeat(rng.integers(0, 3, N // 20), 20)
    return rng.normal(size=(N, 3)) + 6 * z[:, None] * [1, -1, 0.5]


def counts():
    return np.round(np.abs(blobs())).astype(np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of rows in files."""
    folder = tmp_path_factory.mktemp("data")
    X = blobs()
    np.save(folder / "rows.npy", X)
    np.save(folder / "counts.npy", counts())
    np.save(folder / "symbols.npy", counts()[:, :1] % 4)
    np.save(folder / "weights.npy", np.arange(N) % 4)
    trips = np.repeat(["x", "y", "z"], LENGTHS)
    columns = {"trip": trips, "c": X[:, 2], "b": X[:, 1], "a": X[:, 0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def mixture(data):
    """A mixture fitted to the columns a and b of the table."""
    path = data / "mixture.fastem"
    table = ("fit", data / "rows.parquet", "--columns", "a,b")
    succeed(*table, *QUICK, "--out", path)
    return path


@pytest.fixture(scope="module")
def chain(data):
    """A hidden Markov model of the table's sequences."""
    path = data / "chain.fastem"
    table = ("fit", data / "rows.parquet", "--columns", "a,b,c")
    options = ("--model", "gaussian-hmm", "--sequence-column", "trip")
    succeed(*table, *options, *QUICK, "--out", path)
    return path


@pytest.fixture(scope="module")
def clusters(data):
    path = data / "clusters.fastem"
    table = ("fit", data / "rows.parquet", "--columns", "a,b")
    succeed(*table, "--model", "kmeans", "-k", 3, "--out", path)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.npy"


def assert_same_model(path, expected):
    """Compare what was fitted, to the last bit."""
    model = fastem.load(path)
    assert type(model) is type(expected)
    assert model.get_params() == expected.get_params()
    for name, value in vars(expected).items():
        if not name.endswith("_") or not isinstance(value, np.ndarray):
            continue
        if value.dtype == object:
            assert list(getattr(model, name)) == list(value)
        else:
            assert_same_bits(getattr(model, name), value)


# ------------------------------------------------------------------------------- fit


def test_fit_is_that_of_the_library(data, out):
    found = report("fit", data / "rows.npy", *QUICK, "--out", out)
    model = fastem.GaussianMixture(3, max_iter=200, random_state=0)
    model.fit(str(data / "rows.npy"))
    assert_same_model(out, model)
    assert found["model"] == "GaussianMixture"
    assert (found["rows"], found["features"]) == (N, 3)
    assert found["iterations"] == model.n_iter_
    assert found["converged"] is True
    assert found["log_likelihood_per_row"] == model.lower_bound_
    # That of the last iteration is that of the step before it.
    before = fastem.GaussianMixture(3, max_iter=model.n_iter_ - 1, tol=0)
    before.set_params(random_state=0)
    with pytest.warns(ConvergenceWarning):
        before.fit(blobs())
    assert found["bic"] == pytest.approx(before.bic(blobs()), rel=1e-9)
    assert found["saved_to"] == str(out)
    assert found["resumed"] is False


def test_options_reach_the_model(data, out):
    options = {
        "--covariance": ("covariance_type", "diag"),
        "--tol": ("tol", 0.5),
        "--max-iter": ("max_iter", 7),
        "--n-init": ("n_init", 2),
        "--reg-covar": ("reg_covar", 0.25),
        "--init": ("init_params", "random_from_data"),
        "--seed": ("random_state", 11),
        "--algorithm": ("algorithm", "minibatch"),
    }
    given = [item for flag, (_, value) in options.items() for item in (flag, value)]
    succeed("fit", data / "rows.npy", "-k", 2, *given, "--out", out)
    found = fastem.load(out).get_params()
    assert found["n_components"] == 2
    assert {name: found[name] for name, _ in options.values()} == dict(options.values())


def test_options_reach_a_chain(data, out):
    options = ("--tol", 0.5, "--max-iter", 3, "--n-init", 2, "--seed", 11)
    gaussians = ("--covariance", "tied", "--reg-covar", 0.25, "--n-mix", 2)
    model = ("--model", "gmm-hmm", "-k", 2)
    succeed("fit", data / "rows.npy", *model, *options, *gaussians, "--out", out)
    found = fastem.load(out)
    assert (found.n_components, found.n_mix, found.covariance_type) == (2, 2, "tied")
    assert (found.tol, found.n_iter, found.n_init) == (0.5, 3, 2)
    assert (found.min_covar, found.random_state) == (0.25, 11)


@pytest.mark.parametrize("name", CHAINS)
def test_chains(data, out, name):
    if name == "categorical-hmm":
        source = data / "symbols.npy"
    else:
        source = data / (
            "rows.npy" if name in ("gaussian-hmm", "gmm-hmm") else "counts.npy"
        )
    found = report("fit", source, "--model", name, "-k", 2, "--out", out)
    model = CHAINS[name](2, random_state=0).fit(str(source))
    assert_same_model(out, model)
    assert found["model"] == type(model).__name__
    assert found["iterations"] == model.monitor_.iter
    assert found["converged"] == (model.monitor_.status == "converged")
    total = model.monitor_.history[-1]
    assert found["log_likelihood_per_row"] == total / N


def test_names_of_classes_will_do(data, out):
    found = report("fit", data / "rows.npy", "--model", "KMeans", "-k", 3, "--out", out)
    assert found["model"] == "KMeans"


def test_kmeans(data, out):
    weights = data / "weights.npy"
    arguments = ("--model", "kmeans", "-k", 3, "--weights", weights, "--out", out)
    found = report("fit", data / "rows.npy", *arguments)
    expected = fastem.KMeans(3, random_state=0).fit(
        str(data / "rows.npy"), sample_weight=np.load(weights)
    )
    assert_same_model(out, expected)
    assert found["inertia"] == expected.inertia_
    assert found["iterations"] == expected.n_iter_


def test_kmeans_goes_on_from_a_checkpoint(data, out):
    checkpoint = out.with_name("fit.ckpt")
    arguments = ("--model", "kmeans", "-k", 3, "--checkpoint", checkpoint)
    arguments = ("fit", data / "rows.npy", *arguments, "--force", "--out", out)
    first = report(*arguments)
    content = checkpoint.read_bytes()
    again = report(*arguments, "--resume")
    assert checkpoint.read_bytes() == content
    assert (first["resumed"], again["resumed"]) == (False, True)
    assert first["inertia"] == again["inertia"]


def test_sequences_of_a_table(data, chain):
    expected = fastem.GaussianHMM(3, n_iter=200, random_state=0)
    expected.fit(
        fastem.source(data / "rows.parquet", columns=NAMES, sequence_column="trip")
    )
    assert_same_model(chain, expected)
    in_memory = fastem.GaussianHMM(3, n_iter=200, random_state=0).fit(blobs(), LENGTHS)
    np.testing.assert_allclose(expected.means_, in_memory.means_, rtol=1e-8)


def test_columns_are_read_in_the_order_given(data, out):
    table = ("fit", data / "rows.parquet", "--columns", "c, a")
    succeed(*table, *QUICK, "--out", out)
    model = fastem.load(out)
    assert list(model.feature_names_in_) == ["c", "a"]
    expected = fastem.GaussianMixture(3, max_iter=200, random_state=0)
    assert_same_bits(model.means_, expected.fit(blobs()[:, [2, 0]]).means_)


def test_weights(data, out):
    weights = data / "weights.npy"
    found = report("fit", data / "rows.npy", *QUICK, "--weights", weights, "--out", out)
    model = fastem.GaussianMixture(3, max_iter=200, random_state=0)
    model.fit(str(data / "rows.npy"), sample_weight=np.load(weights))
    assert_same_model(out, model)
    total = np.load(weights).sum()
    n_parameters = 2 + 3 * 3 + 3 * 6
    expected = -2 * model.lower_bound_ * total + n_parameters * np.log(total)
    assert found["bic"] == pytest.approx(expected)


@pytest.mark.parametrize("source", ["rows.npy", "rows.parquet"])
def test_dtype(data, out, source):
    columns = ("--columns", "a,b,c") if source == "rows.parquet" else ()
    options = ("--dtype", "float32", "--block-rows", 250, *columns, "--out", out)
    succeed("fit", data / source, *QUICK, *options)
    model = fastem.GaussianMixture(3, max_iter=200, random_state=0)
    model.fit(list(np.split(blobs().astype(np.float32), [250, 500])))
    assert_same_bits(fastem.load(out).means_, model.means_)


def test_convergence_can_be_required(data, out):
    arguments = ("fit", data / "rows.npy", "-k", 3, "--tol", 0, "--out", out)
    short = (*arguments, "--max-iter", 2, "--json")
    assert json.loads(run(*short).stdout)["converged"] is False
    result = run(*short, "--require-convergence", "--force")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["converged"] is False
    assert "did not converge in 2 iterations" in result.stderr
    assert fastem.load(out).n_iter_ == 2
    enough = (*arguments, "--tol", 0.1, "--require-convergence", "--force")
    assert run(*enough).exit_code == 0


def test_warnings_are_lines_on_standard_error(data, out):
    arguments = ("-k", 3, "--tol", 0, "--max-iter", 2, "--out", out, "--json")
    result = run("fit", data / "rows.npy", *arguments)
    json.loads(result.stdout)
    lines = [line for line in result.stderr.splitlines() if "did not converge." in line]
    assert len(lines) == 1
    assert lines[0].startswith("Warning: ")


def test_threads_are_set_and_put_back(data, out, monkeypatch):
    set_ones = []
    fit = fastem.KMeans._fit
    monkeypatch.setattr(
        fastem.KMeans,
        "_fit",
        lambda *a, **k: set_ones.append(numba.get_num_threads()) or fit(*a, **k),
    )
    before = numba.get_num_threads()
    arguments = ("--model", "kmeans", "-k", 2, "--out", out)
    succeed("fit", data / "rows.npy", *arguments, "--threads", 1)
    assert set_ones == [1]
    assert numba.get_num_threads() == before
    most = numba.config.NUMBA_NUM_THREADS
    said = refuse(2, "fit", data / "rows.npy", *arguments, "--threads", most + 1)
    assert f"{most} threads at most" in said


@pytest.mark.parametrize(
    "model, options, what",
    [
        ("kmeans", ("--covariance", "full"), "--covariance"),
        ("poisson-hmm", ("--reg-covar", "1"), "--reg-covar"),
        ("gaussian-hmm", ("--weights", "weights.npy"), "--weights"),
        ("gaussian-hmm", ("--init", "kmeans"), "--init"),
        ("kmeans", ("--algorithm", "batch"), "--algorithm"),
        ("gaussian-mixture", ("--n-mix", "2"), "--n-mix"),
        ("gaussian-mixture", ("--init", "foo"), "'init_params'"),
        ("gaussian-mixture", ("--resume",), "--resume needs --checkpoint"),
        ("gaussian-mixture", ("--columns", "a,,b"), "'a,,b'"),
        ("gaussian-mixture", ("--max-iter", "0"), "--max-iter"),
        ("banded", (), "'gaussian-mixture', 'kmeans'"),
    ],
)
def test_wrong_usage(data, out, model, options, what):
    arguments = ("--model", model, "-k", 2, *options, "--out", out)
    assert what in refuse(2, "fit", data / "rows.npy", *arguments)
    assert not out.exists()


# --------------------------------------------------------------------------- answers


def columns_ab():
    return blobs()[:, :2]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_predict(data, mixture, out, suffix):
    out = out.with_suffix(suffix)
    found = report("predict", mixture, data / "rows.parquet", "--out", out)
    expected = fastem.load(mixture).predict(
        pyarrow.table({"a": columns_ab()[:, 0], "b": columns_ab()[:, 1]})
    )
    labels = np.load(out) if suffix == ".npy" else pyarrow.parquet.read_table(out)[0]
    np.testing.assert_array_equal(labels, expected)
    assert found == {"model": "GaussianMixture", "rows": N, "saved_to": str(out)}


def test_predict_reads_the_columns_that_were_fitted(data, mixture, out):
    """The table has more of them, in another order."""
    succeed("predict", mixture, data / "rows.parquet", "--out", out)
    model = fastem.load(mixture)
    del model.feature_names_in_
    np.testing.assert_array_equal(np.load(out), model.predict(columns_ab()))
    wrong = ("--columns", "b,a", "--force", "--out", out)
    said = refuse(1, "predict", mixture, data / "rows.parquet", *wrong)
    assert "are b, a, but GaussianMixture was fitted to a, b" in said


def test_proba(data, mixture, chain, out):
    for model, names in ((mixture, ["a", "b"]), (chain, NAMES)):
        arguments = ("--proba", "--out", out, "--force")
        ids = () if model is mixture else ("--sequence-column", "trip")
        succeed("predict", model, data / "rows.parquet", *arguments, *ids)
        source = fastem.source(
            data / "rows.parquet",
            columns=names,
            sequence_column=None if model is mixture else "trip",
        )
        assert_same_bits(np.load(out), fastem.load(model).predict_proba(source))


def test_score(data, mixture, chain, clusters):
    X, columns = blobs(), data / "rows.parquet"
    found = report("score", mixture, columns)
    model = fastem.load(mixture)
    expected = model.score(fastem.source(columns, columns=["a", "b"]))
    assert found["log_likelihood_per_row"] == expected
    found = report("score", chain, columns, "--sequence-column", "trip")
    model = fastem.load(chain)
    del model.feature_names_in_
    assert found["log_likelihood"] == pytest.approx(model.score(X, LENGTHS), rel=1e-12)
    found = report("score", clusters, columns, "--block-rows", 70)
    assert found["inertia"] == pytest.approx(fastem.load(clusters).inertia_, rel=1e-9)


def test_scores_of_rows(data, mixture, out):
    arguments = ("score", mixture, data / "rows.parquet", "--per-row")
    succeed(*arguments, "--out", out)
    source = fastem.source(data / "rows.parquet", columns=["a", "b"])
    assert_same_bits(np.load(out), fastem.load(mixture).score_samples(source))
    assert "go together" in refuse(2, *arguments)
    assert "go together" in refuse(2, *arguments[:-1], "--out", out)


@pytest.mark.parametrize("algorithm", ["viterbi", "map"])
def test_decode(data, chain, out, algorithm):
    options = ("--sequence-column", "trip", "--algorithm", algorithm, "--out", out)
    found = report("decode", chain, data / "rows.parquet", *options)
    model = fastem.load(chain)
    del model.feature_names_in_
    score, states = model.decode(blobs(), LENGTHS, algorithm)
    np.testing.assert_array_equal(np.load(out), states)
    assert found["algorithm"] == algorithm
    if algorithm == "viterbi":
        assert found["log_probability"] == pytest.approx(score, rel=1e-12)


def test_predict_of_a_chain_is_its_decoding(data, chain, out):
    options = ("--sequence-column", "trip", "--out", out)
    succeed("predict", chain, data / "rows.parquet", *options)
    model = fastem.load(chain)
    del model.feature_names_in_
    np.testing.assert_array_equal(np.load(out), model.predict(blobs(), LENGTHS))


def test_answers_of_kmeans_go_by_names_too(data, clusters, out):
    succeed("predict", clusters, data / "rows.parquet", "--out", out)
    model = fastem.load(clusters)
    del model.feature_names_in_
    np.testing.assert_array_equal(np.load(out), model.predict(blobs()[:, :2]))


def test_sample(mixture, chain, out):
    for model in (mixture, chain):
        arguments = ("sample", model, "-n", 50, "--out", out, "--force")
        succeed(*arguments, "--seed", 5)
        first = np.load(out)
        expected, _ = fastem.load(model).set_params(random_state=5).sample(50)
        assert_same_bits(first, expected)
        succeed(*arguments, "--seed", 6)
        assert not np.array_equal(np.load(out), first)
    table = out.with_suffix(".parquet")
    succeed("sample", mixture, "-n", 7, "--out", table)
    assert pyarrow.parquet.read_table(table).column_names == ["a", "b"]


@pytest.mark.parametrize(
    "command, model, options, what",
    [
        ("predict", "clusters", ("--proba",), "k-means"),
        ("score", "chain", ("--per-row",), "mixtures only"),
        ("decode", "mixture", (), "is a GaussianMixture"),
    ],
)
def test_what_a_model_cannot_answer(data, request, out, command, model, options, what):
    path = request.getfixturevalue(model)
    arguments = (path, data / "rows.parquet", *options, "--out", out)
    assert what in refuse(2, command, *arguments)
    assert "cannot be drawn" in refuse(
        2, "sample", request.getfixturevalue("clusters"), "--out", out
    ).replace("nothing can be", "cannot be")


def test_info(mixture, chain, clusters):
    found = report("info", mixture)
    model = fastem.load(mixture)
    assert found["model"] == "GaussianMixture"
    assert found["written_by"] == f"fastem {fastem.__version__}"
    assert found["feature_names"] == ["a", "b"]
    assert found["converged"] is True
    assert found["iterations"] == model.n_iter_
    assert found["parameters"] == model.get_params()
    assert found["sizes"]["covariances_"] == [3, 2, 2]
    found = report("info", chain)
    assert found["sizes"]["transmat_"] == [3, 3]
    assert found["log_likelihood"] == fastem.load(chain).monitor_.history[-1]
    assert report("info", clusters)["inertia"] == fastem.load(clusters).inertia_


def test_info_for_people(mixture):
    said = succeed("info", mixture)
    for line in (
        r"model +GaussianMixture",
        r"feature names +a, b",
        r"fitted +yes",
        r"  covariance_type +full",
        r"  means_ +\[3, 2\]",
    ):
        assert re.search(f"(?m)^{line}$", said), said


def test_info_of_a_model_that_was_not_fitted(out):
    model = fastem.GaussianMixture(2, means_init=np.eye(2), random_state=None)
    model.save(out)
    found = report("info", out)
    assert found["fitted"] is False
    assert found["parameters"]["means_init"] == [[1, 0], [0, 1]]
    fastem.GaussianHMM(2, tol=-np.inf, random_state=np.random.RandomState(0)).save(out)
    parameters = report("info", out)["parameters"]
    assert parameters["tol"] is None
    assert parameters["random_state"] == "RandomState"
    assert report("info", out)["fitted"] is False
    assert "sizes" not in succeed("info", out)


def test_scores_that_are_not_finite_are_null(tmp_path, data):
    model = fastem.PoissonHMM(1)
    model.startprob_, model.transmat_ = [1.0], [[1.0]]
    model.lambdas_ = [[0.0, 1.0, 1.0]]
    model.save(tmp_path / "m")
    result = run("score", tmp_path / "m", data / "counts.npy", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["log_likelihood"] is None
    assert "-inf" in run("score", tmp_path / "m", data / "counts.npy").stdout
    assert "No state allows" in result.stderr


def test_reports_for_people(data, mixture, out):
    said = succeed("fit", data / "rows.npy", *QUICK, "--out", out)
    assert "converged               yes" in said
    assert "BIC " in said
    assert "log-likelihood per row  -" in said
    assert "rows                    600" in said


# -------------------------------------------------------------------- outputs, inputs


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_outputs_are_replaced_only_by_force(
    data, request, mixture, chain, out, command
):
    out.write_text("precious")
    path = request.getfixturevalue("chain" if command == "decode" else "mixture")
    arguments = {
        "fit": (data / "rows.npy", "-k", 2),
        "score": (path, data / "rows.parquet", "--per-row"),
        "sample": (path,),
    }.get(command, (path, data / "rows.parquet"))
    said = refuse(2, command, *arguments, "--out", out)
    assert f"{out} exists already; --force replaces it" in said
    assert out.read_text() == "precious"
    succeed(command, *arguments, "--out", out, "--force")
    assert out.read_bytes() != b"precious"


def test_force_replaces_no_input(data, tmp_path, mixture):
    rows = tmp_path / "rows.npy"
    rows.write_bytes((data / "rows.npy").read_bytes())
    link = tmp_path / "link.npy"
    link.symlink_to(rows)
    for out in (rows, link):
        said = refuse(2, "fit", rows, "-k", 2, "--out", out, "--force")
        assert "is read, too" in said
    model = tmp_path / "model.npy"
    model.write_bytes(mixture.read_bytes())
    assert "is read, too" in refuse(2, "sample", model, "--out", model, "--force")
    assert np.load(rows).shape == (N, 3)
    fastem.load(model)


@pytest.mark.parametrize("name", ["missing/out.npy", "."])
def test_unwritable_outputs_are_refused_before_the_work(
    data, tmp_path, mixture, monkeypatch, name
):
    monkeypatch.setattr(fastem.GaussianMixture, "_fit", pytest.fail)
    monkeypatch.setattr(fastem.GaussianMixture, "sample", pytest.fail)
    out = ("--out", tmp_path / name, "--force")
    assert "cannot write" in refuse(2, "fit", data / "rows.npy", "-k", 2, *out)
    if name != ".":
        assert "cannot write" in refuse(2, "sample", mixture, *out)


@pytest.mark.parametrize("command", ["predict", "sample"])
def test_outputs_of_rows_are_npy_or_parquet(data, mixture, tmp_path, command):
    rows = (data / "rows.parquet",) if command == "predict" else ()
    said = refuse(2, command, mixture, *rows, "--out", tmp_path / "labels.csv")
    assert "should end in .npy or .parquet" in said


def fit_to(source, out):
    return refuse(1, "fit", source, "-k", 2, "--out", out)


def test_bad_rows_are_named(tmp_path, out):
    X = blobs()
    X[417, 1] = np.nan
    np.save(tmp_path / "bad.npy", X)
    said = fit_to(tmp_path / "bad.npy", out)
    assert said.startswith("Error: ")
    assert len(said.splitlines()) == 1
    assert "bad.npy" in said
    assert "column 1" in said
    assert not out.exists()


def test_files_that_are_not_there_or_not_rows(data, tmp_path, out):
    assert "none.npy does not exist" in fit_to(tmp_path / "none.npy", out)
    assert "'trip'" in fit_to(data / "rows.parquet", out)
    whole = (data / "rows.parquet").read_bytes()
    short = tmp_path / "short.parquet"
    short.write_bytes(whole[: len(whole) // 2])
    assert f"cannot read {short}" in fit_to(short, out)
    np.save(tmp_path / "flat.npy", np.ones(4))
    assert "2-D" in fit_to(tmp_path / "flat.npy", out)


def test_csv_is_refused_with_a_way_out(tmp_path, out):
    said = fit_to(tmp_path / "rows.csv", out)
    assert f"polars.scan_csv('{tmp_path / 'rows.csv'}').sink_parquet" in said


def test_weights_that_are_not(data, tmp_path, out):
    arguments = ("fit", data / "rows.npy", "-k", 2, "--out", out, "--weights")
    np.save(tmp_path / "words.npy", np.array(["a"] * N))
    assert "numbers" in refuse(1, *arguments, tmp_path / "words.npy")
    np.save(tmp_path / "few.npy", np.ones(4))
    assert "one weight a row" in refuse(1, *arguments, tmp_path / "few.npy")
    assert "none.npy" in refuse(1, *arguments, tmp_path / "none.npy")


def test_files_that_are_no_models(data, out, tmp_path):
    said = refuse(1, "info", data / "rows.npy")
    assert "is no file of fastem" in said
    said = refuse(1, "predict", tmp_path / "none", data / "rows.npy", "--out", out)
    assert "No such file" in said
    assert "[Errno" not in said


def test_missing_packages_are_named(data, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert 'pip install "fastem[parquet]"' in fit_to(data / "rows.parquet", out)


def test_debug_shows_where(tmp_path, out):
    arguments = ("fit", tmp_path / "none.npy", "-k", 2, "--out", out)
    assert isinstance(run(*arguments, "--debug").exception, FileNotFoundError)
    assert isinstance(run(*arguments).exception, SystemExit)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    assert f"fastem {command} " in succeed(command, "--help").partition("Example")[2]


# ------------------------------------------------------------- checkpoints, interrupts


@pytest.mark.parametrize("name", ["gaussian-mixture", "gaussian-hmm"])
def test_an_interrupted_fit_goes_on(data, tmp_path, monkeypatch, name):
    out, checkpoint = tmp_path / "model", tmp_path / "fit.ckpt"
    options = ("--model", name, "-k", 4, "--tol", 0, "--max-iter", 12, "--n-init", 2)
    arguments = ("fit", data / "rows.npy", *options)
    kept = (*arguments, "--out", out, "--checkpoint", checkpoint)
    report_iteration = ProgressMonitor.iteration

    def interrupt(self, n_iter, *rest):
        report_iteration(self, n_iter, *rest)
        if n_iter == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressMonitor, "iteration", interrupt)
        result = run(*kept)
    assert result.exit_code == 130
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last == (
        f"Interrupted. {checkpoint} keeps the fit: the same command goes on from there."
    )
    assert not out.exists()
    result = run(*kept, "--resume", "--json")
    assert result.exit_code == 0, result.output
    assert f"Going on from {checkpoint}." in result.stderr
    assert json.loads(result.stdout)["resumed"] is True
    succeed(*arguments, "--out", tmp_path / "undisturbed")
    assert_same_model(out, fastem.load(tmp_path / "undisturbed"))


def test_an_interrupt_without_a_checkpoint(data, out, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastem.GaussianMixture, "_fit", interrupt)
    result = run("fit", data / "rows.npy", "-k", 2, "--out", out)
    assert result.exit_code == 130
    assert result.output.strip() == "Interrupted."


def test_checkpoints_that_cannot_serve(data, tmp_path, out):
    checkpoint = tmp_path / "fit.ckpt"
    arguments = ("fit", data / "rows.npy", "--out", out, "--checkpoint", checkpoint)
    said = refuse(1, *arguments, "-k", 2, "--resume")
    assert f"there is no checkpoint {checkpoint}" in said
    succeed(*arguments, "-k", 2)
    said = refuse(1, *arguments, "-k", 3, "--force")
    assert "settings.n_components was 2 and is 3" in said
    before = out.read_bytes()
    succeed(*arguments, "-k", 2, "--force")  # finished: there is nothing left to do
    assert out.read_bytes() == before
    same = ("--out", out, "--checkpoint", out, "--force", "-k", 2)
    assert "a file of its own" in refuse(2, "fit", data / "rows.npy", *same)


def wait_for(condition, process):
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_a_process_that_goes_on_later(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "rows.npy", rng.normal(size=(20_000, 4)))
    checkpoint, out = tmp_path / "fit.ckpt", tmp_path / "model"
    fit = ("fit", tmp_path / "rows.npy", "-k", 8, "--block-rows", 5000)
    arguments = (*fit, "--tol", 0, "--max-iter", 30)
    kept = (*arguments, "--checkpoint", checkpoint, "--out", out)
    with subprocess.Popen(
        [sys.executable, "-m", "fastem", *map(str, kept)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        seen = set()

        def saved_three_times():
            if checkpoint.exists():
                seen.add(checkpoint.stat().st_mtime_ns)
            return len(seen) >= 3

        wait_for(saved_three_times, process)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert printed == ""
    assert said.splitlines()[-1].startswith(f"Interrupted. {checkpoint} keeps the fit")
    assert not out.exists()
    succeed(*kept, "--resume")
    succeed(*arguments, "--out", tmp_path / "undisturbed")
    assert out.read_bytes() == (tmp_path / "undisturbed").read_bytes()


# -------------------------------------------------------------------------- progress


@pytest.fixture
def all_lines(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)


def test_lines_of_a_fit(data, out, all_lines, monkeypatch):
    monkeypatch.setattr(blocks, "PORTION_BYTES", 1)  # portions of 256 rows
    options = ("-k", 3, "--tol", 0, "--max-iter", 4, "--n-init", 2)
    lines = run("fit", data / "rows.npy", *options, "--out", out).stderr.splitlines()
    assert any("iteration 0/4, row 256/600" in line for line in lines)
    assert any("start 1/2, iteration 1/4, log-likelihood -" in line for line in lines)
    assert any(" rows/s, at most 0:00:0" in line for line in lines)
    ends = [line for line in lines if "did not converge:" in line]
    assert [line[:9] for line in ends] == ["start 1/2", "start 2/2"]


def test_lines_of_a_chain(data, out, all_lines):
    arguments = ("--model", "gaussian-hmm", "-k", 2, "--max-iter", 3, "--tol", 0)
    lines = run("fit", data / "rows.npy", *arguments, "--out", out).stderr
    assert "iteration 3/3, log-likelihood -" in lines


def test_a_line_when_a_fit_first_compiles(capsys):
    with progress.fit_progress(max_iter=3) as monitor:
        monitor.start(1)
        for _ in range(2):
            numba.njit(["int64(int64)"])(lambda x: x + 1)
    said = "compiling kernels, which later processes will load\n"
    assert capsys.readouterr().err == said


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal to look at")
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_bar_is_drawn_on_a_terminal(data, mixture, out, command):
    model = () if command == "fit" else (mixture,)
    more = ("-k", 3, "--n-init", 3, "--columns", "a,b") if command == "fit" else ()
    arguments = (*model, data / "rows.parquet", *more, "--out", out, "--json")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastem", command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # the terminal is closed
            break
        if not more:
            break
        drawn += more
    os.close(ours)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, drawn
    assert json.loads(printed)["rows"] == N
    assert "━" in drawn.decode()
    shown = "start 3/3, iteration" if command == "fit" else "predict"
    assert shown in drawn.decode()
