"""``fastem warmup``: kernels compiled before the first fit."""

import importlib.util
import sys
import time

import click
from numba.core.caching import FunctionCache

from fastem.models.mixture import FAMILIES, make_e_step
from fastem.warmup import DTYPES, MIXTURE, MODELS, warmup_steps


@click.command()
@click.option(
    "--covariance-type",
    "covariance_types",
    type=click.Choice(tuple(FAMILIES)),
    multiple=True,
    default=tuple(FAMILIES),
    help="Compile for this covariance type only; may be repeated.",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(DTYPES),
    multiple=True,
    default=DTYPES,
    help="Compile for this floating-point type only; may be repeated.",
)
@click.option(
    "--model",
    "models",
    type=click.Choice(MODELS),
    multiple=True,
    default=(MIXTURE,),
    show_default=True,
    help="Compile for this model only; may be repeated.",
)
@click.option(
    "--features",
    "n_features",
    type=click.IntRange(min=1),
    help="Leave out what rows of so many features do not need.",
)
def warmup(covariance_types, dtypes, models, n_features):
    """Compile the kernels now, so that no first fit has to wait for them."""
    steps = warmup_steps(covariance_types, dtypes, models, n_features)
    for name, build in _progress(steps):
        started = time.perf_counter()
        build()
        seconds = time.perf_counter() - started
        # Unlike click.echo, print stays clear of the progress bar below it.
        print(f"{name:<33} {seconds:6.2f} s")
    click.echo(f"kept in {_kernel_folder() or 'memory only, and lost now'}")


def _kernel_folder():
    """Return where Numba keeps a mixture's kernels, None if it can write nowhere."""
    try:
        return FunctionCache(make_e_step.__wrapped__).cache_path
    except RuntimeError:
        return None


def _progress(steps):
    """Iterate under a progress bar where there is a terminal and rich to draw it."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        return steps
    from rich.progress import track

    return track(steps, description="compiling", transient=True)
