"""`hpcml index`: one pass over the rows of a file by all ranks, and what it leaves beside the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcml.algorithms.scaling import sums
from hpcml.algorithms.statistics import ShardRecord, Summary, merge_records, shard_records, summarize
from hpcml.collectives import Communicator, agreed
from hpcml.collectives.gathering import on_first
from hpcml.errors import DataError
from hpcml.io.dataset import HDF5Dataset, Layout
from hpcml.io.index.make import Recorder, other_arrays
from hpcml.io.index.side_file import (
    FORMAT,
    FileIndex,
    IndexContent,
    index_path,
    load_index,
    read_index,
    write_index,
)
from hpcml.io.index.verify import has_gaps
from hpcml.io.read.hdf5 import Columns
from hpcml.io.read.layout import Segment, TableLayout
from hpcml.io.read.stored import StoredArray
from hpcml.io.read.table import Access, HDF5Table, open_table
from hpcml.run.contract import known_rows, save_answers
from hpcml.run.inputs import columns_of, data_files, open_part, open_rows
from hpcml.run.making import make_inputs
from hpcml.run.placing import where_kept
from hpcml.run.shared_pass import SharedPass
from hpcml.run.statistics import target_of
from hpcml.spec import Spec

__all__ = ["index_files", "index_job"]

_MOST_NUMBERS = 4_000_000
Say = Callable[[str], None]
Numbers = dict[str, NDArray[Any]]


def index_files(
    comm: Communicator, paths: Sequence[Path], columns: Columns, say: Say, *, allow_external: bool = False
) -> None:
    """Write an index beside each file, with answers for all of its rows in float64 and the default partition.

    Collective. A file with rows of its own is read once where they fit in memory, else twice: the deviations
    are taken from the mean. Rows that lie in other files are read once more, for the indexes of these.

    Parameters
    ----------
    comm : Communicator
    paths : sequence of Path
        The sources of virtual data sets, and files that links lead to, get indexes of their own.
    columns : Columns
        Where y is "", it is `y` if the file has that.
    say : callable
        Takes a sentence for the user, on every rank.
    allow_external : bool
        Follow links and virtual data sets out of a file's directory.

    Raises
    ------
    DataError
        Rows cannot be read, or a file changed meanwhile.
    OutputError
        An index cannot be written.
    """
    access = Access(threads=0, allow_external=allow_external, verify=False)
    for path in paths:
        names = columns._replace(y=target_of(comm, path)) if columns.y == "" else columns
        with open_table(comm, [path], names, "float64", access) as table:
            if is_alone := _is_alone(table.layout):
                _index_alone(comm, table, say)
            else:
                _make_indexes(comm, table, access, say)
        if not is_alone:
            _answer(comm, path, names, access, say)


def _is_alone(layout: TableLayout) -> bool:
    """Tell whether the rows are all those of arrays in one file."""
    parts = list(chain(*layout.columns.values()))
    return len(layout.files) == 1 and all(
        part.source_start == 0 and part.stop == _n_rows(part) == layout.n_samples for part in parts
    )


def _index_alone(comm: Communicator, table: HDF5Table, say: Say) -> None:
    """Write the index of the file that has all rows of a table, and their answers. Collective."""
    rows = _index_rows(comm, table, Layout())
    path = table.path
    say(f"{index_path(path)} written")
    if False in rows.finite.values():
        _refuse(table, say)
        return
    table.layout = replace(table.layout, indexes=[_read_again(comm, table)])
    first = rows.first.total(1 + table.n_features)
    classes = rows.summary.labels is not None
    save_answers(comm, [known_rows(rows.data, table, classes=classes, scaling=True, first=first)])


def _read_again(comm: Communicator, table: HDF5Table) -> FileIndex:
    """Return the index that was just written. Collective, two small messages."""
    tree: list[Any] = []
    with agreed(comm):
        if comm.rank == 0 and (index := read_index(*table.layout.files[0])):
            tree = index.to_json()
    return FileIndex.from_json(comm.bcast(tree))


def _refuse(table: HDF5Table, say: Say) -> None:
    x, y = table.names[:2]
    say(f"{table.path} has NaN or Inf in {x!r} or {y!r}: jobs will refuse these rows")


def _answer(comm: Communicator, path: Path, names: Columns, access: Access, say: Say) -> None:
    """Add the answers for rows that lie in other files, whose indexes are there. Collective."""
    with open_table(comm, [path], names, "float64", replace(access, verify=True)) as table:
        if has_gaps(table.layout):
            _refuse(table, say)
            return
        classes = _has_labels(comm, table)
        answers = known_rows(HDF5Dataset(table, comm=comm), table, classes=classes, scaling=True)
    save_answers(comm, [answers])


def index_job(comm: Communicator, spec: Spec, say: Say) -> None:
    """Write the indexes of a spec's files that lack one, and answers for its training and test part.

    Collective: a pass for each index that is made; one over the training rows where they fit in memory, else
    two; one over the test rows.

    Raises
    ------
    DataError
        As the job would.
    OutputError
        An index cannot be written.
    """
    make_inputs(spec, comm, say)
    data = spec.data
    columns = columns_of(spec)
    access = Access(data.io.chunk_cache, 0, data.allow_external, verify=False)
    for part in ["train", *(["test"] if data.split.method == "file" else [])]:
        with open_table(comm, data_files(spec, comm, part), columns, "float64", access) as table:
            _make_indexes(comm, table, access, say, again=False)
    has_test = data.split.method != "none" and data.split.test != 0.0
    answers = [_part_answer(spec, comm, part) for part in ("train", *(["test"] if has_test else []))]
    save_answers(comm, answers)
    say(f"{len(list(chain(*answers)))} parts of the job {spec.name!r} are known")


def _part_answer(spec: Spec, comm: Communicator, part: str) -> dict[Path, Any]:
    """Return the answer for a part of a job, by key and file. Collective."""
    is_train = part == "train"
    with open_rows(spec, comm, part) as rows:
        # Only what is read again is worth keeping.
        cache = where_kept(spec, comm, rows) if is_train else "none"
        data = open_part(spec, comm, part, rows, cache)
        return known_rows(data, rows, classes=spec.task == "classification", scaling=is_train)


def _has_labels(comm: Communicator, table: HDF5Table) -> bool:
    """Tell whether the index of the file found few enough labels to be classes. Collective."""
    found = False
    with agreed(comm):
        if comm.rank == 0 and "y" in table.layout.columns:
            first = table.layout.columns["X"][0].file
            found = "labels/value" in load_index(table.layout.files[first].path).numbers
    return bool(comm.bcast(found))


def _make_indexes(
    comm: Communicator, table: HDF5Table, access: Access, say: Say, *, again: bool = True
) -> None:
    """Write the index of each file that holds rows of a table. Collective: a pass for each."""
    for number in _files_with_rows(table.layout):
        path = table.layout.files[number].path
        if not again and _is_known(comm, table.layout, number):
            continue
        names = _names_in(table.layout, number)
        if names is None:
            _index_columns(comm, table, number)
        else:
            with open_table(comm, [path], names, "float64", access) as rows:
                _index_rows(comm, rows, Layout("none"))
        say(f"{index_path(path)} written")


def _files_with_rows(layout: TableLayout) -> list[int]:
    return sorted({part.file for part in chain(*layout.columns.values())})


def _segment(layout: TableLayout, role: str, number: int) -> Segment | None:
    parts = layout.columns.get(role, [])
    return next((part for part in parts if part.file == number), None)


def _names_in(layout: TableLayout, number: int) -> Columns | None:
    """Return what X and the other columns are called in a file, None if it has no rows of X."""
    X, *others = (_segment(layout, role, number) for role in ("X", *Columns._fields[1:]))
    if X is None:
        return None
    name = X.arrays[0].name
    n = _n_rows(X)
    alike = (part.arrays[0].name if part and part.arrays[0].shape[0] == n else None for part in others)
    return Columns(name.rpartition("/")[0] if layout.is_sparse else name, *alike)


def _n_rows(part: Segment) -> int:
    """Return the rows of X in its file."""
    return part.arrays[0].shape[0] if len(part.arrays) == 1 else part.arrays[-1].shape[0] - 1


def _is_known(comm: Communicator, layout: TableLayout, number: int) -> bool:
    """Tell whether the index of a file fits it and knows the arrays. Collective, two small messages."""
    known = False
    if comm.rank == 0:
        try:
            index = read_index(*layout.files[number])
        except DataError:
            index = None
        parts = [part for part in chain(*layout.columns.values()) if part.file == number]
        names = {stored.name for part in parts for stored in part.arrays}
        known = index is not None and index.is_fresh and names <= set(index.arrays)
    return bool(comm.bcast(known))


def _index_columns(comm: Communicator, table: HDF5Table, number: int) -> None:
    """Write the index of a file that has columns of a table, but no rows of X. Collective."""
    recorder = Recorder(comm, table, number)
    recorder.read(recorder.names)
    _write(comm, table, number, recorder, {}, {}, {})


class _Indexed(NamedTuple):
    """The rows of a file whose index was written, and what the pass for it found."""

    data: HDF5Dataset
    summary: Summary
    finite: dict[str, bool]
    first: SharedPass


def _index_rows(comm: Communicator, table: HDF5Table, layout: Layout) -> _Indexed:
    """Write the index of the file that has all rows of a table. Collective: a pass, and the other arrays."""
    others = _others(comm, table)
    recorder = Recorder(comm, table, 0, others)
    data = HDF5Dataset(table, comm=comm, layout=layout)
    shared = SharedPass(data, sums)
    summary, records = _statistics(shared)
    recorder.read([stored.name for stored in others])
    names = _names_in(table.layout, 0) or table.names
    about = {
        "x": names.x,
        "y": names.y,
        "weight": names.weight,
        "n_rows": data.n_samples,
        "shard_rows": data.partition.shard_rows,
        "block_rows": data.partition.block_rows,
    }
    finite = _finite(table.layout, summary)
    _write(comm, table, 0, recorder, finite, about, _shard_numbers(comm, records, summary) | _totals(summary))
    return _Indexed(data, summary, finite, shared)


def _others(comm: Communicator, table: HDF5Table) -> list[StoredArray]:
    """Return the arrays of a file that have its rows, besides those of the table. Collective."""
    trees = []
    with agreed(comm):
        if comm.rank == 0:
            parts = chain(*table.layout.columns.values())
            names = {part.arrays[0].name for part in parts} | {table.names.x}
            trees = [stored.to_json() for stored in other_arrays(table.path, table.n_samples, sorted(names))]
    return [StoredArray.from_json(tree) for tree in comm.bcast(trees)]


def _statistics(data: SharedPass) -> tuple[Summary, list[ShardRecord]]:
    """Return statistics of all rows, and of each of my shards where that is not too much. Collective."""
    if data.partition.n_shards * data.n_features > _MOST_NUMBERS:
        return summarize(data), []
    records: list[ShardRecord] = []
    with agreed(data.comm):
        for block in data.blocks():
            records.extend(shard_records(block))
    return merge_records(data.comm, records, data.n_features), records


def _finite(layout: TableLayout, summary: Summary) -> dict[str, bool]:
    """Return whether the arrays of X and y have neither NaN nor Inf."""
    found = {}
    for role, columns in (("X", summary.features), ("y", summary.target)):
        part = _segment(layout, role, 0)
        if part is not None and columns is not None:
            ends = np.concatenate([columns.low, columns.high])
            found[part.arrays[0].name] = bool(np.isfinite(ends).all() and not columns.n_nan.any())
    return found


def _totals(summary: Summary) -> Numbers:
    numbers = {f"totals/{name}": values for name, values in summary.features._asdict().items()}
    if summary.target is not None:
        numbers |= {f"target/{name}": values for name, values in summary.target._asdict().items()}
    if summary.labels is not None:
        numbers["labels/value"] = np.array(list(summary.labels), np.float64)
        numbers["labels/rows"] = np.array(list(summary.labels.values()), np.int64)
    return numbers


def _shard_numbers(comm: Communicator, records: Sequence[ShardRecord], summary: Summary) -> Numbers:
    """Return statistics of every shard on the first rank, elsewhere of none. Collective."""
    d = summary.features.mean.size
    moments = [record.features for record in records]
    mine: Numbers = {"rows": np.array([record.n_rows for record in records], np.int64)}
    for name in ("mean", "low", "high", "n_nan"):
        kind = np.int64 if name == "n_nan" else np.float64
        mine[name] = np.array([getattr(one, name) for one in moments], kind).reshape(-1, d)
    if summary.labels is not None and len(summary.labels) * d < _MOST_NUMBERS:
        counts = [[(record.labels or {}).get(label, 0) for label in summary.labels] for record in records]
        mine["labels"] = np.array(counts, np.int64).reshape(-1, len(summary.labels))
    found = {
        f"shards/{name}": on_first(comm, values.reshape(-1)).reshape(-1, *values.shape[1:])
        for name, values in mine.items()
    }
    return found if found["shards/rows"].size else {}


def _write(
    comm: Communicator,
    table: HDF5Table,
    number: int,
    recorder: Recorder,
    finite: dict[str, bool],
    about: dict[str, Any],
    numbers: Numbers,
) -> None:
    """Write an index; what an older one knew of the same content stays. Collective."""
    arrays, digests = recorder.gathered(finite)
    path, identity = table.layout.files[number]
    with agreed(comm):
        table.check()
        if comm.rank == 0:
            state = {"format": FORMAT, "bytes": identity.size, "mtime_ns": identity.mtime_ns}
            old = _of_same_state(path, state)
            contract = {**state, **about, "arrays": old.contract["arrays"] | arrays}
            write_index(path, IndexContent(contract, old.numbers | digests | numbers, old.answers))


def _of_same_state(path: Path, state: dict[str, int]) -> IndexContent:
    """Return the digests and answers of the index that stands there, if it is of this state of the file."""
    nothing = IndexContent({"arrays": {}}, {}, {})
    try:
        old = load_index(path)
    except DataError:
        return nothing
    if any(old.contract.get(name) != value for name, value in state.items()):
        return nothing
    kept = {name: old.numbers[name] for name in old.numbers if name.startswith(("digests/", "borders/"))}
    return old._replace(numbers=kept)
