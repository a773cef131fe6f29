"""``python -m benchmarks.peers``: fastem against other libraries, as Markdown."""

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
    pomegranate_peer,
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
def compare_gmm(smoke, json_path, cases, sections, peers, repeats):
    """Gaussian mixtures and k-means."""
    report = Report(machine.describe())
    _note_missing(report, (armadillo, pomegranate_peer))
    fastem.warmup()
    plan = Plan(1 if smoke else repeats, smoke, cases, peers)
    _run(report, gmm.SECTIONS, sections, plan, json_path)


@main.command("hmm")
@_options(hmm.SECTIONS, '"4,2,1000000", which is K, D, T', "hmmlearn")
@click.option("--long", is_flag=True, help="Memory of 100 million steps, too.")
def compare_hmm(smoke, json_path, cases, sections, peers, repeats, long):
    """Hidden Markov models with Gaussian emissions, diagonal covariances."""
    report = Report(machine.describe("hmmlearn", "dynamax", "jax"))
    _note_missing(report, (hmmlearn_peer, dynamax_peer))
    for dtype in ("float64", "float32"):
        fastem_chain.warm_up(dtype)
    plan = Plan(1 if smoke else repeats, smoke, cases, peers, long)
    _run(report, hmm.SECTIONS, sections, plan, json_path)


def _note_missing(report, peers):
    for peer in peers:
        if reason := peer.missing():
            report.note(f"{peer.NAME} left out: {reason}")


def _run(report, all_sections, wanted, plan, json_path):
    for name in wanted or all_sections:
        title, rows = all_sections[name]
        report.section(title, rows(plan))
    if json_path:
        report.save(json_path)


if __name__ == "__main__":
    main()
