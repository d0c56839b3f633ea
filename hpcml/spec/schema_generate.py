"""The keys of `data.generate`, and which of them fit which kind of data."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from hpcml.spec.fields import Misfit, key, keys_of, schema
from hpcml.spec.kinds import boolean, choice, integer, number, optional, text

__all__ = ["GENERATED", "Generate", "misfit"]

GENERATED = ("classification", "regression", "counts", "blobs", "sparse")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "classes": ("classification", "sparse"),
    "informative": ("classification", "regression", "counts", "sparse"),
    "condition": ("classification", "regression", "counts"),
    "centers": ("blobs",),
    "density": ("sparse",),
}
"""The kinds that a key fits, where it does not fit all of them."""


def misfit(values: Mapping[str, Any], changed: Set[str]) -> tuple[str, str] | None:
    """Return a key that does not fit the others, and why; None where all do. Local.

    Parameters
    ----------
    values : mapping
        Of the keys of `Generate`.
    changed : set of str
        The keys whose values are not the defaults.
    """
    kind = values["kind"]
    for name in sorted(changed):
        if kind not in _KINDS.get(name, GENERATED):
            fitting = ", ".join(_KINDS[name])
            return name, f"does not fit kind {kind}; leave it out, or take kind {fitting}"
    informative, features = values["informative"], values["features"]
    if informative is not None and informative > features:
        return "informative", f"{informative} of {features} features is too many; write at most {features}"
    if kind in ("classification", "sparse") and (values["noise"] or 0.0) > 1.0:
        return "noise", "is a share of labels for this kind; write a number in [0, 1]"
    return None


@schema
class Generate:
    """Synthetic data that `run` makes when `data.path` is absent or of another recipe."""

    kind: str = key(choice(*GENERATED), doc="what the rows are made for")
    rows: int = key(integer("[1, inf)"), doc="number of rows")
    features: int = key(integer("[1, inf)"), doc="number of columns of X")
    classes: int = key(integer("[2, 1e6]"), 2, doc="number of classes")
    informative: int | None = key(
        optional(integer("[1, inf)")), None, shown="10, sparse: all", doc="features that y depends on"
    )
    centers: int = key(integer("[1, 1e6]"), 3, doc="number of blobs")
    noise: float | None = key(
        optional(number("[0, inf)")),
        None,
        shown="by kind",
        doc="deviation added to y (regression, 1), to the log rate (counts, 0), of a blob (1); or share of "
        "labels drawn at random (0.01)",
    )
    density: float = key(number("(0, 1]"), 0.01, doc="share of sparse X that is not zero")
    condition: float = key(number("[1, inf)"), 1.0, doc="condition number of the covariance of dense X")
    weights: bool = key(boolean(), False, doc="write row weights, uniform in [0.5, 1.5), as data set weight")
    seed: int | None = key(optional(integer("[0, inf)")), None, shown="seed", doc="of the random numbers")
    dtype: str = key(choice("float64", "float32"), "float64", doc="of stored X")
    chunk_rows: int | None = key(
        optional(integer("[1, inf)")),
        None,
        doc="rows of an HDF5 chunk; null: in one piece, unless compressed",
    )
    compression: str = key(
        text(r"[a-z0-9-]+(:[0-9]+)?", name="a compression, as in gzip:4"), "none", doc="of the chunks"
    )

    @classmethod
    def settle(cls, values: dict[str, Any], given: frozenset[str]) -> None:
        """Refuse a key that does not fit the kind."""
        changed = {name for name, entry in keys_of(cls) if values[name] != entry.default}
        found = misfit(values, changed)
        if found is not None:
            raise Misfit(*found)
