"""``fastem bench``: the kernels on this machine, against what it could do at best."""

import importlib.util
from pathlib import Path

import click

from fastem.bench.cases import cases
from fastem.bench.record import compare, differences, load, save
from fastem.bench.report import comparison, report
from fastem.bench.run import measure
from fastem.cli.common import PlainCommand, check_output, note, paragraph
from fastem.cli.progress import steps_progress


@click.command(
    cls=PlainCommand,
    epilog=paragraph(
        "Examples:",
        "fastem bench --quick",
        "fastem bench 'e-step*full' viterbi 'stage full'",
        "fastem bench --json before.json",
        "fastem bench --compare before.json --json after.json",
    ),
)
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--quick", is_flag=True, help="A tenth of the rows, fewer repeats.")
@click.option("--list", "listed", is_flag=True, help="Print the names of kernels only.")
@click.option(
    "--json",
    "saved_to",
    type=click.Path(path_type=Path),
    help="File to save what is measured in.",
)
@click.option(
    "--compare",
    "earlier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File saved by --json, to say what became slower or faster since.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="PNG file to draw rooflines into; needs matplotlib.",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
def bench(patterns, quick, listed, saved_to, earlier, picture, force):
    """Measure this machine, and fastem's kernels against its limits.

    First come the rates of a matrix product, of memory, of exponentials and the like;
    then kernels whose names have a PATTERN in them (all without one), on one thread and
    more, each as a share of what those rates allow. It takes one to two minutes, more
    where kernels have to be compiled.

    Stages of kernels, for where one is far from its limit, are measured where a PATTERN
    begins with "stage".
    """
    if listed:
        for case in cases(quick=quick):
            click.echo(case.name)
        return
    before = None if earlier is None else load(earlier)
    inputs = [] if earlier is None else [earlier]
    for path, option in ((saved_to, "--json"), (picture, "--picture")):
        if path is not None:
            check_output(path, force, inputs, option)
    if picture is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException(
            "--picture needs matplotlib; "
            'install what it needs with: pip install "fastem[demo]"'
        )
    record = measure(patterns, quick=quick, watch=steps_progress)
    if saved_to is not None:
        save(saved_to, record)
    click.echo(report(record))
    if picture is not None:
        from fastem.bench.picture import draw

        draw(picture, record)
    if before is not None:
        _print_comparison(earlier, before, record)


def _print_comparison(path, before, after):
    kernels = compare(before.kernels, after.kernels)
    if not kernels:
        raise ValueError(
            f"{path} has no kernel of the same name and rows to compare with; with "
            "--quick all have fewer rows"
        )
    click.echo(f"\nAgainst {path}\n")
    if other := differences(before.machine, after.machine):
        note(
            "Warning: another machine, whose ratios say nothing of fastem's code: "
            + "; ".join(other)
        )
    if other := differences(before.versions, after.versions):
        note(f"Other versions: {'; '.join(other)}")
    click.echo(comparison(compare(before.probes, after.probes), kernels))
