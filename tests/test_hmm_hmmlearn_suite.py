"""hmmlearn's own tests, those of its installed package, pass on fastem's classes."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Outcomes by test: "passed", "skipped" or the text of a failure."""
    path = tmp_path_factory.mktemp("hmmlearn")
    # Not this repository's settings: hmmlearn's tests allow warnings.
    (path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-c", str(path / "pytest.ini"), "--rootdir", str(path)),
            *("-p", "tests.hmmlearn_in_place", "--pyargs", "hmmlearn.tests"),
            f"--junitxml={path / 'report.xml'}",
        ],
        cwd=path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "HMMLEARN_SEED": "0",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = result.stdout + result.stderr
    assert result.returncode in (0, 1), output
    outcomes = {}
    for case in ElementTree.parse(path / "report.xml").iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}".rpartition("tests.")[2]
        troubles = [child for child in case if child.tag in ("failure", "error")]
        if troubles:
            outcomes[name] = "\n".join(child.text or "" for child in troubles)
        else:
            skipped = case.find("skipped") is not None
            outcomes[name] = "skipped" if skipped else "passed"
    return outcomes


def test_hmmlearn_has_tests():
    assert importlib.util.find_spec("hmmlearn.tests") is not None


@pytest.mark.parametrize(
    "file",
    [
        "test_base",
        "test_categorical_hmm",
        "test_gaussian_hmm",
        "test_gmm_hmm_multisequence",
        "test_gmm_hmm_new",
        "test_multinomial_hmm",
        "test_poisson_hmm",
    ],
)
def test_all_pass(report, file):
    mine = {
        name: outcome
        for name, outcome in report.items()
        if re.match(rf"{file}(\.|::)", name)
    }
    assert "passed" in mine.values()
    # Skipped are the tests that hmmlearn itself expects to fail.
    failed = {n: o for n, o in mine.items() if o not in ("passed", "skipped")}
    assert not failed, "\n\n".join(f"{n}\n{o}" for n, o in failed.items())


def test_nothing_else_was_collected(report):
    assert len(report) > 150
