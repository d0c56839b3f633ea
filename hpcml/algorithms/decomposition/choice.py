"""Which method finds the components, and why."""

from __future__ import annotations

from typing import NamedTuple

from hpcml.algorithms.decomposition.spectrum import Wanted
from hpcml.errors import DataError, SpecError, shared

__all__ = ["ALIASES", "METHODS", "Choice", "choose"]

METHODS = ("gram", "tsqr", "randomized")
ALIASES = {"covariance_eigh": "gram", "full": "tsqr"}
_SQUARES = 4096
"""Columns whose squares a rank can hold and a message can carry."""
_SMALL = 1000
_THIN = 16


class Choice(NamedTuple):
    """A method by name, and why it was chosen, a sentence."""

    name: str
    reason: str


def choose(asked: str, wanted: Wanted, n_samples: int, n_features: int) -> Choice:
    """Return the method for rows of a shape, the same on every rank. Local.

    Parameters
    ----------
    asked : {"auto", "gram", "tsqr", "randomized"} or scikit-learn's name of one
    wanted : int, float, "mle" or None
        Number of components.

    Raises
    ------
    SpecError
        No method has that name, or the method cannot give what is wanted.
    DataError
        More components than rows or columns, or too many columns for the method.
    """
    name = ALIASES.get(asked, asked)
    most = min(n_samples, n_features)
    if isinstance(wanted, int) and not 1 <= wanted <= most:
        shape = f"n_samples={n_samples}, n_features={n_features}"
        raise shared(DataError(f"n_components={wanted} must be from 1 to {most}, as X has {shape}"))
    if name == "auto":
        return _chosen(wanted, most, n_features)
    if name not in METHODS:
        raise SpecError(f"no method is called {asked!r}: take auto, {', '.join(METHODS)}")
    if name == "randomized" and not isinstance(wanted, int | None):
        raise SpecError(f"n_components={wanted!r} needs all components: svd_solver 'gram' or 'tsqr'")
    if name != "randomized" and n_features > _SQUARES:
        raise shared(DataError(_too_wide(n_features)))
    return Choice(name, "it was asked for")


def _chosen(wanted: Wanted, most: int, d: int) -> Choice:
    if d <= _SMALL:
        return Choice("gram", f"{d} columns are few: one pass of products is exact and cheapest")
    if isinstance(wanted, int) and (_THIN * wanted < d or d > _SQUARES) and wanted < 0.8 * most:
        return Choice("randomized", f"{wanted} of {d} components cost least by random directions")
    if d > _SQUARES:
        raise shared(DataError(f"{_too_wide(d)} and a small n_components"))
    return Choice("gram", f"{d} columns are few enough for one pass of products, which are exact")


def _too_wide(d: int) -> str:
    size = f"{d * d * 8 / 1e9:.1f} GB (at most {_SQUARES:,} columns)"
    return f"all products of {d:,} columns take {size}: use svd_solver 'randomized'"
