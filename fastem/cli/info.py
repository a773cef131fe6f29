"""``fastem info``: what a saved model is."""

import json
import zipfile
from pathlib import Path

import click
import numpy as np

import fastem
from fastem.cli.common import ModelCommand, paragraph, print_lines, print_report
from fastem.estimators.hmm.base import BaseHMM


@click.command(
    cls=ModelCommand,
    epilog=paragraph(
        "Examples:",
        "fastem info mixture.fastem",
        "fastem info --json mixture.fastem",
    ),
)
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
def info(path, as_json):
    """Print what a model is, how it was fitted, and which fastem wrote it."""
    model = fastem.load(path)
    sizes = _sizes(model)
    names = getattr(model, "feature_names_in_", None)
    about = {
        "model": type(model).__name__,
        "written_by": f"fastem {_version(path)}",
        "fitted": bool(sizes),
        "features": getattr(model, "n_features_in_", None),
        "feature_names": None if names is None else list(names),
        **_fit_of(model),
    }
    parameters = model.get_params(deep=False)
    if as_json:
        print_report({**about, "parameters": parameters, "sizes": sizes}, as_json)
        return
    if names is not None:
        about["feature_names"] = ", ".join(names)
    print_report(about, as_json)
    for title, lines in (("parameters", parameters), ("sizes", sizes)):
        if lines:
            click.echo(f"\n{title}")
            print_lines({f"  {name}": value for name, value in lines.items()})


def _version(path):
    """Return the version of fastem that wrote a file."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("meta.json"))["fastem"]


def _sizes(model):
    """Return the shapes of fitted arrays by name."""
    return {
        name.lstrip("_"): list(value.shape)
        for name, value in vars(model).items()
        if name.endswith("_") and isinstance(value, np.ndarray) and value.dtype != "O"
    }


def _fit_of(model):
    """Return how a fit ended, as far as the model knows."""
    if isinstance(model, BaseHMM):
        monitor = model.monitor_
        if not monitor.iter:
            return {}
        return {
            "iterations": monitor.iter,
            "converged": monitor.status == "converged",
            "log_likelihood": float(monitor.history[-1]),
        }
    found = {
        "iterations": "n_iter_",
        "converged": "converged_",
        "log_likelihood_per_row": "lower_bound_",
        "inertia": "inertia_",
    }
    return {
        name: getattr(model, attribute)
        for name, attribute in found.items()
        if hasattr(model, attribute)
    }
