"""Which commit to compare with, and its package in a folder of its own."""

import io
import subprocess
import zipfile
from pathlib import Path

MAINS = ("main", "origin/main")
ACCEPTED = "Gate-accepts"


class NoBase(Exception):
    """There is no commit to compare with."""


def git(root, *arguments, text=True):
    """Return what a git command prints."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=text)
    except FileNotFoundError:
        raise NoBase("git is not installed") from None
    if done.returncode:
        error = done.stderr if text else done.stderr.decode()
        raise NoBase(f"git {' '.join(arguments)}: {error.strip() or 'found nothing'}")
    return done.stdout.strip() if text else done.stdout


def find_base(root, revision=None):
    """Return the commit to compare HEAD with.

    It is the revision, if one is given; else where HEAD left main, ours or origin's,
    whichever is nearer; else, where both hold HEAD already, HEAD's first parent.
    """
    if revision:
        return commit(root, revision)
    mains = [name for name in MAINS if _is(root, "rev-parse", "--verify", "-q", name)]
    left = [
        name
        for name in mains
        if not _is(root, "merge-base", "--is-ancestor", "HEAD", name)
    ]
    try:
        return git(root, "merge-base", "HEAD", *left) if left else commit(root, "HEAD^")
    except NoBase as error:
        shallow = git(root, "rev-parse", "--is-shallow-repository") == "true"
        why = "this clone is shallow" if shallow else str(error)
        raise NoBase(
            f"no commit to compare with: {why}; fetch more of the history "
            "(git fetch --unshallow) or name one with --base"
        ) from error


def commit(root, revision):
    """Return the full name of the commit that a revision means."""
    return git(root, "rev-parse", "--verify", f"{revision}^{{commit}}")


def changed_files(root, base):
    """Return the files of the package, edited ones included, that differ from base."""
    edited = git(root, "diff", "--name-only", base, "--", "fastem")
    new = git(root, "ls-files", "--others", "--exclude-standard", "--", "fastem")
    return edited.split("\n" if edited else None) + new.split()


def accepted(root, base):
    """Return the cases whose change the commits since base declare to be intended."""
    trailers = f"--format=%(trailers:key={ACCEPTED},valueonly)"
    return set(git(root, "log", trailers, f"{base}..HEAD").split())


def check_out(root, revision, folder):
    """Put the package, as it was, below a folder, unless it is there; return where.

    ``git archive`` rather than ``git worktree``: it leaves nothing to clean up in the
    repository, however this process ends.
    """
    target = Path(folder) / revision
    if not target.exists():
        archive = git(root, "archive", "--format=zip", revision, "fastem", text=False)
        unfinished = target.with_suffix(".part")
        zipfile.ZipFile(io.BytesIO(archive)).extractall(unfinished)
        unfinished.rename(target)
    return target


def _is(root, *arguments):
    try:
        git(root, *arguments)
    except NoBase:
        return False
    return True
