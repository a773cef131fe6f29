"""What README shows of the comparisons: a table a section, between two markers."""

import os
import re
import shlex
import sys
from pathlib import Path

CASE_COLUMNS = ("task", "N, D, K", "K, D, T", "covariance")


def write(path, name, report, picture=None):
    """Replace what stands between ``<!-- peers:NAME -->`` and its end."""
    path = Path(path)
    text = path.read_text()
    begin, end = f"<!-- peers:{name} -->", f"<!-- /peers:{name} -->"
    marked = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if len(marked.findall(text)) != 1:
        raise ValueError(f"{path} has no text between {begin} and {end} to replace")
    block = "\n\n".join(_paragraphs(path, report, picture)) + "\n"
    path.write_text(marked.sub(lambda _: block, text))


def case_columns(rows):
    """Return the columns that tell the cases of a section apart."""
    return [column for column in CASE_COLUMNS if column in rows[0]]


def grouped(rows):
    """Return a dict of case, as a tuple, to a dict of peer to row."""
    columns = case_columns(rows)
    cases = {}
    for row in rows:
        case = tuple(str(row[column]) for column in columns)
        cases.setdefault(case, {})[row["peer"]] = row
    return cases


def _paragraphs(path, report, picture):
    for title, rows in report.sections.items():
        if not rows:  # all its peers are missing
            continue
        yield f"{title}:"
        yield _table(rows)
    if picture:
        relative = os.path.relpath(picture, path.parent)
        yield f"![How many times faster fastem is, by case and peer]({relative})"
    yield "\n".join(f"- {note}" for note in report.notes)
    command = shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]])
    yield f"Measured by\n`{command}`."


def _table(rows):
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    columns = case_columns(rows)
    lines = [[*columns, "fastem", *peers], ["---"] * (len(columns) + 1 + len(peers))]
    for case, by_peer in grouped(rows).items():
        first = next(iter(by_peer.values()))
        ours = _join(f"{first['fastem min s']:.2g} s", first.get("fastem MB"))
        lines.append([*case, ours, *(_cell(by_peer.get(peer)) for peer in peers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row):
    if row is None:
        return "–"
    ratio = "not measurable" if row["ratio"] is None else f"{row['ratio']:.3g}×"
    text = _join(ratio, row.get("peer MB"))
    return f"{text}, compiles {row['compile s']:.2g} s" if "compile s" in row else text


def _join(text, megabytes):
    return text if megabytes is None else f"{text}, {megabytes:.0f} MB"
