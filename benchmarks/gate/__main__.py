"""``python -m benchmarks.gate``: is HEAD slower than where it left main?

Exit codes: 0, no; 1, a case is slower or its results differ; 3, there is no base.
"""

import math
import random
import signal
import sys
import tempfile
import time
from statistics import median

import click

from benchmarks.gate import process, versions
from benchmarks.gate.cases import CASES
from benchmarks.gate.process import ROOT, Broken
from benchmarks.gate.verdicts import (
    ALPHA,
    NOT_SLOWER,
    REST_SECONDS,
    RULED_OUT,
    SLOWER,
    TOLERATED,
    estimate,
    gather,
    log_ratios,
    same_results,
)
from benchmarks.peers.report import Report

NO_BASE = 3
# Pairs of new processes, each of which must find again what one found slower: by where
# its memory lay, one pair in thirty found unchanged code slower by 12 to 23 %.
CONFIRMATIONS = 3
BASE, HEAD = 0, 1
SEED = 0
CLOCKS = {
    name: "wall" if case.threads is None else "cpu" for name, case in CASES.items()
}


@click.command()
@click.option("--base", help="Compare with this revision.  [default: merge base]")
@click.option("--case", "cases", multiple=True, type=click.Choice(CASES))
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds to time, and as many for each confirmation of what looks slower.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Folder that keeps versions and their compiled kernels.",
)
@click.option("--force", is_flag=True, help="Time also where the package is the same.")
@click.option(
    "--compile",
    "compile_only",
    is_flag=True,
    help="Time nothing, but leave compiled kernels in --cache.",
)
def main(base, cases, budget, cache, force, compile_only):
    """Compare the speed of this checkout's fastem with that of an earlier commit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and clean up
    try:
        failed = judge_checkout(
            base, cases or tuple(CASES), budget, cache, force, compile_only
        )
    except versions.NoBase as error:
        click.echo(error, err=True)
        sys.exit(NO_BASE)
    sys.exit(failed)


def judge_checkout(base, cases, budget, cache, force, compile_only):
    """Report on this checkout; say whether a case is at fault unintended."""
    revision = versions.find_base(ROOT, base)
    changed = versions.changed_files(ROOT, revision)
    accepted = versions.accepted(ROOT, revision)
    report = Report([f"base {revision[:12]}, {len(changed)} files of fastem/ differ"])
    if not changed and not force:
        report.note("the same code is as fast: passed without timing")
        return False
    with tempfile.TemporaryDirectory(prefix="fastem-gate-") as scratch:
        folders = versions.check_out(ROOT, revision, cache or scratch), ROOT
        if compile_only:
            with process.running(folders) as running:
                prepare(report, running, cases, [])
            return False
        faults = compare(report, folders, cases, budget)
    intended = accepted & set(faults)
    for case in sorted(intended):
        report.note(f"{case}: accepted by {versions.ACCEPTED} in a commit")
    failed = [case for case in faults if case not in intended]
    report.note(f"FAILED: {', '.join(failed)}" if failed else "passed")
    return bool(failed)


def compare(report, folders, cases, budget):
    """Report on the cases; return those at fault, in order."""
    faults = []
    with process.running(folders) as running:
        comparable = prepare(report, running, cases, faults)
        evidence = timed(running, comparable, budget)
        suspects = [case for case in evidence if suspicious(evidence[case])]
        if running[HEAD].no_counter:
            report.note(f"instructions not counted: {running[HEAD].no_counter}")
    report.note(
        f"{SLOWER}: by more than {math.expm1(TOLERATED):.0%}; {NOT_SLOWER}: not by "
        f"{math.expm1(RULED_OUT):.0%}; of any case, with an error of {ALPHA:.0%} each"
    )
    report.section("HEAD against base", rows(evidence))
    for attempt in range(1, CONFIRMATIONS + 1):
        if not suspects:
            break
        with process.running(folders) as running:
            prepare(report, running, suspects, [])
            again = timed(running, suspects, budget)
        report.section(f"What may be slower, in new processes, {attempt}", rows(again))
        suspects = [case for case in suspects if again[case].verdict == SLOWER]
    return list(dict.fromkeys(faults + suspects))


def suspicious(evidence):
    """Say whether to measure a case once more.

    Chance, or where memory happens to lie, seldom makes a case look slower twice.
    """
    return evidence.verdict != NOT_SLOWER and evidence.bounds.estimate > TOLERATED


def prepare(report, running, cases, faults):
    """Compile and compare results; return the cases that can be timed."""
    comparable = []
    for case in cases:
        for version in running:  # both compile at once
            version.ask(case)
        answers = []
        for version in running:
            try:
                answers.append(version.answer())
            except Broken as error:
                answers.append(error)
        base, head = answers
        if isinstance(head, Broken):
            report.note(f"{case}: HEAD cannot: {head}")
            faults.append(case)
        elif isinstance(base, Broken):
            report.note(f"{case}: left out, base cannot: {base}")
        else:
            comparable.append(case)
            if not same_results(base["figures"], head["figures"]):
                report.note(
                    f"{case}: RESULTS DIFFER: {base['figures']} at base, "
                    f"{head['figures']} now"
                )
                faults.append(case)
    return comparable


def timed(running, cases, budget):
    """Return the evidence of each case, gathered within so many seconds."""

    def measure(version, case, core):
        time.sleep(REST_SECONDS)
        running[version].ask(case, core)
        return running[version].answer()

    end = time.monotonic() + budget
    clocks = {case: CLOCKS[case] for case in cases}
    return gather(
        clocks,
        measure,
        lambda: time.monotonic() > end,
        random.Random(SEED),
        process.cores(),
    )


def rows(evidence):
    """Yield what a table says of each case."""
    for case, (rounds, bounds, verdict) in evidence.items():
        clock = CLOCKS[case]
        yield {
            "case": case,
            "clock": clock,
            "rounds": len(rounds),
            "base (ms)": 1e3 * median(t[clock] for r in rounds for t in r[:2]),
            "change": _percent(bounds.estimate),
            "between": f"{_percent(bounds.low)} and {_percent(bounds.high)}",
            "wall clock": _percent(estimate(log_ratios(rounds, "wall"))),
            "instructions": _percent(instructions(rounds)),
            "verdict": verdict,
        }


def instructions(rounds):
    """Return the logarithm of HEAD's count to base's, infinite if nothing counts."""
    if not rounds or rounds[0][0]["instructions"] is None:
        return math.inf
    return estimate(log_ratios(rounds, "instructions"))


def _percent(log_ratio):
    return f"{math.expm1(log_ratio):+.1%}" if math.isfinite(log_ratio) else "-"


if __name__ == "__main__":
    main()
