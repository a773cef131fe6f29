"""``python -m benchmarks.peers``: fastem against other libraries, as Markdown."""

import click

import fastem
from benchmarks.peers import armadillo, gmm, machine, pomegranate_peer
from benchmarks.peers.gmm.plan import Plan
from benchmarks.peers.report import Report


@click.group()
def main():
    """Compare fastem with other libraries on the same data from the same start."""


@main.command("gmm")
@click.option("--smoke", is_flag=True, help="Tiny sizes, once: checks agreement.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, writable=True))
@click.option(
    "--case", "cases", multiple=True, help='Such as "200000,32,32 full" or "diag".'
)
@click.option("--section", "sections", multiple=True, type=click.Choice(gmm.SECTIONS))
@click.option("--peer", "peers", multiple=True, help='Such as "scikit-learn".')
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
def compare_gmm(smoke, json_path, cases, sections, peers, repeats):
    """Gaussian mixtures and k-means."""
    report = Report(machine.describe())
    for peer in (armadillo, pomegranate_peer):
        if reason := peer.missing():
            report.note(f"{peer.NAME} left out: {reason}")
    fastem.warmup()
    plan = Plan(1 if smoke else repeats, smoke, cases, peers)
    for name in sections or gmm.SECTIONS:
        title, rows = gmm.SECTIONS[name]
        report.section(title, rows(plan))
    if json_path:
        report.save(json_path)


if __name__ == "__main__":
    main()
