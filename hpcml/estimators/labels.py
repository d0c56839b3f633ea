"""Labels of any type, their codes, and the classes that all ranks agree on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from hpcml.algorithms.distinct import Two, find_two
from hpcml.collectives import Communicator
from hpcml.errors import DataError

__all__ = ["Labels", "agree_on_classes", "check_classes", "find_labels"]

_SENT = 1001
"""Labels that a rank tells the others: one more than a classifier takes."""
_SHOWN = 3
_WHOLE = 2.0**53
"""Beyond it scikit-learn's test for whole numbers may say no."""


class Labels(NamedTuple):
    """One rank's distinct labels.

    Attributes
    ----------
    distinct : (n_labels,) array
        In order.
    place : (rows,) array of int or bool
        ``distinct[place]`` are the rows' labels; of two labels, which are the second.
    counted : (n_labels,) array of bool
        Which of them have a row whose weight is not zero.
    """

    distinct: NDArray[Any]
    place: NDArray[np.intp] | NDArray[np.bool_]
    counted: NDArray[np.bool_]

    def codes(self, classes: NDArray[Any]) -> NDArray[np.float64]:
        """Return each row's place in `classes`, -1 for a label that is not there. Local."""
        known = {label: code for code, label in enumerate(classes.tolist())}
        codes = [known.get(label, -1) for label in self.distinct.tolist()]
        if self.place.dtype == bool:
            return np.where(self.place, float(codes[1]), float(codes[0]))
        return np.array(codes, np.float64)[self.place]


def find_labels(y: NDArray[Any], weight: NDArray[np.float64] | None) -> Labels:
    """Return the labels of this rank's rows. Local.

    Raises
    ------
    ValueError
        y is no label: continuous, say.
    """
    two = _two_numbers(y)
    labels = _sorted_labels(y, weight) if two is None else _labels_of_two(*two, weight)
    strange = [label for label in labels.distinct.tolist() if not isinstance(label, str | int | float)]
    if strange:
        raise DataError(f"y: labels must be strings, numbers or booleans, not {type(strange[0]).__name__}")
    return labels


def _sorted_labels(y: NDArray[Any], weight: NDArray[np.float64] | None) -> Labels:
    if y.size:
        check_classification_targets(y)
    distinct, place = np.unique(y, return_inverse=True)
    used = place if weight is None else place[weight != 0]
    return Labels(distinct, place, np.bincount(used, minlength=distinct.size) > 0)


def _two_numbers(y: NDArray[Any]) -> Two | None:
    """Return the two whole numbers that y has, which scikit-learn takes for labels, if it has two."""
    if y.ndim != 1 or y.dtype.kind not in "biuf":
        return None
    two = find_two(y)
    if two is None:
        return None
    numbers = two[0].astype(np.float64)
    return two if ((numbers == np.trunc(numbers)) & (np.abs(numbers) < _WHOLE)).all() else None


def _labels_of_two(
    distinct: NDArray[Any], place: NDArray[np.bool_], weight: NDArray[np.float64] | None
) -> Labels:
    used = place if weight is None else place[weight != 0]
    n_second = np.count_nonzero(used)
    return Labels(distinct, place, np.array([n_second < used.size, n_second > 0]))


def agree_on_classes(comm: Communicator, labels: Labels, most: int) -> NDArray[Any]:
    """Return the labels of all ranks that count, in order and in y's dtype. Collective, two small messages.

    Parameters
    ----------
    comm : Communicator
    labels : Labels
    most : int
        Classes that the model takes.

    Raises
    ------
    DataError
        Labels are strings here and numbers there, or there is one of them alone, or more than `most`.
    """
    mine = labels.distinct[labels.counted]
    said = comm.allgather([mine.dtype.str, mine[:_SENT].tolist()])
    dtypes = [np.dtype(name) for name, values in said if values]
    if len({dtype.kind in "OU" for dtype in dtypes}) > 1:
        shown = ", ".join(sorted({str(dtype) for dtype in dtypes}))
        raise DataError(f"ranks differ in the type of y: {shown}")
    everyone = sorted(set().union(*(values for _, values in said)))
    check_classes(everyone, most)
    return np.array(everyone, np.result_type(*dtypes))


def check_classes(classes: list[Any], most: int) -> None:
    """Refuse fewer classes than two and more than `most`, in scikit-learn's words. Local."""
    if not classes:
        raise DataError("no row has a label and a weight above zero")
    if len(classes) == 1:
        raise DataError(
            f"a classifier needs two classes, but the data contains only one class: {classes[0]!r}"
        )
    shown = ", ".join(repr(label) for label in classes[:_SHOWN])
    if len(classes) > most > 2:
        raise DataError(f"y has more than {most} distinct values ({shown}, ...): not a class label")
    if len(classes) > most:
        raise DataError(
            f"Only binary classification is supported. The type of the target is multiclass: {shown}, ..."
        )
