"""Virtual data sets: the runs of whole rows of other data sets that one is made of.

HDF5 reads a source that is missing as fill values, without a word. Here every source is opened and checked
first, and rows are read from the sources themselves.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from hpcml.errors import DataError
from hpcml.io.read.opening import ALLOW, check_declared, check_written, found, open_file

__all__ = ["VirtualPart", "virtual_parts"]


class VirtualPart(NamedTuple):
    """Rows ``start:start + n_rows`` of a virtual data set: those from `source_start` on of a data set."""

    path: Path
    name: str
    source_start: int
    start: int
    n_rows: int


class _Mapping(NamedTuple):
    """One mapping as it stands in the header; source rows None: all of the source."""

    filename: str
    name: str
    rows: range
    source_rows: range | None


def virtual_parts(item: h5py.Dataset, path: Path, *, allow_external: bool = False) -> list[VirtualPart]:
    """Return the parts of a virtual data set in the order of their rows. Local; opens each source once.

    Parameters
    ----------
    item : h5py.Dataset
        Of one or more axes; the first counts rows.
    path : Path
        Of its file: names of sources are relative to its directory, as HDF5 resolves them. "." is itself.
    allow_external : bool
        Take sources outside that directory, and follow external links in the sources.

    Returns
    -------
    list of VirtualPart
        They tile all rows, without a gap or an overlap.

    Raises
    ------
    DataError
        A source is missing, outside, not HDF5, of other columns or another type, too short, never written, or
        virtual itself; rows have no source, or two; a part is not a run of whole rows; names hold "%b".
    """
    mappings = sorted(_mappings(item, path), key=lambda mapping: mapping.rows.start)
    _check_tiling(item, path, mappings)
    opened: dict[Path, h5py.File] = {}
    parts = []
    try:
        for mapping in mappings:
            source = _resolved(item, path, mapping, allow_external)
            if source not in opened:
                _close(opened)  # sources come in runs; ten thousand open files are too many
                opened[source] = _open_source(item, path, source)
            parts.append(_checked(item, path, mapping, source, opened[source], allow_external))
    finally:
        _close(opened)
    return parts


def _close(opened: dict[Path, h5py.File]) -> None:
    while opened:
        opened.popitem()[1].close()


def _called(item: h5py.Dataset, path: Path) -> str:
    return f"{path}: the virtual data set {(item.name or '?').lstrip('/')!r}"


def _mappings(item: h5py.Dataset, path: Path) -> list[_Mapping]:
    properties = item.id.get_create_plist()
    return [_mapping(item, path, properties, i) for i in range(properties.get_virtual_count())]


def _mapping(item: h5py.Dataset, path: Path, properties: Any, i: int) -> _Mapping:
    filename, name = properties.get_virtual_filename(i), properties.get_virtual_dsetname(i)
    if "%b" in (filename + name).replace("%%", ""):
        raise DataError(
            f"{_called(item, path)} names its sources by the pattern {filename!r}, {name!r}, which ends "
            "silently at the first one that is missing; name every source"
        )
    columns = tuple(item.shape[1:])
    rows = _rows(properties.get_virtual_vspace(i), columns)
    space = properties.get_virtual_srcspace(i)
    whole = space.get_select_type() == h5py.h5s.SEL_ALL
    source_rows = None if whole else _rows(space, columns)
    if rows is None or (source_rows is None and not whole):
        raise DataError(
            f"{_called(item, path)} is not made of runs of whole rows (see its part from {filename!r}); "
            "copy it into an ordinary data set, or stack whole rows"
        )
    # A sign of per cent is stored twice.
    return _Mapping(filename.replace("%%", "%"), name.replace("%%", "%"), rows, source_rows)


def _rows(space: Any, columns: tuple[int, ...]) -> range | None:
    """Return the rows of a selection that is a run of whole rows, None of any other."""
    box = _box(space)
    if box is None or len(box) != 1 + len(columns):
        return None
    if any(side != range(n) for side, n in zip(box[1:], columns, strict=True)):
        return None
    return box[0]


def _box(space: Any) -> list[range] | None:
    """Return the sides of a selection that is one solid box, None of any other."""
    if space.get_select_type() not in (h5py.h5s.SEL_ALL, h5py.h5s.SEL_HYPERSLABS):
        return None
    try:
        first, last = space.get_select_bounds()
        n_selected = space.get_select_npoints()
    except (RuntimeError, ValueError):  # a selection without an end, or of nothing
        return None
    box = [range(a, b + 1) for a, b in zip(first, last, strict=True)]
    return box if n_selected == prod(map(len, box)) else None


def _check_tiling(item: h5py.Dataset, path: Path, mappings: list[_Mapping]) -> None:
    at = 0
    for mapping in mappings:
        if mapping.rows.start > at:
            break
        if mapping.rows.start < at:
            raise DataError(f"{_called(item, path)} takes row {mapping.rows.start} from two sources")
        at = mapping.rows.stop
    if at < item.shape[0]:
        raise DataError(f"{_called(item, path)} has no source for row {at}; HDF5 would read fill values")


def _resolved(item: h5py.Dataset, path: Path, mapping: _Mapping, allow_external: bool) -> Path:
    """Return the file of a source: as named, then beside the virtual file; never by the working directory."""
    if mapping.filename == ".":
        return path
    named = Path(mapping.filename)
    homes = list(dict.fromkeys([path.parent, path.resolve().parent]))
    candidates = [home / named for home in homes]  # an absolute name stays as it is
    if named.is_absolute():
        candidates += [home / named.name for home in homes]
    source = next((file for file in candidates if os.path.lexists(file)), None)
    if source is None:
        raise DataError(f"{_called(item, path)} lacks its source {str(candidates[0])!r}: no such file")
    inside = ".." not in named.parts and any(source.is_relative_to(home) for home in homes)
    if not inside and not allow_external:
        raise DataError(
            f"{_called(item, path)} takes rows from {mapping.filename!r}, outside its directory; "
            f"{ALLOW} to read it"
        )
    return source


def _open_source(item: h5py.Dataset, path: Path, source: Path) -> h5py.File:
    try:
        return open_file(source)
    except DataError as error:
        raise DataError(f"{_called(item, path)} cannot use its source {error}") from None


def _checked(
    item: h5py.Dataset, path: Path, mapping: _Mapping, source: Path, file: h5py.File, allow_external: bool
) -> VirtualPart:
    there = found(file, mapping.name, h5py.Dataset, allow_external=allow_external)
    what = f"{_called(item, path)} takes rows from {mapping.name.lstrip('/')!r} of {source}, which"
    if there.is_virtual:
        raise DataError(f"{what} is virtual itself; name the data sets that hold the rows")
    check_declared(there)
    if there.dtype != item.dtype or there.shape[1:] != item.shape[1:]:
        mine, its = (f"{' x '.join(map(str, ('rows', *x.shape[1:])))} {x.dtype}" for x in (item, there))
        raise DataError(f"{what} is {its}, not {mine}")
    rows = range(there.shape[0]) if mapping.source_rows is None else mapping.source_rows
    if rows.stop > there.shape[0] or len(rows) != len(mapping.rows):
        needed = len(mapping.rows) if mapping.source_rows is None else rows.stop
        raise DataError(f"{what} has {there.shape[0]} rows, not {needed}")
    check_written(there)
    return VirtualPart(source, mapping.name, rows.start, mapping.rows.start, len(mapping.rows))
