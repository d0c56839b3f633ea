"""An SPMD program: each rank runs it, reads its own rows, and all hold the same model at the end.

mpiexec -n 2 .venv/bin/python -m mpi4py jobs/spmd_logistic.py jobs/data/flights_delay.h5
"""

import sys

import numpy as np

import hpcml
from hpcml.collectives import reproducible_sum, world

comm = world()
with hpcml.open_hdf5(sys.argv[1], comm=comm) as data:
    rows = [block.shard_sums(np.ones(block.n_rows)) for block in data.blocks()]
    late = [block.shard_sums(block.y) for block in data.blocks()]
    partials = np.stack([np.concatenate(rows), np.concatenate(late)], axis=1)
    n_rows, n_late = reproducible_sum(comm, partials)
    model = hpcml.LogisticRegression(C=1.0).fit(data)
if comm.rank == 0:
    print(f"{n_rows:.0f} rows, {n_late / n_rows:.4f} late, {comm.size} ranks, {model.n_iter_[0]} iterations")
    print(f"certificate {model.certificate_:.1e}, largest coefficient {np.abs(model.coef_).max():.6f}")
