"""``fastem predict``, ``score``, ``decode``, ``sample``: answers of a saved model."""

from pathlib import Path

import click

import fastem
from fastem.cli.common import (
    ModelCommand,
    check_output,
    check_table,
    paragraph,
    print_report,
)
from fastem.cli.progress import rows_progress
from fastem.cli.rows import open_rows, source_options, watched
from fastem.data.outputs import open_output
from fastem.estimators.hmm.base import BaseHMM
from fastem.estimators.hmm.inference import ALGORITHMS
from fastem.estimators.rows import check_features

_model_argument = click.argument(
    "path", metavar="MODEL", type=click.Path(path_type=Path)
)
_force_option = click.option(
    "--force", is_flag=True, help="Replace an output that is there already."
)


def _out_option(what, required=True):
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=required,
        help=f".npy or .parquet file to write {what} to.",
    )


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Examples:",
        "fastem predict mixture.fastem rows.npy --out labels.npy",
        "fastem predict mixture.fastem 'parts/*.parquet' --proba --out proba.parquet",
    ),
)
@_model_argument
@source_options
@_out_option("labels")
@click.option(
    "--proba",
    is_flag=True,
    help="Write the probability of each component or state instead.",
)
@_force_option
def predict(
    path, source, columns, sequence_column, block_rows, out, proba, force, as_json
):
    """Write the component, cluster or state of each row of SOURCE."""
    check_table(out)
    model = fastem.load(path)
    if proba and isinstance(model, fastem.KMeans):
        raise click.UsageError("--proba does not go with k-means")
    rows = _open(model, source, columns, sequence_column, block_rows)
    check_output(out, force, [path, *(file.path for file in rows.files)])
    with rows_progress("predict", rows.n_rows) as on_rows:
        rows = watched(rows, on_rows)
        (model.predict_proba if proba else model.predict)(rows, out=out)
    print_report(_about(model, rows, saved_to=str(out)), as_json)


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Examples:",
        "fastem score mixture.fastem rows.npy",
        "fastem score mixture.fastem rows.npy --per-row --out scores.npy",
    ),
)
@_model_argument
@source_options
@click.option(
    "--per-row",
    is_flag=True,
    help="Write the log-likelihood of each row to --out; mixtures only.",
)
@_out_option("log-likelihoods of rows", required=False)
@_force_option
def score(
    path, source, columns, sequence_column, block_rows, per_row, out, force, as_json
):
    """Print how well a model fits the rows of SOURCE.

    Of a mixture that is the mean log-likelihood of a row, of a hidden Markov model the
    log-likelihood of all sequences together, of k-means the inertia.
    """
    if per_row != (out is not None):
        raise click.UsageError("--per-row and --out go together")
    model = fastem.load(path)
    if per_row and not isinstance(model, fastem.GaussianMixture):
        raise click.UsageError("--per-row goes with mixtures only")
    rows = _open(model, source, columns, sequence_column, block_rows)
    if per_row:
        check_table(out)
        check_output(out, force, [path, *(file.path for file in rows.files)])
    with rows_progress("score", rows.n_rows) as on_rows:
        rows = watched(rows, on_rows)
        if per_row:
            model.score_samples(rows, out=out)
            found = {"saved_to": str(out)}
        elif isinstance(model, fastem.KMeans):
            found = {"inertia": -float(model.score(rows))}
        elif isinstance(model, BaseHMM):
            found = {"log_likelihood": float(model.score(rows))}
        else:
            found = {"log_likelihood_per_row": float(model.score(rows))}
    print_report(_about(model, rows, **found), as_json)


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Example:",
        "fastem decode chain.fastem events.parquet --sequence-column trip \\\\",
        "    --out states.npy",
    ),
)
@_model_argument
@source_options
@_out_option("states")
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    help="The most probable path, or the most probable state of each row alone; "
    "without, what the model was made for.",
)
@_force_option
def decode(
    path, source, columns, sequence_column, block_rows, out, algorithm, force, as_json
):
    """Write the states of a hidden Markov model behind the rows of SOURCE."""
    check_table(out)
    model = fastem.load(path)
    if not isinstance(model, BaseHMM):
        raise click.UsageError(
            f"{path} is a {type(model).__name__}; only hidden Markov models decode, "
            "others predict"
        )
    rows = _open(model, source, columns, sequence_column, block_rows)
    check_output(out, force, [path, *(file.path for file in rows.files)])
    algorithm = algorithm or model.algorithm
    with rows_progress("decode", rows.n_rows) as on_rows:
        rows = watched(rows, on_rows)
        log_probability, _ = model.decode(rows, algorithm=algorithm, out=out)
    found = {"algorithm": algorithm, "saved_to": str(out)}
    if algorithm == "viterbi":
        found["log_probability"] = float(log_probability)
    print_report(_about(model, rows, **found), as_json)


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Example:",
        "fastem sample mixture.fastem -n 1000 --seed 0 --out rows.npy",
    ),
)
@_model_argument
@click.option(
    "-n",
    "--n-rows",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Rows to draw.",
)
@_out_option("rows")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@_force_option
def sample(path, n_rows, out, seed, force, as_json):
    """Write rows drawn from a model.

    Those of a mixture come component by component, those of a hidden Markov model are
    one sequence.
    """
    check_table(out)
    model = fastem.load(path)
    if not hasattr(model, "sample"):
        raise click.UsageError(f"nothing can be drawn from {type(model).__name__}")
    check_output(out, force, [path])
    X, _ = model.set_params(random_state=seed).sample(n_rows)
    names = getattr(model, "feature_names_in_", None)
    with open_output(out, n_rows, X.shape[1], X.dtype, names) as output:
        output.write(X)
    print_report(
        {
            "model": type(model).__name__,
            "rows": n_rows,
            "features": X.shape[1],
            "saved_to": str(out),
        },
        as_json,
    )


def _open(model, source, columns, sequence_column, block_rows):
    """Return a source of the rows that a model is asked about."""
    names = getattr(model, "feature_names_in_", None)
    rows = open_rows(source, columns, sequence_column, block_rows, fitted_names=names)
    check_features(model, rows, reset=False)
    return rows


def _about(model, rows, **found):
    return {"model": type(model).__name__, "rows": rows.n_rows, **found}
