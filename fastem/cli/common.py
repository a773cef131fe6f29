"""What the commands on models share: errors, outputs, reports."""

import json
import math
import sys
import tempfile
import warnings
from contextlib import contextmanager

import click
import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

_BAD_DATA = ValueError, OSError, ImportError, MemoryError
_TABLES = ".npy", ".parquet"

_LABELS = {
    "bic": "BIC",
    "log_likelihood": "log-likelihood",
    "log_likelihood_per_row": "log-likelihood per row",
    "log_probability": "log-probability",
}


class Interrupted(click.ClickException):
    """Ctrl-C, with one line of what comes of it."""

    exit_code = INTERRUPTED

    def show(self, file=None):
        """Print the line below whatever Ctrl-C's echo left on the terminal's."""
        click.echo(f"\n{self.message}", err=True)


class PlainCommand(click.Command):
    """A command that shows bad data, bad files and warnings as one line each.

    It has the option ``--debug``.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, help="Show where in the code errors arise."
            )
        )

    def invoke(self, ctx):
        """Run the command."""
        debug = ctx.params.pop("debug")
        with _plain_warnings():
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # click's to handle
            except _BAD_DATA as error:
                if debug:
                    raise
                if isinstance(error, InvalidParameterError):
                    raise click.UsageError(_one_line(error), ctx) from error
                raise click.ClickException(_one_line(error)) from error


class ModelCommand(PlainCommand):
    """A plain command with ``--json``, which its function gets as ``as_json``."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.params.insert(
            -1,
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help="Print the report as one JSON object.",
            ),
        )


def paragraph(title, *lines):
    """Return what help shows as it is: a title and lines below it."""
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


def print_report(report, as_json):
    """Print names and values as JSON, or on lines but for those that are None."""
    if as_json:
        click.echo(json.dumps(_plain(report)))
        return
    print_lines(
        {
            _LABELS.get(name, name.replace("_", " ")): _text(value)
            for name, value in report.items()
            if value is not None
        }
    )


def print_lines(texts):
    """Print labels and texts in two columns."""
    width = max(map(len, texts))
    for label, text in texts.items():
        click.echo(f"{label:<{width}}  {text}")


def note(message):
    """Print a line to standard error."""
    # Unlike click.echo, print stays clear of a progress bar.
    print(message, file=sys.stderr)


def check_output(path, force, inputs=(), option="--out"):
    """Refuse an output that is there already, or is an input, or cannot be written."""
    hint = f"'{option}'"
    for other in inputs:
        if path.exists() and path.samefile(other):
            raise click.BadParameter(f"{path} is read, too", param_hint=hint)
    if path.exists() and not force:
        raise click.BadParameter(
            f"{path} exists already; --force replaces it", param_hint=hint
        )
    check_writable(path, hint)


def check_table(path):
    """Refuse the name of an output of rows that is neither .npy nor .parquet."""
    if path.suffix.lower() not in _TABLES:
        raise click.BadParameter(
            f"the name of {path} should end in {' or '.join(_TABLES)}",
            param_hint="'--out'",
        )


def check_writable(path, option):
    """Refuse a path that cannot be written now, not after minutes of work."""
    if path.exists() and not path.is_file():
        raise click.BadParameter(
            f"cannot write {path}: it is no regular file", param_hint=option
        )
    try:
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
        # Most files are written beside the old one, which they replace at the end.
        tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        raise click.BadParameter(
            f"cannot write {path}: {error.strerror}", param_hint=option
        ) from error


def _plain(value):
    """Return a value as JSON has it, which knows no numbers that are not finite."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return type(value).__name__


def _text(value):
    """Return a value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.10g}"
    return str(value)


def _one_line(error):
    """Return what an exception says, with its notes, on one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:
            text = f"{error.filename}: {text}"
    return " ".join("; ".join([text, *getattr(error, "__notes__", ())]).split())


@contextmanager
def _plain_warnings():
    """Show warnings as one line each; those for users whatever Python's filters say."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        yield


def _show_warning(message, category, filename, lineno, file=None, line=None):
    note(f"Warning: {' '.join(str(message).split())}")
