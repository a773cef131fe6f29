"""Decode the record of a nerve cell with a hidden Markov model, hmmlearn beside it."""

import importlib.util
import logging
import time
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fastem.demo import prepare_kernels
from fastem.estimators.hmm.gaussian import GaussianHMM
from fastem.estimators.hmm.monitor import ConvergenceMonitor

# The membrane potential of a spiking nerve cell, stimulated for five of six seconds. It
# comes with matplotlib, under matplotlib's licence, and was drawn in its first logo.
RECORD = "membrane.dat"
MILLIVOLTS = 100.0  # a unit of the file
MILLISECONDS = 0.5  # between two steps
ITERATIONS = 100
TOLERANCE = 1e-2
WINDOW = (0.70, 1.02)  # seconds drawn at large
COLOURS = (
    *("#7f8790", "#1f77b4", "#d95f02", "#e6ab02", "#1b9e77", "#7b4fa3"),
    *("#e7298a", "#8c564b", "#17becf", "#66a61e", "#a6761d", "#444444"),
)


class TimedFits(NamedTuple):
    """The best of several fits, the seconds all took, and their iterations."""

    model: object
    log_likelihood: float
    seconds: float
    n_steps: int
    n_iter: int

    @property
    def steps_per_second(self):
        """Steps times iterations, a second."""
        return self.n_steps * self.n_iter / self.seconds


class Display:
    """A progress bar that a monitor can hold: models copy monitors."""

    def __init__(self, progress, n_starts):
        self._progress = progress
        self._task = progress.add_task(
            "fastem", total=n_starts, iteration="", log_likelihood=""
        )
        self.n_iter = 0

    def __deepcopy__(self, memo):
        return self

    def begin(self):
        """Begin another start."""
        if self.n_iter:
            self._progress.advance(self._task)

    def iteration(self, n_iter, log_likelihood):
        """Show one more iteration."""
        self.n_iter += 1
        self._progress.update(
            self._task, iteration=n_iter, log_likelihood=f"{log_likelihood:,.1f}"
        )

    def end(self):
        """Fill the bar."""
        self._progress.advance(self._task)


class ShownMonitor(ConvergenceMonitor):
    """Monitor of a fit that draws iterations and log-likelihoods."""

    def __init__(self, display):
        self.display = None
        super().__init__(TOLERANCE, ITERATIONS, verbose=False)
        self.display = display

    def _reset(self):
        super()._reset()
        if self.display is not None:
            self.display.begin()

    def report(self, log_prob, objective=None, repaired=False):
        """Record and show an iteration."""
        super().report(log_prob, objective, repaired)
        self.display.iteration(self.iter, log_prob)


def decode_record(output, n_states, n_starts, seed, *, with_peer):
    """Fit a hidden Markov model to a record, report, and draw the states.

    Parameters
    ----------
    output : path-like
        PNG file to write.
    n_states : int
        States of the model.
    n_starts : int
        Starts of which the best fit is kept.
    seed : int
        Seed of the starts.
    with_peer : bool
        Whether to run the same fits with hmmlearn, where that is installed.
    """
    console = Console(highlight=False)
    X = record_features()
    console.print(
        f"{RECORD}: {len(X):,} steps of {X.shape[1]} features, "
        f"{n_states} states, {n_starts} starts",
        soft_wrap=True,
    )
    with console.status("compiling or loading kernels"):
        kernels = prepare_kernels(partial(_load_kernels, X[:1000]))

    fit = fit_fastem(X, n_states, n_starts, seed, console)
    peer = None
    if with_peer and importlib.util.find_spec("hmmlearn") is None:
        console.print("hmmlearn, whose fit would be timed beside, is not installed")
    elif with_peer:
        peer = fit_hmmlearn(X, n_states, n_starts, seed, console)
    seconds, (log_probability, path) = _timed(fit.model.decode, X)
    posterior_seconds, posterior = _timed(fit.model.predict_proba, X)

    console.print(report(kernels, fit, peer))
    console.print(
        f"best path in {1e3 * seconds:.1f} ms, log-probability {log_probability:,.1f}; "
        f"posterior in {1e3 * posterior_seconds:.1f} ms",
        soft_wrap=True,
    )
    draw_states(output, X, fit.model, path, posterior)
    console.print(f"picture written to {output}", soft_wrap=True, markup=False)


def record_features():
    """Return voltage (mV) and its slope (mV/ms) for each step of the record."""
    with get_sample_data(RECORD) as file:
        voltage = MILLIVOLTS * np.frombuffer(file.read(), np.float32).astype(float)
    return np.column_stack([voltage, np.gradient(voltage, MILLISECONDS)])


def fit_fastem(X, n_states, n_starts, seed, console):
    """Fit with fastem under a progress bar; the best of all starts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("starts"),
        TextColumn("iteration {task.fields[iteration]}"),
        TextColumn("log-likelihood {task.fields[log_likelihood]}"),
    )
    model = _model(n_states, n_init=n_starts, random_state=seed)
    with Progress(*columns, console=console) as progress:
        display = Display(progress, n_starts)
        model.monitor_ = ShownMonitor(display)
        seconds, _ = _timed(model.fit, X)
        display.end()
    return TimedFits(model, model.score(X), seconds, len(X), display.n_iter)


def fit_hmmlearn(X, n_states, n_starts, seed, console):
    """Run the same fits with hmmlearn, from the very same starts."""
    from hmmlearn import hmm

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    total, n_iter, best, best_score = 0.0, 0, None, -np.inf
    with console.status("the same fits by hmmlearn"):
        for start in starts(X, n_states, n_starts, seed):
            model = hmm.GaussianHMM(init_params="", **_settings(n_states))
            for name, value in start.items():
                setattr(model, name, value)
            seconds, _ = _timed(model.fit, X)
            total += seconds
            n_iter += model.monitor_.iter
            if (score := model.score(X)) > best_score:
                best, best_score = model, score
    return TimedFits(best, best_score, total, len(X), n_iter)


def starts(X, n_states, n_starts, seed):
    """Yield what each start of the fit began with, by attribute."""
    random_state = np.random.RandomState(seed)
    for _ in range(n_starts):
        # Without iterations a fit ends where it begins.
        model = _model(n_states, n_iter=0, random_state=random_state).fit(X)
        yield {
            "startprob_": model.startprob_,
            "transmat_": model.transmat_,
            "means_": model.means_,
            "covars_": np.diagonal(model.covars_, axis1=1, axis2=2),
        }


def report(kernels, fit, peer):
    """Return the table of seconds, speed and log-likelihood."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for heading in ("seconds", "M steps/s", "iterations", "log-likelihood"):
        table.add_column(heading, justify="right")
    table.add_row(
        "kernels, compiled" if kernels.compiled else "kernels, cached",
        f"{kernels.seconds:.2f}",
    )
    table.add_row("fastem", *_cells(fit))
    if peer is not None:
        table.add_row("hmmlearn", *_cells(peer))
        ratio = peer.seconds / fit.seconds
        difference = fit.log_likelihood - peer.log_likelihood
        table.add_row(
            "ratio, difference", f"{ratio:.1f}×", "", "", f"{difference:+.0e}"
        )
    return table


def draw_states(output, X, model, path, posterior):
    """Draw the record in the colours of its states, and their probabilities."""
    order = np.argsort(model.means_[:, 0])
    rank = np.argsort(order)  # states are numbered from the lowest voltage up
    seconds = np.arange(len(X)) * MILLISECONDS / 1000
    voltage = X[:, 0]
    figure = Figure(figsize=(12, 9), layout="constrained")
    whole, close, shares = figure.subplots(3, 1, height_ratios=(3, 4, 1.4))

    _draw_line(whole, seconds, voltage, rank[path], width=0.7)
    whole.axvspan(*WINDOW, color="black", alpha=0.09, lw=0)
    whole.set_xlim(0, seconds[-1])
    whole.set_title(
        f"A nerve cell in {len(order)} states: the most probable path through "
        f"{len(X):,} steps",
        loc="left",
        fontsize=13,
    )
    seen = (seconds >= WINDOW[0]) & (seconds <= WINDOW[1])
    _draw_line(close, seconds[seen], voltage[seen], rank[path][seen], width=2)
    close.set_title("The shaded part", loc="left", fontsize=11)
    close.tick_params(labelbottom=False)
    for axes in (whole, close):
        low, high = voltage.min(), voltage.max()
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        axes.set_ylabel("membrane potential, mV")
        axes.spines[["top", "right"]].set_visible(False)
    shares.stackplot(
        seconds[seen],
        posterior[seen][:, order].T,
        colors=[_colour(k) for k in range(len(order))],
        lw=0,
    )
    shares.set_ylim(0, 1)
    shares.set_yticks([0, 0.5, 1])
    shares.set_ylabel("probability")
    shares.set_title("Posterior probability of each state", loc="left", fontsize=11)
    shares.set_xlabel("seconds")
    for axes in (close, shares):
        axes.set_xlim(*WINDOW)
    figure.legend(
        handles=[
            Patch(color=_colour(k), label=_describe(model, state))
            for k, state in enumerate(order)
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        title="Each state's mean voltage and slope, and how long it lasts on average",
    )
    figure.savefig(output, format="png", dpi=120)


def _draw_line(axes, seconds, voltage, states, width):
    """Draw a line whose pieces have the colours of the states they lead to."""
    points = np.column_stack([seconds, voltage])
    segments = np.stack([points[:-1], points[1:]], axis=1)
    colours = [_colour(state) for state in states[1:]]
    axes.add_collection(
        LineCollection(segments, colors=colours, lw=width, capstyle="round")
    )


def _describe(model, state):
    voltage, slope = model.means_[state]
    stay = model.transmat_[state, state]
    milliseconds = MILLISECONDS / (1 - stay) if stay < 1 else np.inf
    text = f"{voltage:.0f} mV, {round(slope, 1) + 0:+.1f} mV/ms, {milliseconds:.0f} ms"
    return text.replace("-", "−")


def _colour(state):
    return COLOURS[state % len(COLOURS)]


def _load_kernels(X):
    model = _model(2, n_iter=1, random_state=0).fit(X)
    model.decode(X)
    model.predict_proba(X)


def _timed(call, *arguments):
    """Return the seconds a call took and what it returned."""
    started = time.perf_counter()
    returned = call(*arguments)
    return time.perf_counter() - started, returned


def _model(n_states, **options):
    return GaussianHMM(**{**_settings(n_states), **options})


def _settings(n_states):
    """Return the settings of all fits: no priors, so that likelihoods decide."""
    return {
        "n_components": n_states,
        "covariance_type": "diag",
        "covars_prior": 0,
        "n_iter": ITERATIONS,
        "tol": TOLERANCE,
    }


def _cells(fit):
    return (
        f"{fit.seconds:.3f}",
        f"{fit.steps_per_second / 1e6:.2f}",
        f"{fit.n_iter}",
        f"{fit.log_likelihood:,.2f}",
    )
