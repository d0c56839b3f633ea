"""Rows to stage, a private scratch for them, and a job that stages: what tests of staging share."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import sparse

from hpcml.collectives import SerialCommunicator
from hpcml.data import RowPartition, Source
from hpcml.io.read.rows import Rows
from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch
from hpcml.io.scratch.sweep import OWNER

N_ROWS, N_COLUMNS, SHARD_ROWS = 1000, 7, 96
RNG = np.random.default_rng(3)
DENSE = RNG.normal(size=(N_ROWS, N_COLUMNS))
SPARSE = sparse.csr_array(np.where(RNG.random((N_ROWS, N_COLUMNS)) < 0.7, 0.0, DENSE))
Y, WEIGHT = RNG.normal(size=N_ROWS), RNG.random(N_ROWS)


class ArrayRows:
    """A RowReader of arrays that counts what is read of it."""

    unit_bytes = 1 << 20

    def __init__(self, X=DENSE, y=Y, weight=WEIGHT, dtype=np.float64):
        self.X, self.y, self.weight = X.astype(dtype), y, weight
        self.n_samples, self.n_features = X.shape
        self.dtype = np.dtype(dtype)
        self.is_sparse = sparse.issparse(X)
        self.source = Source(*X.shape, 8.0 * X.shape[1], 32)
        self.rows_read = 0
        self.checks = 0

    def read(self, start, stop, buffers=None):
        assert start % 32 == 0
        self.rows_read += stop - start
        y, weight = (None if one is None else one[start:stop] for one in (self.y, self.weight))
        return Rows(self.X[start:stop], y, weight)

    def check(self):
        self.checks += 1

    def close(self):
        pass


def cut(size: int, n: int = N_ROWS) -> RowPartition:
    n_shards = -(-n // SHARD_ROWS)
    return RowPartition(n, SHARD_ROWS, 32, tuple(n_shards * r // size for r in range(size + 1)))


def dense(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def quiet(sentence):
    pass


@contextlib.contextmanager
def scratch_at(root, comm=None, keep="never", data="d", needed=1000):
    comm = comm or SerialCommunicator()
    scratch = open_scratch(comm, Wishes(path=root, keep=keep), Purpose(data, needed), quiet)
    assert scratch is not None
    with scratch:
        yield scratch


def abandon(folder: Path) -> None:
    """Make a directory look as if the process that owns it were gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = json.loads((folder / OWNER).read_text())
    (folder / OWNER).write_text(json.dumps({**owner, "pid": gone.pid}))


PROGRAM = """
import os, signal, sys
from pathlib import Path
import numpy as np
from hpcml.collectives import world
from hpcml.data import RowPartition, Source
from hpcml.io.scratch import copying
from hpcml.io.scratch import staging
from hpcml.io.read.rows import Rows
from hpcml.io.scratch.directory import Purpose, Wishes, open_scratch

root, keep, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
staging._COMMIT_BYTES = 1
comm = world()
partition = RowPartition(960, 96, 32, tuple(10 * r // comm.size for r in range(comm.size + 1)))

class Reader:
    n_samples, n_features, dtype, is_sparse = 960, 4, np.dtype("f8"), False
    source = Source(960, 4, 32.0)
    unit_bytes = 1 << 20
    n_read = 0

    def read(self, start, stop, buffers=None):
        if start >= last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.n_read += stop - start
        return Rows(np.arange(4.0 * start, 4.0 * stop).reshape(-1, 4), None, None)

    def check(self):
        pass

reader = Reader()
with open_scratch(comm, Wishes(root, keep=keep), Purpose("rows", 32 * 960), print) as scratch:
    staged = staging.stage_shards(comm, scratch, reader, partition, lambda line: None)
    start, stop = partition.rows_of(partition.shards_of(comm.rank))
    assert (staged.read(start, stop).X == np.arange(4.0 * start, 4.0 * stop).reshape(-1, 4)).all()
    sys.stdout.write(f"{comm.rank} read {reader.n_read}\\n")
    comm.allgather(None)
"""
