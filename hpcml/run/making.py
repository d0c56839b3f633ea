"""Data files that a run makes first: from tables, or by a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpcml.collectives import Communicator, agreed
from hpcml.errors import SpecError
from hpcml.io.convert.conversion import convert
from hpcml.io.convert.recipe import Recipe, resolve_source
from hpcml.spec import Data, Spec
from hpcml.spec.schema_generate import Generate

__all__ = ["make_inputs", "make_recipe"]


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
        y=data.y or "y",
        beside=tuple(dict.fromkeys(filter(None, (data.weight, data.offset, data.exposure)))),
    )


def _numbers(mapping: Mapping[str, float | str]) -> dict[str, float]:
    for raw, value in mapping.items():
        if isinstance(value, str):
            raise SpecError(
                f"data.target.map: {raw!r} becomes the text {value!r}; write a number, as in {raw}: 1"
            )
    return {raw: float(value) for raw, value in mapping.items()}


def make_inputs(spec: Spec, comm: Communicator, say: Callable[[str], None]) -> None:
    """Make `data.path` from `data.source` or `data.generate`, unless the file is up to date. Collective."""
    if spec.data.generate is not None:
        _generate(spec.data.path[0], spec.data.generate, spec.seed, comm, say)
    if spec.data.source:
        sources = resolve_source(list(spec.data.source))
        convert(comm, sources, spec.data.path[0], make_recipe(spec.data), say)


def _generate(
    path: Path, wanted: Generate, seed: int, comm: Communicator, say: Callable[[str], None]
) -> None:
    """Make synthetic data unless they are there by the same recipe. Collective."""
    from hpcml.data.synthetic import Synthetic
    from hpcml.io.write.filters import Storage
    from hpcml.io.write.generate import generate_file

    given = {name: value for name, value in vars(wanted).items() if value is not None}
    with agreed(comm):
        storage = Storage(chunk_rows=given.pop("chunk_rows", None), compression=given.pop("compression"))
        settings = Synthetic(**{"seed": seed, **given})
    generate_file(comm, path, settings, storage, say)
