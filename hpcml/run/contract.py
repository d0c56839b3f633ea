"""The data contract: what `hpcml index` finds out once, and later runs need not find out again."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml import __version__
from hpcml.algorithms.arithmetic import arithmetic_family
from hpcml.algorithms.scaling import Scaling, make_scaling, spreads, sums
from hpcml.algorithms.survey import Names, Survey, survey
from hpcml.collectives import Communicator, agreed
from hpcml.io.dataset import HDF5Dataset
from hpcml.io.index.side_file import load_index, read_answer, write_index
from hpcml.io.index.verify import answer_key, is_known_finite
from hpcml.io.read.table import HDF5Table
from hpcml.run.inputs import names_of
from hpcml.run.shared_pass import SharedPass

__all__ = ["Known", "known_rows", "look_through", "save_answers"]

_PLAIN_NAMES = Names()


class Known(NamedTuple):
    """What is known of the rows of a data set; scaling None where it still takes passes over them."""

    survey: Survey
    scaling: Scaling | None


def look_through(data: HDF5Dataset, table: HDF5Table, *, classes: bool, names: Names = _PLAIN_NAMES) -> Known:
    """Return what the index of the files knows of these rows, else what a survey of them finds.

    Collective: four small messages and no pass, or a survey. The answers are those that the same functions
    gave for the same bytes, cut in the same way, by the same arithmetic and version.

    Parameters
    ----------
    data : HDF5Dataset
        Of rows of `table`.
    table : HDF5Table
    classes : bool
    names : Names

    Raises
    ------
    DataError
        As `survey`; or rows that are kept in memory differ from the index.
    """
    known = _answered(data, table, classes)
    if known is None:
        is_finite = is_known_finite(table.layout, table.dtype)
        return Known(survey(data, classes=classes, names=names, finite=is_finite), None)
    with agreed(data.comm):
        if (
            data.in_memory
        ):  # what cannot be read is better said now, by all ranks, than in the first iteration
            for _ in data.blocks():
                pass
    return known


def _key(data: HDF5Dataset, table: HDF5Table) -> tuple[Path, str] | None:
    rest = [str(table.dtype), arithmetic_family(), __version__]
    return answer_key(table.layout, data.partition, data.selection, rest)


def _answered(data: HDF5Dataset, table: HDF5Table, classes: bool) -> Known | None:
    """Return what the index knows of these rows. Collective, three small messages if there is an index."""
    key = _key(data, table)
    if key is None:
        return None
    answer = None
    with agreed(data.comm):
        if data.comm.rank == 0:
            answer = read_answer(*key)
    answer = data.comm.bcast(answer)
    if answer is None or (classes and answer["classes"] is None):
        return None
    labels = np.array(answer["classes"] if classes else [], np.float64)
    found = Survey(answer["n_rows"], answer["total_weight"], labels, answer["digest"])
    columns = answer["scaling"] and Scaling(*map(_numbers, answer["scaling"]))
    return Known(found, columns)


def _text(numbers: NDArray[np.float64]) -> str:
    return base64.b64encode(numbers.astype("<f8").tobytes()).decode()


def _numbers(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64)


def known_rows(
    data: HDF5Dataset,
    table: HDF5Table,
    *,
    classes: bool,
    scaling: bool,
    first: NDArray[np.float64] | None = None,
) -> dict[Path, Any]:
    """Return the answer for the rows of a data set, by key, under the file whose index is to hold it.

    Collective: a pass; with `scaling` two, for deviations are taken from the mean, or one where `first` is
    known.

    Parameters
    ----------
    data : HDF5Dataset
    table : HDF5Table
    classes : bool
        Labels are classes.
    scaling : bool
        Find means and deviations too, of the bits that `fit_scaling` gives.
    first : (1 + n_features,) array, optional
        The totals of `scaling.sums` over these rows.

    Raises
    ------
    DataError
        As `survey`.
    """
    names = names_of(table.path, table.names)
    if scaling:
        found, columns = _with_scaling(data, classes, names, first)
    else:
        found, columns = survey(data, classes=classes, names=names), None
    key = _key(data, table)
    if key is None:
        return {}
    answer = {
        "n_rows": found.n_rows,
        "total_weight": found.total_weight,
        "classes": found.classes.tolist() if classes else None,
        "digest": found.digest,
        "scaling": [_text(column) for column in columns] if columns else None,
    }
    return {key[0]: {key[1]: answer}}


def _with_scaling(
    data: HDF5Dataset, classes: bool, names: Names, first: NDArray[np.float64] | None
) -> tuple[Survey, Scaling]:
    """Return what a survey finds, and means and deviations: the pass for the deviations is the survey's."""
    d = data.n_features
    totals = SharedPass(data, sums).total(1 + d) if first is None else first
    shared = SharedPass(data, lambda block: spreads(block, totals))
    found = survey(shared, classes=classes, names=names)
    return found, make_scaling(totals, shared.total(d), data.n_samples, True, True)


def save_answers(comm: Communicator, answers: Sequence[dict[Path, Any]]) -> None:
    """Add answers to the indexes of files whose tables were closed. Collective, one small message.

    Raises
    ------
    OutputError
        A side file cannot be written.
    """
    with agreed(comm):
        if comm.rank == 0:
            for path in dict.fromkeys(path for one in answers for path in one):
                content = load_index(path)
                for one in answers:
                    content.answers.update(one.get(path, {}))
                write_index(path, content)
