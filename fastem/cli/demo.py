"""``fastem demo``: what fits look like on real data, beside their peers."""

import importlib.util
from pathlib import Path

import click

from fastem.cli.common import check_writable

DEMO_EXTRA = ("matplotlib", "PIL", "rich")


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


@click.group(invoke_without_command=True)
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
    check_writable(output, "'--output'")
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
    check_writable(output, "'--output'")
    _check_extra()
    from fastem.demo_chain import decode_record

    decode_record(output, states, starts, seed, with_peer=peer)


@demo.command()
@_output_option("fastem-demo-stream.png", "segments of two photographs")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep the rows in, and the fit as far as it has come, from where "
    "the same command goes on; a temporary one by default.",
)
@click.option(
    "--rows",
    type=click.IntRange(1000),
    default=25_000_000,
    show_default=True,
    help="Rows to write and fit to, of 32 bytes each.",
)
@click.option(
    "--components",
    type=click.IntRange(1, 64),
    default=12,
    show_default=True,
    help="Components of the mixture, hence segments of the pictures.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the rows and of the start.",
)
def stream(output, folder, rows, components, seed):
    """Fit a mixture to more pixels than need be in memory."""
    check_writable(output, "'--output'")
    _check_extra()
    from fastem.demo_stream import fit_larger_than_memory

    try:
        fit_larger_than_memory(output, folder, rows, components, seed)
    except OSError as error:
        raise click.ClickException(str(error)) from error
