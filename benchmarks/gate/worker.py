"""The process of one version: it times a case whenever it is asked to.

A line of JSON comes in, one goes out. It ends when nobody is left to ask.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

import numba

import fastem
from benchmarks.gate.cases import CASES
from benchmarks.gate.counters import open_counter

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers

    def answer(**content):
        answers.write(json.dumps(content, default=float) + "\n")
        answers.flush()

    try:
        count, note = open_counter(), None
    except OSError as error:
        count, note = None, str(error)
    answer(package=str(Path(fastem.__file__).parent), no_counter=note)
    calls = {}
    for line in sys.stdin:
        name, core = json.loads(line)
        case = CASES[name]
        try:
            run_on(case, core)
            if name not in calls:
                calls[name] = case.make(*case.arguments)
                calls[name][0]()  # compiles
            answer(**measure(*calls[name], count))
        except Exception as error:  # whatever an old version may lack
            answer(error=f"{type(error).__name__}: {error}")


def run_on(case, core):
    """Give a case its threads; keep one thread on one core, if one is named."""
    numba.set_num_threads(case.threads or numba.config.NUMBA_NUM_THREADS)
    if core is not None:
        cores = [core] if case.threads == 1 else ALL_CORES
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)


def measure(call, figures, count):
    instructions = count and count()
    cpu, wall = time.process_time(), time.perf_counter()
    returned = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    instructions = count and count() - instructions
    return {
        "wall": wall,
        "cpu": cpu,
        "instructions": instructions,
        "figures": figures(returned),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
