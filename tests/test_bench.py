"""``fastem bench``: what is counted, kept, compared, printed, drawn and refused."""

import json
import math
import sys

import matplotlib.image
import numba
import numpy as np
import pytest
from click.testing import CliRunner

import fastem.bench.cases
import fastem.bench.probes
from fastem.bench import work
from fastem.bench.cases import cases, select
from fastem.bench.machine import describe_machine, describe_versions
from fastem.bench.measure import Effort, thread_counts, time_call
from fastem.bench.picture import COLOURS, draw
from fastem.bench.record import (
    FASTER,
    SAME,
    SLOWER,
    Record,
    Timing,
    compare,
    load,
    save,
)
from fastem.bench.report import report, table
from fastem.bench.stages import CHAIN_STAGES, MIXTURE_STAGES
from fastem.cli import main
from fastem.families.gaussian import GaussianSlots
from fastem.kernels.sparse import ROOT_MIN_FEATURES

KERNELS = "e-step diag float64 2000", "k-means float64 2000,2,8"


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


# ---------------------------------------------------------------------------- counts


class Counted:
    """Counts what is done to numbers, a product that is added at once as one."""

    def __init__(self):
        self.fused = self.plain = 0

    def add_product(self, times=1):
        self.fused += times

    def do(self, times=1):
        self.plain += times


def count_full_e_step(D, K):
    """The loops of Bishop's eqs. 9.23 to 9.25, as their innermost lines run."""
    count = Counted()
    for _feature in range(D):
        count.do(2)  # (x - origin) * scale
    for _k in range(K):
        for i in range(D):
            for _j in range(i + 1):
                count.add_product()  # z[i] += L[i, j] * x[j], from s[i] on
            count.add_product()  # p -= z[i] * z[i]
        count.do(6)  # largest; p - largest; total; r = p / total; negligible? zero
        count.do(1)  # weight += r
        for i in range(D):
            count.do(2)  # d = x - c and y = r * d; y = sqrt(r) * (x - c)
            if D < ROOT_MIN_FEATURES:
                count.do(1)  # first += y
            else:
                count.add_product()  # first += sqrt(r) * y
            for _j in range(i + 1):
                count.add_product()  # second += y[i] * d[j]; y[i] * y[j]
    return count


@pytest.mark.parametrize(("D", "K"), [(1, 1), (2, 3), (5, 4), (9, 2)])
def test_full_e_step_is_counted_as_its_loops_run(D, K):
    counted = work.e_step("full", D, K, 8)
    by_loops = count_full_e_step(D, K)
    assert (counted.fused, counted.plain) == (by_loops.fused, by_loops.plain)
    assert (counted.exp, counted.log) == (K, 1)
    assert (counted.divide, counted.sqrt) == (1, K if D >= ROOT_MIN_FEATURES else 0)
    assert (counted.read, counted.written) == (8 * D, 0)


def test_other_kernels_are_counted_as_by_hand():
    """D = 2 and K = 3, by hand, in the order of work.py."""
    # L x: 3; z: a sum of 2 and p: 2 products, of 3 components. Moments: sums of r x
    # and of r c, 6 each, w x - m: 2, D's triangle of 3 entries, K's of 6.
    tied = work.e_step("tied", 2, 3, 4)
    assert tied.fused == 3 + 6 + (6 + 6 + 2 + 3 + 6)
    assert tied.plain == 4 + 6 + 18 + (9 + 2)
    assert (tied.divide, tied.sqrt, tied.read) == (2, 1, 8)
    # z and p: 2 products for each of 6; moments: y, w, first, second for each of 6.
    diag = work.e_step("diag", 2, 3, 8)
    assert (diag.fused, diag.plain) == (12 + 6, 4 + 18 + (18 + 3))
    assert work.e_step("spherical", 2, 3, 8) == diag
    labels = work.predict("diag", 2, 3, 8)
    assert (labels.fused, labels.plain, labels.exp) == (12, 4 + 9, 0)
    assert (labels.read, labels.written, labels.moved) == (16, 8, 32)
    score = work.score("diag", 2, 3, 4)
    assert (score.fused, score.plain, score.exp, score.written) == (12, 4 + 9, 3, 4)
    kmeans = work.kmeans_pass(2, 3, 8)
    assert (kmeans.fused, kmeans.plain, kmeans.flop) == (6, 4 + 9 + 3, 28)


def test_chains_are_counted_as_by_hand():
    """K = 2 and D = 1: what a step of two states and one feature takes."""
    forward = work.hmm_forward(1, 2)
    # Densities 4 products; two sums of two; relative densities, times, sum, scaled.
    assert (forward.fused, forward.plain) == (4 + 4, 2 + 4 + 6)
    assert (forward.exp, forward.log, forward.divide) == (1, 0.25, 1)
    assert work.hmm_forward(1, 3).exp == 3
    smoothing = work.hmm_smoothing(1, 2)
    assert (smoothing.fused, smoothing.plain) == (8 + 4, 12 + 6)
    assert (smoothing.read, smoothing.written) == (8, 16)
    assert smoothing.fused_in_turn == forward.fused_in_turn + 3
    learned = work.baum_welch(1, 2)
    assert (learned.fused, learned.plain) == (12 + 4 + 2, 18 + 2 + (6 + 2))
    path = work.viterbi(1, 2)
    assert (path.fused, path.plain) == (4, 2 + 8 + 6 + 8)
    assert (path.exp, path.divide, path.written) == (0, 0, 8)


# Units a second of a machine on which all is round.
RATES = {
    "dgemm": 2e9,
    "exp float64": 1e8,
    "log float64": 1e8,
    "divide float64": 1e8,
    "sqrt float64": 1e7,
    "read 4 MB": 1e10,
    "read 16 MB": 1e9,
    "read 64 MB": 1e9,
    "read 256 MB": 1e8,
    "multiply-add, each after the last": 1e8,
    "add and divide, each after the last": 1e7,
}


@pytest.mark.parametrize(
    ("done", "n_rows", "seconds", "resource"),
    [
        (work.Work(fused=60, plain=40), 1, 100e-9, "arithmetic"),
        (work.Work(fused=60, exp=2, read=8), 1, 80e-9, "arithmetic"),
        (work.Work(fused=10, exp=2, log=1), 1, 40e-9, "exp"),
        (work.Work(fused=10, divide=2, sqrt=3), 1, 320e-9, "division"),
        (work.Work(fused=10, read=400, written=100), 1, 60e-9, "bandwidth"),
        (work.Work(fused=10, read=400), 50_000, 400e-9, "bandwidth"),
        (work.Work(fused=10, read=400), 640_000, 4e-6, "bandwidth"),
        (work.Work(fused=1, fused_in_turn=16, divide_in_turn=16), 1, 55e-9, "latency"),
    ],
)
def test_the_slowest_resource_is_the_limit(done, n_rows, seconds, resource):
    found = work.limit(done, "float64", n_rows, RATES.__getitem__)
    assert found.resource == resource
    assert found.seconds == pytest.approx(seconds)


# ----------------------------------------------------------------------------- cases


def test_cases_have_names_of_their_own_and_colours():
    every, few = cases(), cases(quick=True)
    assert len({case.name for case in every}) == len(every) == len(few)
    whole = [{case.name for case in select(them, [])} for them in (every, few)]
    assert not whole[0] & whole[1]
    for case in every:
        assert any(case.name.startswith(kind) for kind in COLOURS)


def test_patterns_choose_by_name():
    names = [case.name for case in select(cases(), ["predict*tied", "viterbi 2,"])]
    assert names == ["predict tied float64 200000,32,32", "viterbi 2,1,1000000"]
    # Stages are for those who ask for them by their first word.
    whole = select(cases(), [])
    assert not any(case.name.startswith("stage") for case in whole)
    names = [case.name for case in select(cases(), ["stage*moments 2,1", "forward 4,"])]
    assert names == ["hmm forward 4,2,1000000", "stage chain moments 2,1"]
    with pytest.raises(ValueError, match="no kernel's name has 'kmeans' in it"):
        select(cases(), ["viterbi", "kmeans"])


@pytest.fixture
def tiny(monkeypatch):
    """Cases and probes of milliseconds."""
    for name, sizes in {
        "MIXTURES": ((20_000, 2, 3, "diag"), (20_000, 24, 4, "diag")),
        "KMEANS": ((20_000, 2, 8),),
        "CHAINS": ((2, 1, 20_000), (5, 2, 20_000)),
    }.items():
        monkeypatch.setattr(fastem.bench.cases, name, sizes)
    monkeypatch.setattr(fastem.bench.probes, "MATRIX_SIZE", 64)
    monkeypatch.setattr(fastem.bench.probes, "TRIAD_MEGABYTES", 1)
    monkeypatch.setattr(fastem.bench.run, "QUICK", Effort(2, 0.0))
    yield
    fastem.bench.cases.release()


@pytest.mark.usefixtures("tiny")
def test_every_case_runs_its_kernel():
    for case in select(cases(quick=True), []):
        if case.dtype == "float64":
            returned = case.prepare()()
            if case.name.startswith(("e-step", "baum-welch")):
                assert returned.total_weight == pytest.approx(case.n_rows)
                assert np.isfinite(returned.log_likelihood)
            elif case.name.startswith("viterbi"):
                assert len(returned.path) == case.n_rows
                assert np.isfinite(returned.log_probability)
            elif case.name.startswith("k-means"):
                assert returned[1].sum() == case.n_rows
            else:
                assert np.isfinite(returned.log_likelihood).all()
    # Of the first data all is spared but for one component; of the other, nothing.
    apart, overlapping = (
        next(c for c in cases() if c.name.startswith("e-step diag float64 20000,24")),
        next(c for c in cases() if c.name.endswith("overlapping")),
    )
    weights = [case.prepare()().weight / case.n_rows for case in (apart, overlapping)]
    assert weights[0].min() > 0.2
    assert weights[1] == pytest.approx(0.25, abs=0.01)


@pytest.mark.usefixtures("tiny")
def test_stages_are_the_parts_of_kernels():
    every = {case.name: case for case in cases()}
    parts = [every[f"stage diag {name} 2,3"].work for name in MIXTURE_STAGES]
    whole = every["e-step diag float64 20000,2,3"].work
    assert work.total(*parts) == whole._replace(read=0)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", ["diag {} 2,3", "chain {} 2,1", "chain {} 5,2"])
def test_stages_do_what_they_say(name):
    """Responsibilities, of components as of states, sum to one for every row."""
    every = {case.name: case for case in cases()}
    for stage in CHAIN_STAGES if "chain" in name else MIXTURE_STAGES:
        case = every[f"stage {name.format(stage)}"]
        call = case.prepare()
        (slots,) = (given for given in call.args if isinstance(given, GaussianSlots))
        call()
        summed = case.n_rows if stage == work.MOMENTS else 0
        assert slots.weight.sum() == pytest.approx(summed)


def test_calls_take_turns_on_numbers_of_threads():
    before, seen = numba.get_num_threads(), []
    seconds = time_call(
        lambda: lambda: seen.append(numba.get_num_threads()), [1, 2], Effort(3, 0.0)
    )
    assert seen == [1, 2] * 4  # once more than is timed
    assert {n: len(those) for n, those in seconds.items()} == {1: 3, 2: 3}
    assert numba.get_num_threads() == before
    assert [thread_counts(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


# --------------------------------------------------------------------------- records


def timing(name, seconds, **more):
    return Timing(name, 1000, "row", seconds, **more)


@pytest.fixture
def record():
    """A record of planted figures: 100 ns a row on one thread, 50 on two."""
    done = work.Work(fused=60, plain=20)
    seconds = {1: [110e-6, 100e-6, 102e-6], 2: [50e-6, 51e-6, 50.5e-6]}
    probes = {
        name: Timing(name, rate, unit, {1: [1.0, 1.1], 2: [0.5, 0.5]})
        for (name, rate), unit in zip(
            RATES.items(),
            ["flop", *["element"] * 4, *["byte"] * 4, *["link"] * 2],
            strict=True,
        )
    }
    probes["sgemm"] = probes["dgemm"]._replace(name="sgemm", amount=4e9)
    kernels = {
        name: timing(name, seconds, dtype="float64", work=done)
        for name in ("predict a", "viterbi b")
    }
    return Record(describe_machine(), describe_versions(), probes, kernels)


def test_json_gives_back_what_was_saved(record, tmp_path):
    path = tmp_path / "record.json"
    path.write_text("an older record")
    save(path, record)
    assert load(path) == record
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_record_that_cannot_be_written_leaves_the_older_one(record, tmp_path):
    path = tmp_path / "record.json"
    path.write_text("an older record")
    damaged = record._replace(machine={"processor": {1, 2}})  # JSON has no sets
    with pytest.raises(TypeError):
        save(path, damaged)
    assert path.read_text() == "an older record"


def change(record, name, factor):
    """The kernels of a record, one of them slower by a factor."""
    kernel = record.kernels[name]
    seconds = {n: [factor * s for s in those] for n, those in kernel.seconds.items()}
    return {**record.kernels, name: kernel._replace(seconds=seconds)}


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.15, SLOWER), (0.8, FASTER), (1.02, SAME), (0.98, SAME), (1.0, SAME)],
)
def test_a_planted_change_is_found_and_rounding_is_not(record, factor, verdict):
    found = compare(record.kernels, change(record, "predict a", factor))
    changed, same = found
    assert changed.ratios == pytest.approx({1: factor, 2: factor})
    assert changed.verdicts == {1: verdict, 2: verdict}
    assert same.verdicts == {1: SAME, 2: SAME}


def test_what_the_spread_explains_is_no_change(record):
    """Fifteen per cent, where the median of either run is a tenth above its least."""
    name, noisy = "predict a", {1: [100e-6, 110e-6, 130e-6]}
    before = {name: timing(name, noisy)}
    after = {name: timing(name, {1: [1.15 * s for s in noisy[1]]})}
    assert compare(before, after)[0].verdicts == {1: SAME}
    after = {name: timing(name, {1: [1.30 * s for s in noisy[1]]})}
    assert compare(before, after)[0].verdicts == {1: SLOWER}


def test_other_rows_and_other_threads_are_not_compared(record):
    name = "predict a"
    fewer = record.kernels[name]._replace(amount=100)
    assert compare(record.kernels, {name: fewer}) == []
    other = {name: timing(name, {1: [1e-4], 4: [1e-4]})}
    assert compare(record.kernels, other)[0].ratios == {1: 1.0}
    assert compare({name: timing(name, {8: [1e-4]})}, other) == []


def damage(tmp_path, record, **changes):
    path = tmp_path / "damaged.json"
    save(path, record)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "another"}, "no record of fastem bench"),
        ({"version": 2}, r"version 2 of the format and this fastem reads 1"),
        ({"kernels": [{"name": "viterbi"}]}, "damaged record .*'seconds'"),
        ({"kernels": None}, "damaged record"),
        ({"machine": None}, "damaged record"),
    ],
)
def test_what_is_no_record_is_refused(record, tmp_path, changes, message):
    path = damage(tmp_path, record, **changes)
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("seconds", [{}, {"1": []}, {"1": [0.0]}, {"one": [1.0]}])
def test_a_record_without_seconds_is_refused(record, tmp_path, seconds):
    item = record.kernels["predict a"]._asdict()
    item |= {"seconds": seconds, "work": item["work"]._asdict()}
    with pytest.raises(ValueError, match="damaged record"):
        load(damage(tmp_path, record, kernels=[item]))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff", b"{", b"[]", b"3"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no record of fastem bench"):
        load(path)


# --------------------------------------------------------------------------- reports


def test_shares_are_of_the_limit(record):
    """80 operations at 1e9 a second on one thread, twice that on two."""
    kernel = record.kernels["predict a"]
    assert record.limit(kernel, 1) == (pytest.approx(80e-9), "arithmetic")
    assert record.share(kernel, 1) == pytest.approx(0.8)
    assert record.share(kernel, 2) == pytest.approx(0.8)


def test_report_has_each_figure(record):
    lines = report(record).splitlines()
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in lines
        if line.startswith("|")
    }
    assert cells["dgemm"] == ["2.00", "4.00", "GFLOP/s"]
    assert cells["read 4 MB"] == ["10.0", "20.0", "GB/s"]
    assert cells["sqrt float64"] == ["100", "50.0", "ns per element"]
    shown = [line for line in lines if line.startswith("| predict a")]
    rates, threads = ([c.strip() for c in line.split("|")[2:-1]] for line in shown)
    # 1000 rows in 50 us: 20 million rows a second of 140 operations.
    assert rates[:4] == ["0.0500", "0.0505", "20.0", "2.80"]
    assert rates[5:] == ["arithmetic", "80%", "80%"]
    assert threads == ["0.100", "2.00×"]


def test_tables_are_rectangles():
    lines = table(["a", "bb"], [["long name", "1"], ["x", "12345"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| :-------- | ----: |"


def test_picture_is_a_png(record, tmp_path):
    path = tmp_path / "picture"
    draw(path, record)
    assert path.read_bytes().startswith(b"\x89PNG")
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > height > 300


# ---------------------------------------------------------------------- command line


def test_list_names_kernels_and_measures_nothing(monkeypatch):
    monkeypatch.setattr("fastem.cli.bench.measure", pytest.fail)
    result = run("--list")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [case.name for case in cases()]


@pytest.mark.usefixtures("tiny")
def test_command_measures_saves_draws_and_compares(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    picture = tmp_path / "picture.png"
    result = run("--quick", "--json", first, "--picture", picture, *KERNELS)
    assert result.exit_code == 0, result.output
    saved = load(first)
    assert list(saved.kernels) == [
        "e-step diag float64 2000,2,3",
        "e-step diag float64 2000,24,4",
        "e-step diag float64 2000,24,4 overlapping",
        "k-means float64 2000,2,8",
    ]
    for name in (*saved.kernels, *saved.probes):
        assert name in result.output
    for kernel in saved.kernels.values():
        for n_threads in saved.thread_counts:
            assert math.isfinite(saved.share(kernel, n_threads))
    assert matplotlib.image.imread(picture).ndim == 3

    # The same run again beside an earlier one in which a kernel was ten times faster.
    slowed = saved._replace(kernels=change(saved, "k-means float64 2000,2,8", 0.01))
    save(first, slowed)
    result = run("--quick", "--compare", first, "--json", second, KERNELS[1])
    assert result.exit_code == 0, result.output
    assert "Of 1 kernels, 1 slower" in result.output
    assert list(load(second).kernels) == ["k-means float64 2000,2,8"]


@pytest.fixture
def measured(monkeypatch, record):
    """The command, as if it had measured the planted figures."""
    monkeypatch.setattr("fastem.cli.bench.measure", lambda *a, **k: record)


@pytest.mark.usefixtures("measured")
def test_other_machines_and_versions_are_announced(record, tmp_path):
    path = tmp_path / "before.json"
    save(path, record)
    result = run("--compare", path)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "Of 2 kernels, 0 slower and 0 faster" in result.stdout
    save(
        path,
        record._replace(
            machine=record.machine | {"processor": "Pentium"},
            versions=record.versions | {"numba": "0.1"},
        ),
    )
    result = run("--compare", path)
    assert result.exit_code == 0, result.output
    assert "another machine" in result.stderr
    assert "processor: Pentium before" in result.stderr
    assert "numba: 0.1 before" in result.stderr


@pytest.mark.usefixtures("measured")
def test_nothing_in_common_is_an_error_but_keeps_the_new_record(record, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save(old, record._replace(kernels={}))
    result = run("--compare", old, "--json", new)
    assert result.exit_code == 1
    assert "no kernel of the same name" in result.stderr
    assert load(new) == record


def test_what_cannot_work_is_refused_before_anything_is_measured(
    monkeypatch, record, tmp_path
):
    monkeypatch.setattr("fastem.cli.bench.measure", pytest.fail)
    path = tmp_path / "record.json"
    save(path, record)
    for arguments, code, message in (
        (["--json", path], 2, "--force replaces it"),
        (["--json", path, "--compare", path, "--force"], 2, "is read, too"),
        (["--picture", tmp_path / "missing" / "x.png"], 2, "cannot write"),
        (["--compare", tmp_path / "missing.json"], 2, "does not exist"),
        (["--compare", damage(tmp_path, record, version=0)], 1, "version 0"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert message in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr
    assert load(path) == record


def test_a_pattern_of_nothing_is_one_line():
    result = run("no such kernel")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no kernel's name has 'no such kernel'")
    assert result.stderr.count("\n") == 1


def test_picture_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("fastem.cli.bench.measure", pytest.fail)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--picture", tmp_path / "x.png")
    assert result.exit_code == 1
    assert 'pip install "fastem[demo]"' in result.stderr
