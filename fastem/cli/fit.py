"""``fastem fit``: a model of the rows of files."""

import math
import time
from pathlib import Path

import click
import numpy as np

import fastem
from fastem.cli.common import (
    Interrupted,
    ModelCommand,
    check_output,
    check_writable,
    note,
    paragraph,
    print_report,
)
from fastem.cli.progress import fit_progress
from fastem.cli.rows import open_rows, source_options
from fastem.estimators.hmm.base import BaseHMM
from fastem.models.mixture import FAMILIES

NOT_CONVERGED = 3

MODELS = {
    "gaussian-mixture": fastem.GaussianMixture,
    "kmeans": fastem.KMeans,
    "gaussian-hmm": fastem.GaussianHMM,
    "poisson-hmm": fastem.PoissonHMM,
    "categorical-hmm": fastem.CategoricalHMM,
    "multinomial-hmm": fastem.MultinomialHMM,
    "gmm-hmm": fastem.GMMHMM,
}

# What options are to each class; one that is not here does not go with it.
_STARTS = {"tol": "tol", "n_init": "n_init", "seed": "random_state"}
_CHAIN = {
    **_STARTS,
    "components": "n_components",
    "max_iter": "n_iter",
    "algorithm": "fit_algorithm",
}
_GAUSSIANS = {**_CHAIN, "covariance": "covariance_type", "reg_covar": "min_covar"}
_PARAMETERS = {
    fastem.GaussianMixture: {
        **_STARTS,
        "components": "n_components",
        "max_iter": "max_iter",
        "covariance": "covariance_type",
        "reg_covar": "reg_covar",
        "init": "init_params",
        "algorithm": "algorithm",
    },
    fastem.KMeans: {
        **_STARTS,
        "components": "n_clusters",
        "max_iter": "max_iter",
        "init": "init",
    },
    fastem.GaussianHMM: _GAUSSIANS,
    fastem.PoissonHMM: _CHAIN,
    fastem.CategoricalHMM: _CHAIN,
    fastem.MultinomialHMM: _CHAIN,
    fastem.GMMHMM: {**_GAUSSIANS, "n_mix": "n_mix"},
}


class _ModelName(click.Choice):
    """The name of a model, or of its class."""

    def convert(self, value, param, ctx):
        classes = {model.__name__: name for name, model in MODELS.items()}
        return super().convert(classes.get(value, value), param, ctx)


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Examples:",
        "fastem fit rows.npy -k 16 --out mixture.fastem",
        "fastem fit 'parts/*.parquet' --columns x,y,z -k 16 --covariance diag \\",
        "    --checkpoint fit.ckpt --out mixture.fastem",
        "fastem fit events.parquet --model gaussian-hmm --sequence-column trip \\",
        "    -k 4 --out chain.fastem",
    ),
)
@source_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to save the model to.",
)
@click.option(
    "-k",
    "--components",
    type=click.IntRange(min=1),
    required=True,
    help="Components, clusters or states.",
)
@click.option(
    "--model",
    type=_ModelName(tuple(MODELS)),
    default="gaussian-mixture",
    show_default=True,
    help="What to fit; names of classes will do, too.",
)
@click.option(
    "--covariance",
    type=click.Choice(tuple(FAMILIES)),
    help="Kind of covariance of Gaussians.",
)
@click.option(
    "--n-mix", type=click.IntRange(min=1), help="Gaussians in each state of a gmm-hmm."
)
@click.option(
    "--tol", type=click.FloatRange(min=0), help="Change at which iterations stop."
)
@click.option(
    "--max-iter", type=click.IntRange(min=1), help="Largest number of iterations."
)
@click.option(
    "--n-init",
    type=click.IntRange(min=1),
    help="Starts, of which the best is kept.",
)
@click.option(
    "--reg-covar",
    type=click.FloatRange(min=0),
    help="Added to the variances of a mixture; in HMMs, the smallest variance.",
)
@click.option("--init", help="How starts of mixtures and k-means are drawn.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the starts.",
)
@click.option(
    "--algorithm",
    type=click.Choice(("batch", "minibatch")),
    help="All rows for each step of a mixture or HMM, or a batch of them.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help=".npy file of a weight for each row; not for HMMs.",
)
@click.option(
    "--dtype",
    type=click.Choice(("float64", "float32")),
    help="What rows become; without, they stay what they are.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="File to keep the fit in on the way. If it is there already, the fit goes on "
    "from it, to the same bits as if never interrupted.",
)
@click.option("--resume", is_flag=True, help="Refuse to begin: go on, or fail.")
@click.option(
    "--require-convergence",
    is_flag=True,
    help="Exit with 3 if the fit did not converge. The model is saved all the same.",
)
@click.option("--force", is_flag=True, help="Replace a model that is there already.")
@click.pass_context
def fit(
    context,
    source,
    columns,
    sequence_column,
    block_rows,
    out,
    model,
    weights,
    dtype,
    checkpoint,
    resume,
    require_convergence,
    force,
    as_json,
    **given,
):
    """Fit a model to the rows of SOURCE, and save it.

    SOURCE is a .npy or Parquet file, a folder of such, or a glob in quotes. It may be
    larger than memory: it is read block by block, once an iteration.

    The log-likelihood and BIC that are reported are those of the last iteration,
    before its last step.
    """
    estimator = _make_estimator(model, given)
    is_chain = isinstance(estimator, BaseHMM)
    if weights is not None and is_chain:
        raise click.UsageError(f"--weights does not go with --model {model}")
    if resume and checkpoint is None:
        raise click.UsageError("--resume needs --checkpoint: what to go on from")
    rows = open_rows(source, columns, sequence_column, block_rows, dtype=dtype)
    read = [file.path for file in rows.files] + ([weights] if weights else [])
    check_output(out, force, read)
    resumed = _check_checkpoint(checkpoint, resume, [*read, out])
    weight = None if weights is None else _read_weights(weights)
    if is_chain:
        train = _fit_chain
    else:
        train = _fit_kmeans if model == "kmeans" else _fit_mixture
    started = time.perf_counter()
    try:
        found = train(estimator, rows, weight, checkpoint)
        estimator.save(out)
    except KeyboardInterrupt:
        kept = checkpoint is not None and checkpoint.exists()
        more = f" {checkpoint} keeps the fit: the same command goes on from there."
        raise Interrupted("Interrupted." + more * kept) from None
    print_report(
        {
            "model": type(estimator).__name__,
            "rows": rows.n_rows,
            "features": rows.n_features,
            **found,
            "seconds": round(time.perf_counter() - started, 3),
            "resumed": resumed,
            "saved_to": str(out),
        },
        as_json,
    )
    if require_convergence and not found["converged"]:
        note(f"The fit did not converge in {found['iterations']} iterations.")
        context.exit(NOT_CONVERGED)


def _make_estimator(name, given):
    """Return the model that is asked for, refusing options that are not for it."""
    estimator = MODELS[name]
    given = {option: value for option, value in given.items() if value is not None}
    names = _PARAMETERS[estimator]
    for option in given:
        if option not in names:
            flag = option.replace("_", "-")
            raise click.UsageError(f"--{flag} does not go with --model {name}")
    return estimator(**{names[option]: value for option, value in given.items()})


def _check_checkpoint(path, resume, others):
    """Return whether there is a checkpoint to go on from, and say so."""
    if path is None:
        return False
    if any(path.absolute() == other.absolute() for other in others):
        raise click.UsageError(f"--checkpoint needs a file of its own, not {path}")
    if path.exists():
        note(f"Going on from {path}.")
        return True
    if resume:
        raise FileNotFoundError(f"there is no checkpoint {path} to go on from")
    check_writable(path, "'--checkpoint'")
    return False


def _read_weights(path):
    """Return a weight for each row."""
    weight = np.load(path, mmap_mode="r")
    if not isinstance(weight, np.ndarray) or weight.dtype.kind not in "biuf":
        raise ValueError(f"{path} should be a .npy file of numbers")
    return weight


def _fit_mixture(estimator, rows, weight, checkpoint):
    with fit_progress(estimator.max_iter) as monitor:
        estimator._fit(rows, weight, checkpoint, monitor=monitor)
    total = rows.n_rows if weight is None else float(np.sum(weight, dtype=np.float64))
    return _likelihood(
        estimator.n_iter_,
        estimator.converged_,
        estimator.lower_bound_ * total,
        total,
        estimator._n_parameters(),
    )


def _fit_kmeans(estimator, rows, weight, checkpoint):
    with fit_progress(estimator.max_iter, "inertia") as monitor:
        estimator._fit(rows, weight, checkpoint, monitor=monitor)
    return {
        "iterations": estimator.n_iter_,
        "converged": estimator.n_iter_ < estimator.max_iter,
        "inertia": float(estimator.inertia_),
    }


def _fit_chain(estimator, rows, weight, checkpoint):
    with fit_progress(estimator.n_iter) as monitor:
        estimator._fit(rows, checkpoint=checkpoint, monitor=monitor)
    record = estimator.monitor_
    return _likelihood(
        record.iter,
        record.status == "converged",
        record.history[-1],
        rows.n_rows,
        sum(estimator._n_scalars().values()),
    )


def _likelihood(n_iter, converged, log_likelihood, weight, n_parameters):
    return {
        "iterations": int(n_iter),
        "converged": bool(converged),
        "log_likelihood_per_row": float(log_likelihood / weight),
        "bic": float(-2 * log_likelihood + n_parameters * math.log(weight)),
    }
