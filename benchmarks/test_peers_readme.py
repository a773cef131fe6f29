"""What a run of the comparisons writes into README, and its picture."""

import pytest

from benchmarks.peers import picture, readme
from benchmarks.peers.report import Report


@pytest.fixture
def report(capsys):
    report = Report(["a machine"])
    report.section("One step", [_row("one", 20.0, 8.0), _row("other", 0.5, None)])
    return report


def _row(peer, ratio, megabytes):
    return {
        "N, D, K": "10, 2, 3",
        "peer": peer,
        "fastem min s": 0.25,
        "ratio": ratio,
        "peer MB": megabytes,
        "fastem MB": 1.0,
    }


def test_readme_has_the_table_and_what_was_outside_the_markers(report, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- peers:gmm -->\nold\n<!-- /peers:gmm -->\nafter\n")
    for _ in range(2):  # the second time over what the first has written
        readme.write(path, "gmm", report, tmp_path / "images" / "ratios.png")
    text = path.read_text()
    assert "| 10, 2, 3 | 0.25 s, 1 MB | 20×, 8 MB | 0.5× |" in text
    assert text.count("- a machine") == text.count("images/ratios.png") == 1
    assert "old" not in text
    assert text.startswith("before\n<!-- peers:gmm -->\n")
    assert text.endswith("<!-- /peers:gmm -->\nafter\n")


def test_readme_without_markers_is_left_alone(report, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("<!-- peers:hmm -->\n<!-- /peers:hmm -->\n")
    with pytest.raises(ValueError, match="peers:gmm"):
        readme.write(path, "gmm", report)
    assert path.read_text() == "<!-- peers:hmm -->\n<!-- /peers:hmm -->\n"


def test_picture_is_a_small_png(report, tmp_path):
    path = tmp_path / "images" / "ratios.png"
    picture.draw(path, report)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 100_000
