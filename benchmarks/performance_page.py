"""Measures what docs/performance.md shows and writes it between the marks there.

Run ``python -m benchmarks.performance_page`` on a machine that does nothing else.
"""

from pathlib import Path

from fastem.bench.report import report
from fastem.bench.run import measure

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
# What is measured, by the marks that its tables stand between.
PARTS = {"bench": [], "bench stage": ["stage"]}


def main():
    for mark, patterns in PARTS.items():
        tables = report(measure(patterns))
        PAGE.write_text(_put(PAGE.read_text(), mark, tables))
        print(f"{PAGE}: {mark}")


def _put(page, mark, tables):
    """Return the page with other tables between the marks."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{PAGE} has no {begin.strip()} with {end} after it")
    return f"{before}{begin}\n{tables}\n\n{end}{after}"


if __name__ == "__main__":
    main()
