"""What is told of a fit while it runs, to scikit-learn's callbacks, to the log and to
bars; and that nobody is told anything who did not ask."""

import copy
import io
import logging
import pickle
import subprocess
import sys
import textwrap
import threading

import numba
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastem
from fastem import GaussianHMM, GaussianMixture, KMeans
from fastem.data import blocks
from fastem.em import monitors
from fastem.em.monitors import BarMonitor, ProgressMonitor, SilentMonitor, together

from .common import PARAMETERS, assert_same_bits, blobs, unconverged

pytestmark = pytest.mark.usefixtures("one_thread")

callbacks = pytest.mark.skipif(
    not hasattr(GaussianMixture, "set_callbacks"),
    reason="scikit-learn has callbacks from 1.9 on",
)

N, D, K, STARTS, ITERATIONS = 300, 2, 3, 2, 4


def mixture(n_iter=ITERATIONS, n_init=STARTS, **kwargs):
    kwargs = {"tol": 0.0, "init_params": "random_from_data", **kwargs}
    return GaussianMixture(K, max_iter=n_iter, n_init=n_init, random_state=0, **kwargs)


def minibatch(n_iter=ITERATIONS, n_init=STARTS):
    return mixture(n_iter, n_init, algorithm="minibatch", batch_size=50)


def chain(n_iter=ITERATIONS, n_init=STARTS):
    return GaussianHMM(K, tol=-np.inf, n_iter=n_iter, n_init=n_init, random_state=0)


def kmeans(n_iter=ITERATIONS, n_init=STARTS, **kwargs):
    # With so many clusters they have not come to rest.
    kwargs = {"tol": 0.0, "init": "random", **kwargs}
    return KMeans(20, max_iter=n_iter, n_init=n_init, random_state=0, **kwargs)


CHAIN = ("startprob_", "transmat_", "means_", "covars_")
MODELS = {
    "mixture": (mixture, PARAMETERS),
    "minibatch": (minibatch, PARAMETERS),
    "chain": (chain, CHAIN),
    "kmeans": (kmeans, ("cluster_centers_",)),
}
EACH = pytest.mark.parametrize(("make", "names"), MODELS.values(), ids=MODELS)


@pytest.fixture(scope="module")
def X():
    return blobs(N, D, K, seed=3, spread=1.0)


def fit(model, X, **kwargs):
    with unconverged():
        return model.fit(X, **kwargs)


def assert_same(a, b, names):
    for name in names:
        assert_same_bits(getattr(a, name), getattr(b, name))


class Recorder:
    """A callback that writes down what it is told, and asks for models if `asks`."""

    def __init__(self, asks=False):
        self.asks, self.events, self.models, self.data = asks, [], {}, []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.data.append((X, y, metadata))
        self._note("begin", estimator, context)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.models[place(context)] = fitted_estimator
        return self._note("end", estimator, context)

    def _note(self, what, estimator, context):
        self.events.append((what, context.task_name, place(context)))


def place(context):
    """The ids of a task and those above it, but for the fit's."""
    if context.parent is None:
        return ()
    return (*place(context.parent), context.task_id)


class Reader(Recorder):
    """A callback that gets models when tasks begin."""

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        self.models[place(context)] = fitted_estimator

    def on_fit_task_end(self, estimator, context):
        pass


class Stopper(Recorder):
    """A callback that ends iterations of one kind at the end of task number `at`."""

    def __init__(self, kind, at):
        super().__init__()
        self.kind, self.at = kind, at

    def _note(self, what, estimator, context):
        super()._note(what, estimator, context)
        return context.task_name == self.kind and context.task_id == self.at


class Fault(Exception):
    pass


class Faulty(Recorder):
    """A callback that fails at one event."""

    def __init__(self, event, error):
        super().__init__()
        self.event, self.error = event, error

    def setup(self, estimator, context):
        super().setup(estimator, context)
        if self.event == "setup":
            raise self.error

    def _note(self, what, estimator, context):
        super()._note(what, estimator, context)
        if self.event == (what, context.task_name):
            raise self.error


class Inherited(Recorder):
    """A callback that goes down to the estimators in others."""

    max_propagation_depth = None


def expected(n_init=STARTS, n_iter=ITERATIONS):
    """The events of a whole fit."""
    events = ["setup", ("begin", "fit", ())]
    for init in range(n_init):
        events.append(("begin", "start", (init,)))
        for iteration in range(n_iter):
            task = "iteration", (init, iteration)
            events += [("begin", *task), ("end", *task)]
        events.append(("end", "start", (init,)))
    return [*events, ("end", "fit", ()), "teardown"]


@callbacks
class TestCallbacks:
    @EACH
    def test_are_told_in_order(self, X, make, names):
        recorder = Recorder()
        fit(make().set_callbacks(recorder), X)
        assert recorder.events == expected()
        assert all(
            data == (X, None, None) for data in [(X, *d[1:]) for d in recorder.data]
        )
        assert all(given is X for given, _, _ in recorder.data)

    @EACH
    def test_change_no_bit(self, X, make, names):
        assert_same(fit(make().set_callbacks(Recorder()), X), fit(make(), X), names)

    @EACH
    def test_get_models_as_if_the_fit_had_stopped_there(self, X, make, names):
        recorder = Recorder()
        model = fit(make(n_init=1).set_callbacks(recorder), X)
        for n in range(ITERATIONS):
            stopped = fit(make(n_iter=n + 1, n_init=1), X)
            found = recorder.models[0, n]
            assert_same(found, stopped, names)
            np.testing.assert_array_equal(found.predict(X), stopped.predict(X))
        assert_same(recorder.models[(0,)], model, names)
        assert_same(recorder.models[()], model, names)

    @EACH
    def test_get_models_from_before_iterations(self, X, make, names):
        reader = Reader()
        fit(make().set_callbacks(reader), X)
        for task in (), (0,), (1,):
            assert reader.models[task] is None
        for n in range(1, ITERATIONS):
            assert_same(reader.models[0, n], fit(make(n_iter=n, n_init=1), X), names)
        reader.models[0, 0].predict(X)

    def test_of_a_chain_get_monitors_of_their_time(self, X):
        recorder = Recorder()
        model = fit(chain().set_callbacks(recorder), X)
        for (_, n), found in (
            (at, found) for at, found in recorder.models.items() if len(at) == 2
        ):
            assert found.monitor_.iter == len(found.monitor_.history) == n + 1
        assert recorder.models[()].monitor_.history == model.monitor_.history

    @EACH
    def test_get_the_best_start_at_the_end(self, X, make, names):
        recorder = Recorder()
        model = fit(make().set_callbacks(recorder), X)
        assert_same(recorder.models[()], model, names)
        scores = [recorder.models[(init,)].score(X) for init in range(STARTS)]
        assert len(set(scores)) == STARTS

    @EACH
    def test_stop_the_iterations_of_a_start(self, X, make, names):
        stopper = Stopper("iteration", 1)
        model = make().set_callbacks(stopper).fit(X)  # without a warning
        assert stopper.events == expected(n_iter=2)
        assert_same(model, fit(make(n_iter=2), X), names)

    @EACH
    def test_stop_the_starts(self, X, make, names):
        stopper = Stopper("start", 0)
        model = fit(make().set_callbacks(stopper), X)
        assert stopper.events == expected(n_init=1)
        assert_same(model, fit(make(n_init=1), X), names)

    @pytest.mark.parametrize("error", [Fault("a fault")], ids=repr)
    @pytest.mark.parametrize(
        "event",
        [
            "setup",
            ("begin", "fit"),
            ("begin", "start"),
            ("begin", "iteration"),
            ("end", "iteration"),
            ("end", "start"),
            ("end", "fit"),
        ],
        ids=str,
    )
    @EACH
    def test_that_fail_leave_the_model_as_it_was(self, X, make, names, event, error):
        faulty = Faulty(event, error)
        model = make().set_callbacks(faulty)
        before = set(vars(model))
        with pytest.raises(type(error)):
            fit(model, X)
        assert faulty.events[-1] == "teardown"
        assert faulty.events.count("teardown") == 1
        assert set(vars(model)) == before
        with pytest.raises(NotFittedError):
            model.predict(X)

        fit(model.set_callbacks(), X)
        fitted = copy.deepcopy(model)
        with pytest.raises(type(error)):
            fit(model.set_callbacks(faulty), X[:200])
        assert_same(model, fitted, names)

    @EACH
    def test_are_torn_down_on_ctrl_c(self, X, make, names):
        faulty = Faulty(("end", "iteration"), KeyboardInterrupt())
        model = make().set_callbacks(faulty)
        before = set(vars(model))
        with pytest.raises(KeyboardInterrupt):
            fit(model, X)
        assert faulty.events[-1] == "teardown"
        assert faulty.events.count("teardown") == 1
        assert set(vars(model)) == before

    def test_are_torn_down_if_rows_are_bad(self, X):
        recorder = Recorder()
        source = [X, np.full_like(X, np.nan)]
        with pytest.raises(ValueError, match="NaN"):
            fit(mixture().set_callbacks(recorder), source)
        begun = [("begin", "fit", ()), ("begin", "start", (0,))]
        assert recorder.events == ["setup", *begun, "teardown"]

    @pytest.mark.parametrize("as_function", [False, True])
    @pytest.mark.parametrize("make", [mixture, chain, kmeans])
    def test_are_told_of_sources(self, X, make, as_function):
        parts = [X[:100], X[100:]]
        source = (lambda: iter(parts)) if as_function else parts
        recorder = Recorder()
        model = make().set_callbacks(recorder)
        fit(model, source, **({"lengths": [100, 200]} if make is chain else {}))
        assert recorder.events == expected()
        assert all(given is source for given, _, _ in recorder.data)

    def test_get_weights_and_labels(self, X):
        weight, y = np.ones(N), np.zeros(N, int)
        recorder = Recorder()
        fit(mixture().set_callbacks(recorder), X, y=y, sample_weight=weight)
        for _, labels, metadata in recorder.data:
            assert labels is y
            assert metadata.keys() == {"sample_weight"}
            assert metadata["sample_weight"] is weight

    def test_get_lengths(self, X):
        recorder = Recorder()
        fit(chain().set_callbacks(recorder), X, lengths=[100, 200])
        assert {str(m) for _, _, m in recorder.data} == {"{'lengths': [100, 200]}"}

    @pytest.mark.parametrize("make", [mixture, chain, kmeans])
    def test_of_a_resumed_fit_are_told_of_the_rest(self, X, make, tmp_path):
        path = tmp_path / "fit.ckpt"
        faulty = Faulty(("end", "iteration"), KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            fit(make(n_init=1).set_callbacks(faulty), X, checkpoint=path)
        recorder = Recorder()
        fit(make(n_init=1).set_callbacks(recorder), X, checkpoint=path)
        assert recorder.events == expected(n_init=1, n_iter=ITERATIONS - 1)

    def test_without_iterations(self, X):
        for make in (mixture, chain):
            recorder = Recorder()
            fit(make(n_iter=0).set_callbacks(recorder), X)
            assert recorder.events == expected(n_iter=0)

    def test_in_a_pipeline(self, X):
        recorder = Inherited()
        model = make_pipeline(StandardScaler(), mixture()).set_callbacks(recorder)
        fit(model, X)
        last = [e for e in recorder.events if len(e[2]) == 3]
        assert [e[:2] for e in last] == [
            e[:2] for e in expected() if e[1] == "iteration"
        ]
        assert not hasattr(model[-1], "_skl_callbacks")
        with unconverged():
            model.fit_predict(X)

    def test_in_a_search(self, X):
        recorder = Inherited()
        search = GridSearchCV(mixture(), {"n_components": [1, 2]}, cv=2)
        with unconverged():
            search.set_callbacks(recorder).fit(X)
        begun = [e for e in recorder.events if e[:2] == ("begin", "iteration")]
        n_fits = 2 * 2 + 1
        assert len(begun) == len(set(begun)) == n_fits * STARTS * ITERATIONS

    def test_are_no_parameters(self, X):
        recorder = Recorder()
        for make in (mixture, chain):
            model = make().set_callbacks(recorder)
            assert model.get_params().keys() == make().get_params().keys()
            assert clone(model)._skl_callbacks == [recorder]
            assert repr(model) == repr(make())

    @EACH
    def test_are_not_saved(self, X, make, names, tmp_path):
        """Neither are those of a model that a callback saves in the midst of a fit."""

        class Saver(Recorder):
            def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
                fitted_estimator.save(tmp_path / f"{context.task_name}.npz")

        model = fit(make().set_callbacks(Saver()), X)
        model.save(tmp_path / "end.npz")
        for name in ("iteration", "start", "fit", "end"):
            twin = fastem.load(tmp_path / f"{name}.npz")
            assert not any("callback" in attribute for attribute in vars(twin))
            twin.predict(X)
        assert_same(model, twin, names)
        assert len(model._skl_callbacks) == 1

    @EACH
    def test_survive_pickling(self, X, make, names):
        model = fit(make().set_callbacks(Recorder()), X)
        twin = pickle.loads(pickle.dumps(model))
        assert_same(model, twin, names)
        assert twin._skl_callbacks[0].events == expected()

    def test_scores_are_those_of_the_models(self, X):
        from sklearn.callback import ScoringMonitor

        score = {"score": lambda model, X, y: model.score(X)}
        monitor = ScoringMonitor(scoring=score)
        model = mixture(n_init=1).set_callbacks(monitor)
        fit(model, X, y=np.zeros(N))
        log = monitor.get_logs().data
        scores = [row["score"] for row in log if row["task_name"] == "iteration"]
        # Each bound is that of the model that the iteration before came to.
        np.testing.assert_allclose(scores[:-1], model.lower_bounds_[1:], rtol=1e-12)

    @EACH
    def test_a_progress_bar(self, X, capsys, make, names):
        from sklearn.callback import ProgressBar

        model = fit(make().set_callbacks(ProgressBar()), X)
        shown = capsys.readouterr().out
        for task in ("fit", "start #0", "start #1"):
            (line,) = [
                line
                for line in shown.splitlines()
                if line.strip().startswith(f"{type(model).__name__} - {task} ")
            ]
            assert "100%" in line
        assert "iteration" not in shown
        assert threading.active_count() == 1 or "rich" not in str(threading.enumerate())


def test_older_scikit_learns_have_no_callbacks():
    """All else is the same without them, also where warnings point to."""
    code = """
        import sys, warnings
        import sklearn.pipeline, sklearn.cluster, sklearn.mixture
        sys.modules["sklearn.callback"] = None
        import numpy as np
        from fastem import GaussianHMM, GaussianMixture, KMeans
        X = np.random.default_rng(0).normal(size=(50, 2))
        for model in GaussianMixture(2, max_iter=1, tol=0), KMeans(2), GaussianHMM(2):
            assert not hasattr(model, "set_callbacks")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.fit(X)
            assert {w.filename for w in caught} <= {"<string>"}, caught
            assert len(caught) == isinstance(model, GaussianMixture)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_warnings_point_to_who_called_fit(X):
    for fit_it in (
        mixture().fit,
        mixture().fit_predict,
        GaussianHMM(2, init_params="", n_iter=1).fit,
        KMeans(2, init=X[:2], n_init=3).fit,
        KMeans(2, init=X[:2], n_init=3).fit_predict,
        lambda X: KMeans(2).fit(np.zeros_like(X)),
    ):
        with pytest.warns() as caught:
            if isinstance(getattr(fit_it, "__self__", None), GaussianHMM):
                # No row comes near the second state.
                model = fit_it.__self__
                model.startprob_, model.transmat_ = np.ones(2) / 2, np.eye(2)
                model.means_ = np.array([[0.0, 0.0], [1e3, 1e3]])
                model.covars_ = np.ones((2, 2))
            fit_it(X)
        assert {w.filename for w in caught} == {__file__}


class TestLog:
    @pytest.fixture(autouse=True)
    def at(self, caplog):
        caplog.set_level(logging.DEBUG, "fastem")

    @staticmethod
    def texts(caplog, level):
        return [
            r.getMessage()
            for r in caplog.records
            if (r.name, r.levelno) == ("fastem", level)
        ]

    @pytest.mark.parametrize(
        ("make", "name", "bound", "measure"),
        [
            (
                mixture,
                "GaussianMixture of 3 components",
                lambda model: model.lower_bound_,
                "mean log-likelihood",
            ),
            (
                chain,
                "GaussianHMM of 3 states",
                lambda model: model.monitor_.history[-1],
                "log-likelihood",
            ),
        ],
    )
    @pytest.mark.parametrize("in_blocks", [False, True])
    def test_tells_of_fits(self, caplog, X, make, name, bound, measure, in_blocks):
        model = make()
        if in_blocks:
            kwargs = {"lengths": [N]} if make is chain else {}
            fit(model, [X[:100], X[100:]], **kwargs)
        else:
            fit(model, X)
        what = f"{name}: fit to 300 rows of 2 features"
        begun, ended = self.texts(caplog, logging.INFO)
        assert begun == f"{what} begins, n_init=2"
        said, seconds, unit = ended.rsplit(maxsplit=2)
        assert said == (
            f"{what} did not converge: n_iter={ITERATIONS}, "
            f"{measure} {bound(model):.8g},"
        )
        assert (float(seconds) >= 0, unit) == (True, "s")
        steps = self.texts(caplog, logging.DEBUG)
        assert len(steps) == STARTS * ITERATIONS
        for step, (init, n) in zip(steps, np.ndindex(STARTS, ITERATIONS), strict=True):
            assert step.startswith(
                f"{name}: start {init}, iteration {n + 1}: {measure} "
            )
            assert f"{measure} {bound(model):.8g}," in "".join(steps)
        changes = [float(step.rsplit(maxsplit=1)[1]) for step in steps]
        assert [c == np.inf for c in changes] == ([True] + 3 * [False]) * STARTS

    def test_tells_convergence(self, caplog, X):
        GaussianMixture(1).fit(X)
        assert " converged: n_iter=2, " in self.texts(caplog, logging.INFO)[1]

    def test_has_no_end_if_the_fit_has_none(self, caplog, X):
        with pytest.raises(ValueError, match="NaN"):
            fit(mixture(), [X, np.full_like(X, np.nan)])
        assert len(self.texts(caplog, logging.INFO)) == 1


def test_nobody_is_told_who_did_not_ask(capfd, X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    for data in (X, tmp_path / "X.npy", [X[:100], X[100:]]):
        for make in (mixture, minibatch, chain):
            kwargs = {"lengths": [N]} if make is chain and data is not X else {}
            fit(make(), data, **kwargs)
    assert capfd.readouterr() == ("", "")
    # Where to log to is not a library's to say.
    assert logging.getLogger("fastem").handlers == []
    assert logging.getLogger("fastem").level == logging.NOTSET


class Told(SilentMonitor):
    """A monitor that writes down all it is told."""

    def __init__(self, answer=None):
        self.told, self.answer = [], answer

    def __getattribute__(self, name):
        if name not in vars(SilentMonitor) or name.startswith("_"):
            return super().__getattribute__(name)
        return lambda *arguments: self.told.append((name, arguments)) or self.answer


class TestMonitors:
    def test_together_all_are_told(self):
        monitors = Told(), Told(True), Told()
        both = together(*monitors)
        assert both.iteration(1, -2.0, 0.5)
        assert both.end_init(-2.0, False)
        both.start(3)
        for monitor in monitors:
            assert [name for name, _ in monitor.told] == [
                "iteration",
                "end_init",
                "start",
            ]
        assert not together(Told(), Told(False)).iteration(1, -2.0, 0.5)

    @pytest.mark.parametrize("make", [mixture, chain])
    def test_see_every_block(self, X, make, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 100 * D * 8)
        monkeypatch.setattr(blocks, "PORTION_BYTES", 100 * D * 8)
        monkeypatch.setattr(blocks, "PORTION_MULTIPLE", 1)
        told = Told()
        source = [X[:100], X[100:200], X[200:]]
        kwargs = {"lengths": [100, 100, 100]} if make is chain else {}
        with unconverged():
            make(n_iter=2, n_init=1)._fit(source, monitor=told, **kwargs)
        names = [name for name, _ in told.told]
        assert names == [
            *("start", "begin_init", "reach"),
            *(2 * ["rows", "rows", "rows", "rows", "reach", "iteration"]),
            *("end_init", "reach", "end"),
        ]
        read = [arguments for name, arguments in told.told if name == "rows"]
        assert read == 2 * [(0, N), (100, N), (200, N), (N, N)]

    def test_progress_says_how_far(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(monitors.time, "monotonic", lambda: now[0])
        shown = []

        class Lines(ProgressMonitor):
            def show(self):
                shown.append(self.text)

        lines = Lines(max_iter=10)
        lines.start(2)
        lines.begin_init(0)
        lines.rows(0, 4000)
        now[0] += 1
        lines.rows(1000, 4000)
        now[0] += 3
        lines.iteration(1, -1.5, np.inf)
        lines.begin_init(1)
        # Goes on from a checkpoint: how long the passes before took is not known.
        lines.rows(2000, 4000)
        now[0] += 1
        lines.iteration(5, -1.25, 0.1)
        now[0] += 1
        lines.rows(4000, 4000)
        assert shown == [
            "start 1/2, iteration 0/10",
            "start 1/2, iteration 0/10",
            "start 1/2, iteration 0/10, row 1,000/4,000, 1,000 rows/s, "
            "at most 0:01:19 left",
            "start 1/2, iteration 1/10, log-likelihood -1.5, 1,000 rows/s, "
            "at most 0:01:16 left",
            "start 2/2, iteration 0/10",
            "start 2/2, iteration 0/10, row 2,000/4,000",
            "start 2/2, iteration 5/10, log-likelihood -1.25",
            "start 2/2, iteration 5/10, row 4,000/4,000, log-likelihood -1.25, "
            "4,000 rows/s, at most 0:00:04 left",
        ]

    def test_progress_says_what_it_waits_for(self, monkeypatch):
        """Once, however many functions a kernel is made of, and not of the pace."""
        now, shown = [0.0], []
        monkeypatch.setattr(monitors.time, "monotonic", lambda: now[0])

        class Lines(ProgressMonitor):
            def show(self):
                shown.append(self.text)

        lines = Lines(max_iter=2)
        with lines.saying_what_compiles():
            lines.start(1)
            lines.begin_init(0)
            lines.rows(0, 100)
            called = numba.njit(lambda x: x + 1)
            numba.njit(["int64(int64)"])(lambda x: called(x))
            lines.rows(0, 100)
            now[0] += 2
            lines.rows(100, 100)
        numba.njit(["int64(int64)"])(lambda x: x + 2)
        assert shown == [
            "iteration 0/2",
            "iteration 0/2",
            "compiling kernels, which later processes will load",
            "iteration 0/2",
            "iteration 0/2",
            "iteration 0/2, row 100/100, 50 rows/s, at most 0:00:02 left",
        ]

    def test_progress_where_rows_are_not_known(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(monitors.time, "monotonic", lambda: now[0])
        progress = ProgressMonitor(max_iter=3)
        progress.start(1)
        progress.begin_init(0)
        progress.rows(0, None)
        progress.rows(10, None)
        assert progress.text == "iteration 0/3, row 10"
        now[0] += 2
        progress.iteration(1, -1.0, np.inf)
        assert progress.text == (
            "iteration 1/3, log-likelihood -1, at most 0:00:04 left"
        )

    @pytest.mark.parametrize("width", [60, 200])
    @pytest.mark.parametrize("make", [mixture, chain])
    def test_a_bar(self, X, make, width):
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, width=width)
        model = make(n_init=1)
        with Progress(*BarMonitor.columns(), console=console) as progress:
            bar = BarMonitor(ITERATIONS, progress)
            with unconverged():
                model._fit(X, monitor=bar)
            (task,) = progress.tasks
            assert (task.completed, task.total) == (ITERATIONS, ITERATIONS)
        shown = file.getvalue()
        assert 24 * "━" in shown
        assert f"iteration {ITERATIONS}/{ITERATIONS}" in shown
        assert "rows/s" in shown


def test_a_fit_that_did_not_converge_still_says_so(X):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mixture().fit(X)


def test_verbose_and_callbacks_go_together(X, capsys):
    fit(mixture(n_init=1, verbose=1, verbose_interval=1), X)
    alone = capsys.readouterr().out
    assert alone.count("Iteration") == ITERATIONS
    if hasattr(GaussianMixture, "set_callbacks"):
        recorder = Recorder()
        model = mixture(n_init=1, verbose=1, verbose_interval=1)
        fit(model.set_callbacks(recorder), X)
        assert capsys.readouterr().out == alone
        assert recorder.events == expected(n_init=1)


def test_load_knows_no_callbacks(X, tmp_path):
    model = fit(mixture(), X)
    model.save(tmp_path / "model")
    assert not hasattr(fastem.load(tmp_path / "model"), "_skl_callbacks")
