"""What ``asv publish`` makes of a run, opened in Chromium."""

import functools
import html
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without the last ones Chromium looks for Google's hosts, and waits where there is no
# network.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
BENCHMARKS = ("seeding.Result", "mixture.Result", "startup.Import")
MODULES = Path(__file__).parent / "page" / "node_modules"
# What the page loads from other hosts, by its name there.
LIBRARIES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}

pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM, reason="no Chromium: apt-get install chromium, or your system's"
    ),
    pytest.mark.skipif(
        not MODULES.exists(),
        reason="the page's libraries are missing: npm install --prefix benchmarks/page",
    ),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with the page of a short run of this checkout, and no other host's."""
    folder = tmp_path_factory.mktemp("asv")
    settings = json.loads((CHECKOUT / "asv.conf.json").read_text())
    settings |= {
        "repo": str(CHECKOUT),
        "branches": ["HEAD"],
        "benchmark_dir": str(CHECKOUT / settings["benchmark_dir"]),
        "env_dir": "env",
        "results_dir": "results",
        "html_dir": "html",
    }
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    # asv keeps a description of the machine in the home directory.
    environment = {**os.environ, "HOME": str(folder), "FASTEM_ASV_QUICK": "1"}

    def asv(*arguments):
        command = [sys.executable, "-m", "asv", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    asv("machine", "--yes")
    chosen = [option for name in BENCHMARKS for option in ("--bench", name)]
    here = ("-E", "existing", "--set-commit-hash", "HEAD")
    asv("run", "--quick", "--launch-method", "forkserver", *here, *chosen)
    asv("publish")
    serve_libraries_from(folder / "html")
    return folder / "html"


def serve_libraries_from(folder):
    """Replace what the page loads from other hosts by copies beside it."""
    page = folder / "index.html"
    text = page.read_text()
    for name, path in LIBRARIES.items():
        shutil.copy(MODULES / path, folder / name)
        text, count = re.subn(
            rf'"https://[^"]*/{re.escape(name)}" integrity="[^"]*"', f'"{name}"', text
        )
        assert count == 1, f"asv's page loads {name} {count} times"
    elsewhere = re.findall(r'<(?:script|link)[^>]*"(https://[^"]*)"', text)
    assert not elsewhere, f"asv's page loads more than this test knows: {elsewhere}"
    page.write_text(text)


@pytest.fixture(scope="module")
def address(published):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=published)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(address, tmp_path):
    """A function that returns what a page has become once its scripts are through."""

    def dump(fragment):
        done = subprocess.run(
            [
                *(CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"),
                *("--virtual-time-budget=20000", "--window-size=1600,2400"),
                *("--dump-dom", address + fragment),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return html.unescape(done.stdout)

    return dump


def test_the_grid_lists_every_benchmark_and_plots_what_ran(published, opened):
    names = json.loads((published / "index.json").read_text())["benchmarks"]
    ran = {name for name in names if name.rsplit(".", 1)[0] in BENCHMARKS}
    assert len(ran) == len(BENCHMARKS) < len(names)
    grid = opened("")
    for name in names:
        found = re.search(rf'id="summarygrid-{re.escape(name)}"[^>]*>(.{{7}})', grid)
        assert found, f"{name} is not on the page"
        assert (found[1] == "<canvas") == (name in ran), f"plot of {name}: {found[0]}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "mixture.Result.track_log_likelihood",
            ["covariance_type-full", "covariance_type-diag"],
        ),
        ("seeding.Result.track_inertia", ["N_D_K", "(100000, 8, 16)"]),
    ],
)
def test_a_graph_shows_its_parameters(opened, name, said):
    page = opened(f"#{name}")
    assert "<canvas" in page
    for word in (name, *said):
        assert word in page
