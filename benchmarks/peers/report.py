"""Markdown tables that grow while things are measured, and the same rows as JSON."""

import json
from pathlib import Path

import click

_FORMATS = {"ratio": "{:.3g}x", "median ratio": "{:.3g}x", "asked": "{:g}x"}


class Report:
    """Prints sections of rows; a row is a dict of column title to value."""

    def __init__(self, machine):
        self.notes = []
        self.sections = {}
        for line in machine:
            self.note(line)

    def note(self, line):
        """Print a line of the header."""
        self.notes.append(line)
        click.echo(f"- {line}")

    def section(self, title, rows):
        """Print each row of an iterable as soon as it is there."""
        click.echo(f"\n### {title}\n")
        kept = self.sections.setdefault(title, [])
        for row in rows:
            if not kept:
                click.echo(_line(row))
                click.echo(_line("---" for _ in row))
            kept.append(row)
            click.echo(_line(_cell(column, value) for column, value in row.items()))

    def save(self, path):
        content = {"notes": self.notes, "sections": self.sections}
        Path(path).write_text(json.dumps(content, indent=2) + "\n")


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _cell(column, value):
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "NO"
        case int():
            return f"{value}"
        case float():
            return _FORMATS.get(column, "{:.4g}").format(value)
    return str(value)
