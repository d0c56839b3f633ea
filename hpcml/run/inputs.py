"""From the spec's data section to data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpcml.collectives import Communicator
from hpcml.data import RowSelection
from hpcml.errors import SpecError
from hpcml.io.convert import convert
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.recipe import Recipe, resolve_source
from hpcml.spec import Data, Spec

__all__ = ["convert_inputs", "make_recipe", "open_part"]


def make_recipe(data: Data) -> Recipe:
    """Return how the tables of a spec become X and y. Local."""
    target = data.target
    return Recipe(
        numeric=data.columns.numeric,
        categorical=data.columns.categorical,
        include=data.columns.include,
        exclude=data.columns.exclude,
        target=target.column if target else None,
        threshold=target.threshold if target else None,
        mapping=_numbers(target.map) if target and target.map else None,
        missing=data.missing,
        layout=data.layout,
        dtype=data.dtype,
        format="auto" if data.format == "hdf5" else data.format,
        x=data.x,
        y=data.y,
    )


def _numbers(mapping: Mapping[str, float | str]) -> dict[str, float]:
    for raw, value in mapping.items():
        if isinstance(value, str):
            raise SpecError(
                f"data.target.map: {raw!r} becomes the text {value!r}; write a number, as in {raw}: 1"
            )
    return {raw: float(value) for raw, value in mapping.items()}


def convert_inputs(spec: Spec, comm: Communicator, say: Callable[[str], None]) -> None:
    """Make `data.path` from `data.source` unless it is there by the same recipe. Collective."""
    if spec.data.source:
        sources = resolve_source(list(spec.data.source))
        convert(comm, sources, Path(spec.data.path), make_recipe(spec.data), say)


def open_part(spec: Spec, comm: Communicator, part: str) -> HDF5Dataset:
    """Open the rows of one part, "train" or "test". Collective, three small messages."""
    data, path = spec.data, Path(spec.data.path)
    if data.split.method == "hash":
        share = float(data.split.test) if not isinstance(data.split.test, Path) else 0.0
    else:
        share, path = 0.0, data.split.test if part == "test" and isinstance(data.split.test, Path) else path
        part = "all"
    rows = data.rows
    selection = RowSelection(spec.seed, rows.start or 0, rows.stop, rows.fraction, share, part)
    selects = selection != RowSelection(spec.seed, test=share, part="all")
    return HDF5Dataset(
        path,
        comm=comm,
        x=data.x,
        y=data.y,
        weight=data.weight,
        selection=selection if selects else None,
        layout=_layout(data),
    )


def _layout(data: Data) -> Layout:
    cut = data.partition
    return Layout(
        data.cache,
        data.memory_limit,
        data.dtype,
        None if cut.shard_bytes == "auto" else cut.shard_bytes,
        None if cut.block_rows == "auto" else cut.block_rows,
    )
