"""The rows to learn from and those to measure on: opened, looked through, and what reading them cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from hpcml.algorithms.losses.kinds import make_loss
from hpcml.algorithms.scaling import Scaling
from hpcml.algorithms.survey import Names, Survey, survey
from hpcml.algorithms.target import NO_TARGET, Target, look_at_target
from hpcml.collectives import Communicator
from hpcml.errors import DataError, shared
from hpcml.io.dataset import HDF5Dataset
from hpcml.io.read.table import HDF5Table
from hpcml.run.inputs import columns_of, names_of, open_part, open_rows
from hpcml.run.phases import Phases
from hpcml.run.placing import Place, placed
from hpcml.spec import Spec
from hpcml.spec.schema_model import UNLABELLED

__all__ = ["Parts", "open_parts"]

_WHERE = {"memory": "kept in memory", "scratch": "mapped from scratch", "none": "read at each pass"}


class Parts(NamedTuple):
    """Both parts, and what the first look at them found; the digest is of both, the target the training's."""

    rows: HDF5Table
    place: Place
    train: HDF5Dataset
    test_rows: HDF5Table | None
    test: HDF5Dataset | None
    found: Survey
    target: Target
    scaling: Scaling | None = None

    def reading(self, comm: Communicator) -> dict[str, Any]:
        """Return what reading has cost so far: the most of any rank, bytes over all. Collective."""
        sets = [part for part in (self.train, self.test) if part is not None]
        traffic = [rows.traffic for rows in {id(rows): rows for rows in self._tables}.values()]
        seconds = [sum(part.times.reading for part in sets), sum(part.times.waiting for part in sets)]
        opens, retries = (sum(getattr(one, name) for one in traffic) for name in ("opens", "retries"))
        most, counts = comm.allreduce(np.array(seconds), op="max")[0], np.array([opens, retries])
        (n_bytes,) = comm.allreduce(np.array([sum(one.bytes_read for one in traffic)]))[0]
        opens, retries = comm.allreduce(counts, op="max")[0]
        verified = self._verified()
        (compared,) = comm.allreduce(np.array(verified or (0, 0)))
        return {
            "bytes": int(n_bytes),
            "passes": sum(part.passes for part in sets),
            "opens_per_rank": int(opens),
            "retries": int(retries),
            "seconds": round(float(most[0]), 4),
            "waiting": round(float(most[1]), 4),
            "verified": verified and dict(zip(("grains", "rows"), compared.tolist(), strict=True)),
            "hidden": round(1.0 - min(most[1] / most[0], 1.0), 4) if most[0] else 0.0,
        }

    def _verified(self) -> tuple[int, int] | None:
        """Return the grains and rows of X that were compared with an index here, None if there is none."""
        tables = [*self._tables, self.place.rows]
        checks = {id(one): one for table in tables if (one := getattr(table, "verification", None))}
        counts = [one.counts() for one in checks.values()]
        return (sum(one[0] for one in counts), sum(one[1] for one in counts)) if counts else None

    @property
    def _tables(self) -> list[HDF5Table]:
        return [rows for rows in (self.rows, self.test_rows) if rows is not None]


def open_parts(
    spec: Spec,
    comm: Communicator,
    stack: ExitStack,
    phases: Phases,
    attempt: int,
    show: Callable[[str], None],
) -> Parts:
    """Open and look through both parts, so that bad rows end the job before it has worked.

    Collective, one pass over each part, two for a loss with a log link.

    Raises
    ------
    DataError
        Rows that cannot be read or learnt from.
    """
    split = spec.data.split
    with phases("open"):
        rows = stack.enter_context(open_rows(spec, comm, "train"))
        place = placed(spec, comm, stack, rows, attempt, show)
        train = stack.enter_context(open_part(spec, comm, "train", place.rows, place.cache))
        test_rows = test = None
        if split.method != "none" and split.test != 0.0:
            test_rows, there = rows, place
            if split.method == "file":
                test_rows = stack.enter_context(open_rows(spec, comm, "test"))
                there = placed(spec, comm, stack, test_rows, attempt, show)
            test = stack.enter_context(open_part(spec, comm, "test", there.rows, there.cache))
    where = _WHERE[place.cache]
    show(f"{train.n_samples:,} training rows x {train.n_features:,} features, {where} ({place.reason})")
    _note_indexes((rows, test_rows or rows), show)
    with phases("read"):
        classes = spec.task == "classification"
        found, scaling = _looked_at(train, rows, classes, _names(spec, rows))
        target = _target(spec, train, rows, found)
        if test is not None and test_rows is not None:
            found = _with_test(spec, train, test, test_rows, found)
            _target(spec, test, test_rows, found)
    return Parts(rows, place, train, test_rows, test, found, target, scaling)


def _target(spec: Spec, data: HDF5Dataset, table: HDF5Table, found: Survey) -> Target:
    """Return what the loss of a model with labels needs of them. Collective."""
    if spec.task in UNLABELLED:
        return NO_TARGET
    loss = make_loss(spec.model.type, found.classes, spec.model.power)
    return look_at_target(data, loss, _names(spec, table).y)


def _note_indexes(tables: Sequence[HDF5Table], show: Callable[[str], None]) -> None:
    if any(any(table.layout.indexes) for table in tables):
        from hpcml.io.index.verify import index_notes

        for note in dict.fromkeys(note for table in tables for note in index_notes(table.layout)):
            show(f"hpcml: warning: {note}")


def _looked_at(
    data: HDF5Dataset, table: HDF5Table, classes: bool, names: Names
) -> tuple[Survey, Scaling | None]:
    """Return what a survey finds, or an index knows; the scaling only where it knows that too. Collective."""
    if not any(table.layout.indexes):
        return survey(data, classes=classes, names=names), None
    from hpcml.run.contract import look_through

    known = look_through(data, table, classes=classes, names=names)
    return known.survey, known.scaling


def _with_test(spec: Spec, train: HDF5Dataset, test: HDF5Dataset, table: HDF5Table, found: Survey) -> Survey:
    """Look through the test part: what it could refuse after the fit would cost the fit. Collective."""
    wanted, names = spec.task == "classification", _names(spec, table)
    if test.n_features != train.n_features:
        columns = f"{names.X} has {test.n_features} columns"
        raise shared(DataError(f"{columns} and the training rows have {train.n_features}"))
    other, _ = _looked_at(test, table, wanted, names)
    strange = np.setdiff1d(other.classes, found.classes)
    if strange.size:
        sentence = f"{names.y}: the test part has the label {strange[0]:g}, which no training row has"
        raise shared(DataError(sentence))
    if wanted and "roc_auc" in spec.evaluation.metrics and len(other.classes) == 1:
        alone = f"{names.y}: the test part has the label {other.classes[0]:g} alone"
        cure = "ROC AUC needs both, so leave roc_auc out or take other test rows"
        raise shared(DataError(f"{alone}; {cure}"))
    return found._replace(digest=hashlib.sha256((found.digest + other.digest).encode()).hexdigest())


def _names(spec: Spec, rows: HDF5Table) -> Names:
    return names_of(rows.path, columns_of(spec))
