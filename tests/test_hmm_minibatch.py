"""Fits of hidden Markov models by mini-batches: their laws, and where they lead;
weights and states along sources; a long sequence in a file.
"""

import pickle

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import fastem
from fastem.data import blocks as data_blocks
from fastem.em.sequence_batches import MARGIN_ROWS, sequence_batches
from fastem.estimators import checkpoints
from fastem.models.stretches import Sequences

from .common import assert_same_bits
from .test_hmm_cases import case, model_of
from .test_hmm_cases import fit as fit_chain
from .test_persistence import assert_same_model
from .test_resume import Budget, Interrupted, Watched

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("gaussian-full", "categorical")
EMPTY, NO_STATES = np.empty(0), np.empty(0, np.int64)
MANY = [50] * 120
# Shorter than the usual ones, so that few rows make many stretches.
STRETCH = 64


@pytest.fixture
def short_stretches(monkeypatch):
    monkeypatch.setattr("fastem.em.sequence_batches.STRETCH_ROWS", STRETCH)
    monkeypatch.setattr("fastem.em.sequence_batches.MARGIN_ROWS", 32)


def chain(kind, start, **params):
    return model_of(fastem, kind, start, **params)


def minibatch(kind, start, **params):
    return chain(kind, start, fit_algorithm="minibatch", **params)


def assert_close(got, want, start, **tolerance):
    for name in start:
        a, b = (getattr(model, f"{name}_") for model in (got, want))
        np.testing.assert_allclose(a, b, err_msg=name, **tolerance)


class TestBatches:
    def sequences(self, lengths):
        n_rows = sum(lengths)
        X, bounds = np.arange(2.0 * n_rows).reshape(-1, 2), np.append(0, lengths)
        step_weight, states = np.arange(n_rows) / 7, np.arange(n_rows) % 3
        weight = np.arange(1.0, 1 + len(lengths))
        return Sequences(X, bounds.cumsum(), weight, step_weight, states)

    @pytest.mark.parametrize("first_size", [0, 900])
    @pytest.mark.parametrize("size", [1, 60, 300, 2000, 9000])
    @pytest.mark.parametrize("lengths", [[5000], [1, 3000, 20, 20, 700], [40] * 50])
    def test_every_row_counts_once(self, lengths, size, first_size):
        """With what is known of it; margins weigh nothing and are of its sequence."""
        of = self.sequences(lengths)
        weight, begun = np.zeros(len(of.X)), []
        for batch, _, n_rows in sequence_batches(of, None, size, first_size):
            counted = 0
            for part in batch:
                rows, these = part.rows, part.sequences
                rows = np.arange(len(of.X)) if rows is None else rows
                assert_same_bits(these.X, of.X[rows])
                assert_same_bits(these.step_weight, of.step_weight[rows])
                assert_same_bits(these.states, of.states[rows])
                pieces = these.sequence_weight
                pieces = pieces if pieces.size else np.ones(len(these.bounds) - 1)
                each = np.repeat(pieces, np.diff(these.bounds))
                np.add.at(weight, rows, each)  # margins overlap
                counted += np.count_nonzero(each)
                assert np.isin(part.starts, these.bounds).all()
                begins = np.isin(rows[part.starts], of.bounds)
                assert begins.all() if part.begins else not begins.any()
                begun.extend(rows[part.starts][each[part.starts] > 0])
                # Rows follow one another but where a chain starts.
                jumps = np.flatnonzero(np.diff(rows) != 1) + 1
                assert np.isin(jumps, part.starts).all()
                margin = np.diff(these.bounds)[pieces == 0]
                assert margin.max(initial=0) <= MARGIN_ROWS
            assert counted == n_rows
        assert_same_bits(weight, np.repeat(of.sequence_weight, lengths))
        assert sorted(begun) == of.bounds[:-1].tolist()

    def test_short_sequences_stay_whole(self):
        for batch, *_ in sequence_batches(self.sequences([40] * 50), None, 100, 0):
            assert all(part.begins for part in batch)


class TestLaws:
    @pytest.mark.parametrize("training", ["baum-welch", "viterbi"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_one_batch_of_all_is_an_iteration(self, kind, training):
        _, X, start = case(kind, 3, 2, [20] * 10, seed=1)
        options = {"training": training, "n_iter": 1}
        want = fit_chain(chain(kind, start, **options), X, [20] * 10)
        got = fit_chain(minibatch(kind, start, **options), X, [20] * 10)
        assert_close(got, want, start, rtol=1e-9, atol=1e-12)
        assert got.monitor_.history == want.monitor_.history

    @pytest.mark.usefixtures("short_stretches")
    @pytest.mark.parametrize("kind", KINDS)
    def test_without_moves_stretches_add_up_to_the_sequence(self, kind):
        """Under fixed parameters batches meet the log-likelihood of the sequence, and
        steps of 1 / n remember its statistics, but for what chains do not forget."""
        _, X, start = case(kind, 3, 2, [1500], seed=2)
        options = {"n_iter": 1, "step_exponent": 1.0, "step_offset": 0.0}
        got = minibatch(kind, start, batch_size=200, **options)
        got.params = ""
        fit_chain(got, X)
        want = chain(kind, start, n_iter=1)
        want.params = ""
        fit_chain(want, X)
        np.testing.assert_allclose(
            got.monitor_.history, want.monitor_.history, rtol=1e-6
        )
        mine, theirs = got._remembered.statistics, want._remembered.statistics
        np.testing.assert_allclose(mine.transitions, theirs.transitions, rtol=1e-3)
        np.testing.assert_allclose(mine.start, theirs.start, atol=1e-6)

    @pytest.mark.usefixtures("short_stretches")
    @pytest.mark.parametrize("lengths", [MANY, [6000]], ids=["sequences", "stretches"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_passes_come_near_the_best(self, kind, lengths):
        _, X, start = case(kind, 3, 2, lengths, seed=2)
        model = chain(kind, start)
        worst = model.score(X, lengths)
        best = fit_chain(chain(kind, start, n_iter=200, tol=0.01), X, lengths)
        best = best.score(X, lengths)
        got = minibatch(kind, start, n_iter=4, batch_size=200, tol=-np.inf)
        lack = best - fit_chain(got, X, lengths).score(X, lengths)
        assert got.monitor_.iter == 4
        assert got.monitor_.status == "max_iter"
        assert lack < 1e-3 * abs(best)
        assert lack < 0.15 * (best - worst)

    def test_averaging_is_asked_for(self):
        _, X, start = case("gaussian-full", 3, 2, MANY, seed=3)
        first, second = (
            fit_chain(
                minibatch("gaussian-full", start, batch_size=300, average=a), X, MANY
            )
            for a in (True, False)
        )
        assert np.abs(first.means_ - second.means_).max() > 1e-6

    def test_a_memory_map_is_an_array(self, tmp_path):
        _, X, start = case("gaussian-full", 3, 2, [1500], seed=2)
        np.save(tmp_path / "rows.npy", X)
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        options = {"n_iter": 2, "batch_size": 200}
        got, want = (minibatch("gaussian-full", start, **options) for _ in range(2))
        assert_same_model(fit_chain(got, mapped), fit_chain(want, X))

    @pytest.mark.parametrize("keep", ["file", "pickle"])
    def test_what_is_remembered_is_kept(self, keep, tmp_path):
        _, X, start = case("gaussian-full", 3, 2, MANY, seed=4)
        model = minibatch("gaussian-full", start, n_iter=2, batch_size=300)
        fit_chain(model, X, MANY)
        if keep == "file":
            model.save(tmp_path / "model.fastem")
            copy = fastem.load(tmp_path / "model.fastem")
        else:
            copy = pickle.loads(pickle.dumps(model))
        more = case("gaussian-full", 3, 2, [50] * 4, seed=5)[1]
        for one in (model, copy):
            one.partial_fit(more, [50] * 4)
        assert_same_model(copy, model)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("fit_algorithm", "online"),
            ("batch_size", 0),
            ("step_exponent", 0.5),
            ("step_offset", -1.0),
            ("average", "yes"),
        ],
    )
    def test_bad_parameters(self, name, value):
        _, X, start = case("gaussian-full", 3, 2, [20], seed=1)
        with pytest.raises(ValueError, match=name):
            minibatch("gaussian-full", start).set_params(**{name: value}).fit(X)

    @pytest.mark.usefixtures("short_stretches")
    def test_what_no_state_allows_is_named(self):
        _, X, start = case("categorical", 3, 2, [1500], seed=6)
        start["emissionprob"][:, 2] = 0
        start["emissionprob"] /= start["emissionprob"].sum(axis=1, keepdims=True)
        X = np.minimum(X, 1)
        X[1234] = 2
        with pytest.raises(ValueError, match=r"sequence 0 at step 1234 \(row 1234"):
            minibatch("categorical", start, batch_size=200).fit(X)


class TestSources:
    LENGTHS = [50] * 12

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 150 * 2 * 8)
        monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_SAVES", 0)

    def parts(self):
        _, X, start = case("gaussian-full", 3, 2, self.LENGTHS, seed=7)
        return np.split(X, len(self.LENGTHS)), start

    def test_batches_of_each_block_follow_one_another(self):
        parts, start = self.parts()
        options = {"batch_size": 50, "n_iter": 1}
        got = minibatch("gaussian-full", start, **options).fit(parts)
        want = chain("gaussian-full", start, batch_size=50).partial_fit(parts)
        assert_close(got, want, start, rtol=0, atol=0)

    @pytest.mark.parametrize("n_blocks", [14, 20, 27, 33])
    def test_resumed_to_the_same_bits(self, n_blocks, tmp_path):
        parts, start = self.parts()
        options = {"batch_size": 50, "n_iter": 3, "tol": -np.inf}
        make = lambda: minibatch("gaussian-full", start, **options)  # noqa: E731
        want, path = make().fit(parts), tmp_path / "fit.ckpt"
        with pytest.raises(Interrupted):
            make().fit(Watched(parts, Budget(n_blocks)), checkpoint=path)
        got = make().fit(Watched(parts, lambda number: None), checkpoint=path)
        assert_same_model(got, want)
        more = parts[0]
        assert_same_model(got.partial_fit(more), want.partial_fit(more))

    @pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
    @pytest.mark.parametrize("store", ["blocks", "columns"])
    def test_weights_and_states(self, store, algorithm, tmp_path):
        parts, start = self.parts()
        X, rng = np.concatenate(parts), np.random.default_rng(0)
        known = {
            "step_weight": rng.integers(0, 3, len(X)) / 2,
            "states": rng.integers(-1, 3, len(X)),
        }
        data, given = parts, known
        if store == "columns":
            states = pyarrow.array(known["states"], mask=known["states"] < 0)
            columns = {"a": X[:, 0], "b": X[:, 1], "w": known["step_weight"]}
            trip = np.repeat(np.arange(len(self.LENGTHS)), self.LENGTHS)
            table = pyarrow.table({**columns, "s": states, "trip": trip})
            pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
            data = fastem.source(
                tmp_path / "rows.parquet", columns=["a", "b"], sequence_column="trip"
            )
            given = {"step_weight": "w", "states": "s"}
        weight = np.arange(1.0, 1 + len(parts)) % 3
        options = {"n_iter": 2, "fit_algorithm": algorithm}
        got = chain("gaussian-full", start, **options)
        fit_chain(got, data, sequence_weight=weight, **given)
        want = chain("gaussian-full", start, **options)
        if algorithm == "batch":
            fit_chain(want, X, self.LENGTHS, sequence_weight=weight, **known)
        else:
            # Blocks are batches here, and those of files end elsewhere.
            fit_chain(want, data, sequence_weight=weight, **known)
        assert_close(got, want, start, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"step_weight": np.ones(599)}, "step_weight.*600"),
            ({"step_weight": -np.ones(600)}, "step_weight.*row 0"),
            ({"states": np.full(600, 3)}, "less than 3"),
            ({"states": np.zeros(601, int)}, "states.*600"),
            ({"sequence_weight": np.ones(11)}, "sequence_weight has 11.*12 sequences"),
            ({"sequence_weight": np.ones(13)}, "sequence_weight has 13.*12 sequences"),
            ({"step_weight": "w"}, "no named columns"),
        ],
    )
    def test_that_do_not_go_with_it(self, given, message):
        parts, start = self.parts()
        for data in (parts, lambda: iter(parts)):
            with pytest.raises(ValueError, match=message):
                chain("gaussian-full", start).fit(data, **given)

    def test_a_column_that_is_a_feature(self):
        parts, start = self.parts()
        X = np.concatenate(parts)
        table = pyarrow.table({"a": X[:, 0], "b": X[:, 1]})
        with pytest.raises(ValueError, match=r"'b'.*is one of the features"):
            chain("gaussian-full", start).fit(table, step_weight="b")


class TestLongSequenceInAFile:
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_mapped(self, kind, tmp_path, monkeypatch):
        """As the same rows in memory, to the last bit: it is no other fit."""
        monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 1 << 10)
        _, X, start = case(kind, 3, 2, [1500], seed=8)
        path = tmp_path / "rows.npy"
        np.save(path, X)
        want = fit_chain(chain(kind, start, n_iter=3), X)

        def never(*args):
            raise AssertionError("blocks are read")

        monkeypatch.setattr("fastem.data.arrays._map_rows", never)
        for data in (path, fastem.source(path)):
            got = fit_chain(chain(kind, start, n_iter=3), data)
            assert_same_model(got, want)
            assert_same_bits(got.predict(data), want.predict(X))
            assert got.score(data) == want.score(X)

    def test_that_changes_under_the_fit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(data_blocks, "BLOCK_BYTES", 1 << 10)
        _, X, start = case("gaussian-full", 3, 2, [1500], seed=8)
        path = tmp_path / "rows.npy"
        np.save(path, X)
        source = fastem.source(path)
        np.save(path, X + 1)
        with pytest.raises(ValueError, match="changed since it was opened"):
            chain("gaussian-full", start).fit(source)
