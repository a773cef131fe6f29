"""The command line: ``fastem``, or ``python -m fastem`` where it is not installed."""

import click

import fastem
from fastem.cli import bench, demo, fit, infer, info, warmup
from fastem.cli.common import Interrupted, paragraph


class _Commands(click.Group):
    """A group of commands that Ctrl-C ends with one line instead of a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("Interrupted.") from None


@click.group(
    cls=_Commands,
    epilog=paragraph(
        "Exit codes:",
        "0    all is well",
        "1    data or a file is not what it should be",
        "2    the command was used wrongly",
        "3    a fit did not converge, though --require-convergence was given",
        "130  Ctrl-C",
    ),
)
@click.version_option(fastem.__version__, prog_name="fastem")
def main():
    """Expectation-maximization with Numba kernels."""


for command in (
    fit.fit,
    infer.predict,
    infer.score,
    infer.decode,
    infer.sample,
    info.info,
    warmup.warmup,
    bench.bench,
    demo.demo,
):
    main.add_command(command)
