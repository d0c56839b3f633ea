"""k-means in a run: all rows at each iteration, or mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.clustering.kmeans import KMeansSettings, fit_kmeans, too_few_distinct
from hpcml.algorithms.clustering.lloyd import Loop
from hpcml.algorithms.clustering.metrics import inertia, silhouette
from hpcml.algorithms.clustering.mini_batch import MiniBatch, MiniBatchState
from hpcml.algorithms.clustering.mini_batch_kmeans import MiniBatchSettings, fit_mini_batch
from hpcml.algorithms.clustering.model import ClusterModel, clusters_from_arrays
from hpcml.algorithms.clustering.starts import Start
from hpcml.algorithms.kernels.nearest import nearest
from hpcml.algorithms.metrics import Scores
from hpcml.algorithms.state import from_tree
from hpcml.collectives import agreed
from hpcml.data import Block, Dataset
from hpcml.errors import DataError
from hpcml.run.families import Family
from hpcml.run.fit import Fit, Solved
from hpcml.spec import Spec

__all__ = ["FAMILY"]

_RULES = {"k-means-parallel": "k-means||"}


def _solve(fit: Fit) -> Solved:
    """Find centres. Collective."""
    return _lloyd(fit) if fit.spec.model.type == "kmeans" else _mini_batch(fit)


def _start(spec: Spec) -> Start:
    model = spec.model
    assert model.n_clusters is not None
    rule = _RULES.get(str(model.init), str(model.init)) if isinstance(model.init, str) else "random"
    return Start(
        model.n_clusters, rule, model.n_init, spec.seed, model.oversampling_factor, model.init_rounds
    )


def _lloyd(fit: Fit) -> Solved:
    spec, saver = fit.spec, fit.saver
    start = _start(spec)
    limits = spec.solver.max_iter, spec.solver.tol, saver.is_late
    settings = KMeansSettings(start, *limits, algorithm=spec.model.algorithm)
    by = start.method if isinstance(spec.model.init, str) else str(spec.model.init)
    why = f"{start.n_init} start{'s' * (start.n_init > 1)} by {by}"
    fit.show(f"solving with lloyd ({why})")
    found = fit_kmeans(
        fit.parts.train,
        settings,
        centers=None if fit.tree else _given(fit),
        finite=True,
        loop=from_tree(Loop, fit.tree) if fit.tree else None,
        callback=saver,
        ballot=saver.ballot,
    )
    if trouble := too_few_distinct(found):
        fit.show(f"hpcml: warning: {trouble}")
    return Solved(
        ClusterModel("kmeans", found.centers, found.sizes),
        "lloyd",
        why,
        found.n_iter,
        found.converged,
        found.reason,
        not found.timed,
        found.inertia,
        float(found.loop.runs.shift[found.start]),
        {"certificate_kind": "squared_shift", "start": found.start, "sizes": found.sizes.tolist()},
    )


def _mini_batch(fit: Fit) -> Solved:
    spec, saver = fit.spec, fit.saver
    start, model = _start(spec), spec.model
    method = MiniBatch(
        model.batch_size,
        spec.solver.epochs,
        reassignment_ratio=model.reassignment_ratio,
        seed=spec.seed,
    )
    settings = MiniBatchSettings(start, method, spec.solver.tol, saver.is_late)
    size = f"about {model.batch_size:,}" if model.batch_size else "a 64th of the"
    why = f"batches of {size} rows, from {start.method}"
    fit.show(f"solving with mini_batch ({why})")
    found = fit_mini_batch(
        fit.parts.train,
        settings,
        centers=None if fit.tree else _given(fit),
        finite=True,
        loop=from_tree(MiniBatchState, fit.tree) if fit.tree else None,
        callback=saver,
        ballot=saver.ballot,
    )
    return Solved(
        ClusterModel("minibatch_kmeans", found.centers, found.sizes),
        "mini_batch",
        why,
        found.n_iter,
        found.converged,
        found.reason,
        not found.timed,
        found.inertia,
        found.loop.shift,
        {"certificate_kind": "squared_shift", "epochs": found.n_epochs, "sizes": found.sizes.tolist()},
    )


def _given(fit: Fit) -> NDArray[np.float64] | None:
    """Return the centres of the file that `model.init` names, if it does. Collective then."""
    path = fit.spec.model.init
    if isinstance(path, str):
        return None
    comm = fit.parts.train.comm
    centers: list[list[float]] = []
    with agreed(comm):
        if comm.rank == 0:
            centers = _read(path).tolist()
    return np.array(comm.bcast(centers), np.float64)


def _read(path: Path) -> NDArray[np.float64]:
    """Return the matrix that a .npy file holds. Local."""
    try:
        found = np.asarray(np.load(path, allow_pickle=False), np.float64)
    except OSError as error:
        raise DataError(f"model.init: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, EOFError) as error:
        raise DataError(f"model.init: {path} is no .npy file of numbers") from error
    if found.ndim != 2:
        raise DataError(f"model.init: {path} has the shape {found.shape}; centres are a matrix, one a row")
    return found


_METRICS: Mapping[str, Callable[[Dataset, NDArray[np.float64]], float]] = {
    "inertia": inertia,
    "silhouette_sampled": silhouette,
}


def _evaluate(data: Dataset, model: ClusterModel, metrics: Sequence[str], name: str) -> Scores:
    """Return metrics on the rows, NaN and why for one that they have not. Collective, a pass each."""
    values, notes = {}, {}
    for metric in metrics:
        try:
            values[metric] = _METRICS[metric](data, model.centers)
        except DataError as error:
            if not error.on_all_ranks:
                raise
            values[metric], notes[metric] = float("nan"), str(error)
    return Scores(values, data.n_samples, notes)


def _columns(model: ClusterModel, block: Block) -> dict[str, NDArray[Any]]:
    """Return the label of each row, and its distance to that centre. Local."""
    found = nearest(block, model.centers)
    return {"prediction": found.labels.astype(np.float64), "distance": np.sqrt(found.distances)}


FAMILY = Family(_solve, _evaluate, _columns, clusters_from_arrays)
