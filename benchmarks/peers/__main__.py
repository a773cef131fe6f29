"""``python -m benchmarks.peers``: fastem against other libraries, as Markdown."""

from typing import NamedTuple

import click

import fastem
from benchmarks.peers import (
    armadillo,
    dynamax_peer,
    fastem_chain,
    gmm,
    hmm,
    hmmlearn_peer,
    machine,
    mclust_peer,
    picture,
    pomegranate_peer,
    readme,
)
from benchmarks.peers.plan import Plan
from benchmarks.peers.report import Report


@click.group()
def main():
    """Compare fastem with other libraries on the same data from the same start."""


def _options(sections, case, peer):
    """Decorate a command with the options that all have."""

    def decorate(command):
        for option in reversed(
            (
                click.option("--smoke", is_flag=True, help="Tiny sizes, once."),
                click.option(
                    "--json",
                    "json_path",
                    type=click.Path(dir_okay=False, writable=True),
                    help="Where to write the rows as numbers.",
                ),
                click.option(
                    "--readme",
                    "readme_path",
                    type=click.Path(exists=True, dir_okay=False, writable=True),
                    help="Where to put the tables, between this command's markers; "
                    "without --section, those of its sections that README shows.",
                ),
                click.option(
                    "--plot",
                    type=click.Path(dir_okay=False, writable=True),
                    help="Where to draw the ratios, of the same sections.",
                ),
                click.option("--case", "cases", multiple=True, help=f"Such as {case}."),
                click.option(
                    "--section",
                    "sections",
                    multiple=True,
                    type=click.Choice(sections),
                ),
                click.option(
                    "--peer", "peers", multiple=True, help=f'Such as "{peer}".'
                ),
                click.option(
                    "--repeats",
                    type=click.IntRange(min=1),
                    default=3,
                    show_default=True,
                ),
            )
        ):
            command = option(command)
        return command

    return decorate


@main.command("gmm")
@_options(gmm.SECTIONS, '"200000,32,32 full" or "diag"', "scikit-learn")
def compare_gmm(smoke, json_path, readme_path, plot, cases, sections, peers, repeats):
    """Gaussian mixtures and k-means."""
    report = Report(machine.describe("pomegranate", "torch"))
    _note_peers(report, (armadillo, mclust_peer, pomegranate_peer))
    fastem.warmup()
    plan = Plan(1 if smoke else repeats, smoke, cases, peers)
    outputs = Outputs("gmm", json_path, readme_path, plot)
    _run(report, gmm, sections, plan, outputs)


@main.command("hmm")
@_options(hmm.SECTIONS, '"4,2,1000000", which is K, D, T', "hmmlearn")
@click.option("--long", is_flag=True, help="Memory of 100 million steps, too.")
def compare_hmm(
    smoke, json_path, readme_path, plot, cases, sections, peers, repeats, long
):
    """Hidden Markov models with Gaussian emissions, diagonal covariances."""
    report = Report(machine.describe("hmmlearn", "dynamax", "jax"))
    _note_peers(report, (hmmlearn_peer, dynamax_peer))
    for dtype in ("float64", "float32"):
        fastem_chain.warm_up(dtype)
    plan = Plan(1 if smoke else repeats, smoke, cases, peers, long)
    outputs = Outputs("hmm", json_path, readme_path, plot)
    _run(report, hmm, sections, plan, outputs)


class Outputs(NamedTuple):
    name: str
    json: str | None
    readme: str | None
    plot: str | None


def _note_peers(report, peers):
    for peer in peers:
        if reason := peer.missing():
            report.note(f"{peer.NAME} left out: {reason}")
        elif hasattr(peer, "describe"):
            report.note(peer.describe())


def _run(report, room, wanted, plan, outputs):
    shown = room.IN_README if outputs.readme or outputs.plot else room.SECTIONS
    if others := set(wanted) - set(shown):
        raise click.UsageError(f"no README table or plot of {', '.join(others)}")
    for name in wanted or shown:
        title, rows = room.SECTIONS[name]
        report.section(title, rows(plan))
    if outputs.json:
        report.save(outputs.json)
    if outputs.plot:
        picture.draw(outputs.plot, report)
    if outputs.readme:
        readme.write(outputs.readme, outputs.name, report, outputs.plot)


if __name__ == "__main__":
    main()
