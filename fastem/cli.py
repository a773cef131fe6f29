"""The command line: ``fastem``, or ``python -m fastem`` where it is not installed."""

import importlib.util
import sys
import time
from pathlib import Path

import click
from numba.core.caching import FunctionCache

import fastem
from fastem.models.mixture import FAMILIES, make_e_step
from fastem.warmup import DTYPES, MIXTURE, MODELS, warmup_steps

DEMO_EXTRA = ("matplotlib", "PIL", "rich")
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


class _Commands(click.Group):
    """A group of commands that Ctrl-C ends with one line instead of a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Commands)
@click.version_option(fastem.__version__, prog_name="fastem")
def main():
    """Expectation-maximization with Numba kernels."""


def _check_writable(path):
    """Refuse a path that cannot be written now, not after minutes of work."""
    try:
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise click.BadParameter(
            f"cannot write {path}: {error.strerror}", param_hint="'--output'"
        ) from error


def _check_extra():
    """Refuse to run a demo without what it needs."""
    missing = [name for name in DEMO_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the demo needs {', '.join(missing)}; "
            'install what it needs with: pip install "fastem[demo]"'
        )


def _output_option(default, what):
    return click.option(
        "--output",
        type=click.Path(path_type=Path),
        default=default,
        show_default=True,
        help=f"PNG file to draw the {what} into.",
    )


_seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the starts, which both libraries share.",
)


def _peer_option(library):
    return click.option(
        "--peer/--no-peer",
        default=True,
        show_default=True,
        help=f"Run the same fit with {library} too.",
    )


@main.group(invoke_without_command=True)
@_output_option("fastem-demo.png", "segmentation")
@click.option(
    "--components",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Components of the mixture, hence segments of the picture.",
)
@_seed_option
@click.option(
    "--downscale",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Take every n-th pixel of every n-th line only.",
)
@_peer_option("scikit-learn")
@click.pass_context
def demo(context, output, components, seed, downscale, peer):
    """Segment a photograph with a mixture of full-covariance Gaussians.

    With a command, show something else.
    """
    if context.invoked_subcommand is not None:
        return
    _check_writable(output)
    _check_extra()
    from fastem.demo import segment_photograph

    segment_photograph(output, components, seed, downscale, with_peer=peer)


@demo.command()
@_output_option("fastem-demo-chain.png", "states")
@click.option(
    "--states",
    type=click.IntRange(2, 12),
    default=4,
    show_default=True,
    help="States of the model.",
)
@click.option(
    "--starts",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="Starts of which the best fit is kept.",
)
@_seed_option
@_peer_option("hmmlearn, where it is installed,")
def chain(output, states, starts, seed, peer):
    """Decode the record of a nerve cell with a hidden Markov model."""
    _check_writable(output)
    _check_extra()
    from fastem.demo_chain import decode_record

    decode_record(output, states, starts, seed, with_peer=peer)


@main.command()
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
def warmup(covariance_types, dtypes, models):
    """Compile the kernels now, so that no first fit has to wait for them."""
    for name, build in _progress(warmup_steps(covariance_types, dtypes, models)):
        started = time.perf_counter()
        build()
        seconds = time.perf_counter() - started
        # Unlike click.echo, print stays clear of the progress bar below it.
        print(f"{name:<31} {seconds:6.2f} s")
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
