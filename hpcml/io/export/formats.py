"""Rows as the bytes of a text file, each row by itself; numbers in the shortest form that reads back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hpcml.errors import DataError
from hpcml.io.read.rows import Rows
from hpcml.io.tables.columns import pyarrow

__all__ = [
    "Heading",
    "arrow_table",
    "csv_header",
    "csv_text",
    "dense",
    "jsonl_text",
    "libsvm_text",
    "npy_header",
]


@dataclass(frozen=True)
class Heading:
    """What stands above the rows.

    Parameters
    ----------
    features : list of str
        A name for each column of X.
    target : str or None
        The name of y, where there is one.
    classes : list of str or None
        The texts that y's codes number.
    """

    features: list[str]
    target: str | None
    classes: list[str] | None


def dense(rows: Rows) -> NDArray[Any]:
    """Return the rows of X as an array. Local."""
    X: Any = rows.X
    return np.asarray(X if isinstance(X, np.ndarray) else X.toarray())


def _array(values: NDArray[Any]) -> Any:
    """Return an Arrow array over the memory of a NumPy array."""
    pa = pyarrow()
    kinds = {"<f8": pa.float64(), "<f4": pa.float32(), "<i4": pa.int32(), "<i8": pa.int64()}
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kinds[values.dtype.str], values.size, [None, pa.py_buffer(values)])


def _labels(y: NDArray[np.float64], classes: list[str] | None) -> Any:
    """Return y as numbers, or as the texts that it numbers."""
    if classes is None:
        return _array(y)
    codes = y.astype(np.int32)
    if (codes != y).any() or codes.min(initial=0) < 0 or codes.max(initial=0) >= len(classes):
        raise DataError(f"y has values that number none of the {len(classes)} classes of the file")
    return _texts(codes, classes)


def _texts(codes: NDArray[np.int32], texts: list[str]) -> Any:
    return pyarrow().compute.take(_array_of(texts), _array(codes))


def _array_of(texts: list[str]) -> Any:
    return pyarrow().array(texts, pyarrow().string())


def arrow_table(rows: Rows, heading: Heading) -> Any:
    """Return rows as an Arrow table. Local.

    Raises
    ------
    DataError
        y has values that number no class.
    """
    X = dense(rows)
    arrays = [_array(X[:, j]) for j in range(X.shape[1])]
    names = list(heading.features)
    if heading.target is not None and rows.y is not None:
        arrays.append(_labels(rows.y, heading.classes))
        names.append(heading.target)
    return pyarrow().table(arrays, names=names)


def csv_text(rows: Rows, heading: Heading) -> bytes:
    """Return rows as CSV without a header; NaN is written nan. Local."""
    pa, sink = pyarrow(), pyarrow().BufferOutputStream()
    pa.csv.write_csv(arrow_table(rows, heading), sink, pa.csv.WriteOptions(include_header=False))
    return bytes(sink.getvalue())


def csv_header(heading: Heading) -> bytes:
    """Return the line of names. Local."""
    names = [*heading.features, *([] if heading.target is None else [heading.target])]
    return (",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode()


def jsonl_text(rows: Rows, heading: Heading) -> bytes:
    """Return rows as JSON lines; what is NaN has no key. Local.

    Raises
    ------
    DataError
        A number is infinite: JSON has none.
    """
    pc, pieces = pyarrow().compute, []
    table = arrow_table(rows, heading)
    for name, column in zip(table.column_names, table.columns, strict=True):
        key = f",{json.dumps(name)}:"
        values = column.combine_chunks()
        if pyarrow().types.is_floating(values.type):
            if pc.any(pc.is_inf(values)).as_py():
                raise DataError(f"column {name!r} has an infinite number, which JSON cannot say")
            texts = pc.if_else(pc.is_nan(values), None, values.cast(pyarrow().string()))
        else:
            quoted = [json.dumps(text) for text in heading.classes or []]
            texts = pc.take(_array_of(quoted), pc.index_in(values, _array_of(heading.classes or [])))
        pieces.append(pc.coalesce(pc.binary_join_element_wise(key, texts, ""), ""))
    joined = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*pieces, ""), 1)
    return _lines(pc.binary_join_element_wise("{", joined, "}\n", ""))


def libsvm_text(rows: Rows) -> bytes:
    """Return rows in libsvm format, indices from 1; a row without a label gets 0. Local."""
    pa, pc = pyarrow(), pyarrow().compute
    X: Any = rows.X if sparse.issparse(rows.X) else sparse.csr_array(rows.X)
    labels = np.zeros(X.shape[0]) if rows.y is None else rows.y
    numbers = _array(X.indices.astype(np.int64) + 1).cast(pa.string())
    entries = pc.binary_join_element_wise(numbers, _array(X.data).cast(pa.string()), ":")
    lists = pa.LargeListArray.from_arrays(_array(X.indptr.astype(np.int64)), entries)
    lines = (_array(labels).cast(pa.string()), " ", pc.binary_join(lists, " "), "\n", "")
    return _lines(pc.binary_join_element_wise(*lines))


def _lines(texts: Any) -> bytes:
    """Return the texts of an array end to end."""
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset :]
    return bytes(content[int(ends[0]) : int(ends[len(texts)])]) if len(texts) else b""


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what stands before the numbers of an npy file. Local."""
    out = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, described)
    return out.getvalue()
