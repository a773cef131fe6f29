"""The ratios of a run, drawn: a panel a section, a line a case, a mark a peer."""

from pathlib import Path

from benchmarks.peers.readme import case_columns, grouped

MARKS = "osD^vP"
INCHES_PER_CASE = 0.27


def draw(path, report):
    """Write a picture of every section that has ratios."""
    from matplotlib.figure import Figure

    panels = {
        f"{title}: {' · '.join(case_columns(rows))}": grouped(rows)
        for title, rows in report.sections.items()
        if rows
    }
    peers = list(
        dict.fromkeys(row["peer"] for rows in report.sections.values() for row in rows)
    )
    heights = [len(cases) + 2 for cases in panels.values()]
    figure = Figure((8, INCHES_PER_CASE * sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(
        len(panels), sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for axis, (title, cases) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, title, cases, peers)
    axes[-1].set_xlabel("times faster than the peer (logarithmic; 1 = as fast)")
    handles = dict(
        pair[::-1]
        for axis in axes
        for pair in zip(*axis.get_legend_handles_labels(), strict=True)
    )
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _draw_panel(axis, title, cases, peers):
    for number, peer in enumerate(peers):
        points = [
            (by_peer[peer]["ratio"], line)
            for line, by_peer in enumerate(cases.values())
            if peer in by_peer and by_peer[peer]["ratio"] is not None
        ]
        if points:
            ratios, lines = zip(*points, strict=True)
            mark = MARKS[number % len(MARKS)]
            axis.plot(ratios, lines, mark, color=f"C{number}", label=peer, markersize=7)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}×")
    axis.axvline(1, color="firebrick", linewidth=1)
    axis.set_yticks(range(len(cases)), [" · ".join(case) for case in cases])
    axis.set_ylim(len(cases) - 0.5, -0.5)
    axis.grid(alpha=0.3)
    axis.set_title(title, fontsize=10, loc="left")
