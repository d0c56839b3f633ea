"""Rates of reading, against a preadv loop, np.memmap and plain h5py in the same run.

    .venv/bin/python benchmarks/io.py [--megabytes 800] [--runs 7] [--columns 50 100] [--only stream ...]

The page cache is warm. Figures are medians over the runs, the contestants in turn; GB are 1e9 bytes of X in
memory, summed over ranks. A goal stands in brackets.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import hdf5plugin
import numpy as np

from hpcml.collectives import world
from hpcml.data import make_partition
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.table import Access, open_table

GOALS = {
    "contiguous": 0.95,
    "chunked": 0.85,
    "mapped scratch": 0.9,
    "gzip-4": 2.5,
    "gzip-1": 2.5,
    "blosc-lz4": 1.3,
    "gzip-4, 2 threads": 4.0,
    "gzip-1, 2 threads": 4.0,
    "blosc-lz4, 2 threads": 2.0,
}


def make_file(path, columns, n_bytes):
    """Write X as it is measured; numbers of 8 bits after the point compress about fivefold with a shuffle."""
    n = n_bytes // (8 * columns) // 4096 * 4096
    X = np.round(np.random.default_rng(0).standard_normal((n, columns)) * 256) / 256
    chunked = {"data": X, "chunks": (4096, columns)}
    with h5py.File(path, "w") as file:
        file["float64"], file["float32"] = X, X.astype(np.float32)
        file.create_dataset("chunked", **chunked)
        for level in (1, 4):
            file.create_dataset(
                f"gzip-{level}", **chunked, compression="gzip", compression_opts=level, shuffle=True
            )
        file.create_dataset("lzf", **chunked, compression="lzf", shuffle=True)
        file.create_dataset("blosc-lz4", **chunked, **hdf5plugin.Blosc("lz4"))
        file.create_dataset("zstd", **chunked, **hdf5plugin.Zstd())


class Bench:
    """Contestants on one rank's share of a file."""

    def __init__(self, path, comm, runs):
        self.path, self.comm, self.runs = path, comm, runs
        self.file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)

    def rows(self, name):
        """Return the share of this rank, that of the data set's own partition."""
        with open_table(self.comm, [self.path], Columns(name, None)) as table:
            partition = make_partition(table.source, self.comm.size)
        return partition.rows_of(partition.shards_of(self.comm.rank))

    def preadv(self, name):
        """Return a loop over the bytes of the share into one buffer of 2 MiB."""
        item = self.file[name]
        (start, stop), row = self.rows(name), item.shape[1] * item.dtype.itemsize
        first, last = (item.id.get_offset() + at * row for at in (start, stop))
        handle, buffer = os.open(self.path, os.O_RDONLY), memoryview(np.ones(2 << 20, np.uint8))

        def loop():
            for at in range(first, last, len(buffer)):
                os.preadv(handle, [buffer[: min(len(buffer), last - at)]], at)

        return loop

    def memmap(self, name, reads):
        """Return a pass over np.memmap by 4 MiB, copied to one buffer or summed in place."""
        item = self.file[name]
        mapped = np.memmap(self.path, item.dtype, "r", item.id.get_offset(), item.shape)
        start, stop = self.rows(name)
        step = (4 << 20) // (item.shape[1] * item.dtype.itemsize)
        buffer = np.ones((step, item.shape[1]), item.dtype)

        def loop():
            for at in range(start, stop, step):
                part = mapped[at : min(at + step, stop)]
                reads(part, buffer[: len(part)])

        return loop

    def h5py(self, name):
        """Return plain slicing, whole chunks at a time."""
        item, (start, stop) = self.file[name], self.rows(name)
        step = item.chunks[0]

        def loop():
            for at in range(start, stop, step):
                item[at : min(at + step, stop)]

        return loop

    def hpcml(self, name, threads=1, each=lambda block: None, **layout):
        """Return a streamed pass of a data set."""
        table = open_table(self.comm, [self.path], Columns(name, None), access=Access(threads=threads))
        data = HDF5Dataset(table, comm=self.comm, layout=Layout(cache="none", **layout))

        def loop():
            for block in data.blocks():
                each(block)

        loop.data = data
        return loop

    def times(self, contestants):
        """Return the median seconds of each; ranks begin together and the slowest counts."""
        found = {name: [] for name in contestants}
        for _ in range(self.runs + 1):
            for name, loop in contestants.items():
                self.comm.allreduce(np.array([0]))
                begin = time.perf_counter()
                loop()
                seconds = time.perf_counter() - begin
                found[name].append(float(self.comm.allreduce(np.array([seconds]), op="max")[0][0]))
        return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}

    def rates(self, name, contestants):
        """Return GB/s over all ranks of each."""
        item = self.file[name]
        n_bytes = item.size * item.dtype.itemsize
        return {who: n_bytes / seconds / 1e9 for who, seconds in self.times(contestants).items()}


def copied(part, buffer):
    buffer[...] = part


def summed(part, buffer):
    part.sum()


def stream(bench):
    """A streamed pass that computes nothing."""
    for name, kind in (("float64", "contiguous"), ("float32", "contiguous"), ("chunked", "chunked")):
        plain = "float64" if name == "chunked" else name
        rates = bench.rates(
            plain,
            {
                "hpcml": bench.hpcml(name),
                "preadv": bench.preadv(plain),
                "memmap": bench.memmap(plain, copied),
            },
        )
        yield name, kind, rates, "preadv"


def compressed(bench):
    """A streamed pass of compressed chunks, against h5py's slicing of them."""
    for name in ("gzip-1", "gzip-4", "lzf", "zstd", "blosc-lz4"):
        stored = bench.file[name].size * 8 / bench.file[name].id.get_storage_size()
        contestants = {"hpcml": bench.hpcml(name), "h5py": bench.h5py(name)}
        if bench.comm.size == 1:
            contestants["2 threads"] = bench.hpcml(name, threads=2)
        rates = bench.rates(name, contestants)
        two = rates.pop("2 threads", None)
        yield f"{name} ({stored:.1f}x)", name, rates, "h5py"
        if two is not None:
            yield f"{name} ({stored:.1f}x)", f"{name}, 2 threads", {**rates, "hpcml": two}, "h5py"


def scratch(bench):
    """A pass that sums rows mapped from scratch, against one over np.memmap."""
    from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch
    from hpcml.io.scratch.staging import stage_shards

    table = open_table(bench.comm, [bench.path], Columns("float64", None))
    partition = make_partition(table.source, bench.comm.size)
    place = open_scratch(bench.comm, Wishes(path=bench.path.parent), Purpose("bench", 0), print)
    with place:
        rows = stage_shards(bench.comm, place, table, partition, print)
        data = HDF5Dataset(rows, comm=bench.comm, layout=Layout(cache="none"))

        def loop():
            for block in data.blocks():
                block.X.sum()

        contestants = {"hpcml": loop, "memmap": bench.memmap("float64", summed)}
        yield "float64, summed", "mapped scratch", bench.rates("float64", contestants), "memmap"


def prefetch(bench):
    """How much of reading hides behind a computation that takes longer."""
    if bench.comm.size > 1:
        return
    for name in ("float64", "gzip-4"):
        w = np.ones(bench.file[name].shape[1])
        repeats = 6 if name == "float64" else 120

        def compute(block, w=w, repeats=repeats):
            for _ in range(repeats):
                block.X @ w

        loop = bench.hpcml(name, each=compute, prefetch=2)
        loop()
        times = loop.data.times
        times.reading = times.waiting = times.computing = 0.0
        for _ in range(bench.runs):
            loop()
        share = 1 - times.waiting / times.reading
        print(
            f"  {name:<24} reading {times.reading:.2f} s, computing {times.computing:.2f} s, "
            f"waiting {times.waiting:.2f} s: {share:.0%} of reading hidden (90% wanted)",
            flush=True,
        )


def memory(bench):
    """The peak of memory in a streamed pass, beyond what was there before."""
    if bench.comm.size > 1:
        return
    for name in ("float64", "gzip-4"):
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_bytes()
        loop = bench.hpcml(name, each=lambda block: block.X.sum(), prefetch=2)
        loop()
        grown, unit = peak_bytes() - before, 4 << 20
        print(f"  {name:<24} {grown / 2**20:.1f} MiB, {grown / unit:.1f} read units (3 allowed)", flush=True)


def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


PARTS = {part.__name__: part for part in (stream, compressed, scratch, prefetch, memory)}


def measure(path, runs, only):
    """Be one rank: measure, and print from the first one."""
    comm = world()
    bench = Bench(Path(path), comm, runs)
    for name in only:
        for what, kind, rates, against in PARTS[name](bench) or ():
            shown = ", ".join(f"{who} {rate:.2f}" for who, rate in rates.items())
            ratio = f"{rates['hpcml'] / rates[against]:.2f} of {against} ({GOALS.get(kind, '-')})"
            if comm.rank == 0:
                print(f"  {what:<24} {kind:<22} {shown} GB/s: {ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=800)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--columns", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file:
        measure(args.file, args.runs, args.only)
        return
    with tempfile.TemporaryDirectory() as directory:
        for columns in args.columns:
            path = Path(directory, f"{columns}.h5")
            make_file(path, columns, args.megabytes * 10**6)
            for n in args.ranks:
                print(f"{columns} columns, {n} rank{'s' * (n > 1)}", flush=True)
                own = ["--file", str(path), "--runs", str(args.runs), "--only", *args.only]
                launcher = [str(Path(sys.prefix, "bin", "mpiexec")), "-n", str(n)]
                subprocess.run([*launcher, sys.executable, "-m", "mpi4py", __file__, *own], check=True)
            path.unlink()


if __name__ == "__main__":
    main()
