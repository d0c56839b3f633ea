"""Rows of one array: the right bytes, each chunk once, and no call larger or oftener than it must be."""

from __future__ import annotations

import os
from itertools import pairwise

import h5py
import numpy as np
import pytest
import small
import stores

from hpcml.errors import DataError
from hpcml.io.read import array_reader as module
from hpcml.io.read.array_reader import ChunkReader, FlatReader, LibraryReader, read_as
from hpcml.io.read.decode import make_decoder
from hpcml.io.read.decoders import Decoders
from hpcml.io.read.handle import Handle, Traffic, identity_of
from hpcml.io.read.rows import Buffers
from hpcml.io.read.stored import stored_array

ROWS = small.N_ROWS
CUTS = [0, 1, 47, 48, 49, 150, 151, 400, ROWS]
REAL = os.preadv


@pytest.fixture
def calls(monkeypatch):
    """The (size, offset) of every read by offset."""
    noted = []
    monkeypatch.setattr(
        os, "preadv", lambda fd, v, at: noted.append((memoryview(v[0]).nbytes, at)) or REAL(fd, v, at)
    )
    return noted


def located(path, name="X"):
    with h5py.File(path, locking=False) as file:
        return stored_array(file[name])


def chunk_reader(path, cache_bytes=64 << 20, pool=None, decoded=None):
    stored = located(path)
    decode = make_decoder(stored)
    if decoded is not None:
        decode = stores.call_of(decode, decoded)
    return ChunkReader(stored, Handle(path, identity_of(path.stat()), Traffic()), decode, cache_bytes, pool)


def flat_reader(path):
    return FlatReader(located(path), Handle(path, identity_of(path.stat()), Traffic()))


def read(reader, start, stop):
    out = np.zeros((stop - start, *reader.stored.shape[1:]), reader.stored.dtype)
    reader.into(start, stop, out)
    return out


@pytest.mark.parametrize("form", ["row chunks", "2-D chunks", "one chunk", "gzip shuffle", "gzip 2-D", "lzf"])
@pytest.mark.parametrize("threads", [0, 3])
def test_rows_in_chunks(tmp_path, form, threads):
    X = stores.matrix()
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    pool = Decoders(threads) if threads else None
    reader = chunk_reader(path, pool=pool)
    for start, stop in [*pairwise(CUTS), (0, ROWS), (333, 333), (590, 600), (0, 1)]:
        np.testing.assert_array_equal(read(reader, start, stop), X[start:stop])
    if pool:
        pool.close()


@pytest.mark.parametrize("form", ["gzip shuffle", "gzip 2-D", "one chunk"])
def test_each_chunk_is_decoded_once_in_a_pass(tmp_path, calls, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    stored, decoded = located(path), []
    reader = chunk_reader(path, decoded=decoded)
    for n_pass in (1, 2):
        for start, stop in pairwise(CUTS):
            read(reader, start, stop)
        assert len(decoded) == len(calls) == n_pass * len(stored.chunks)
        assert reader._cut == {}  # what is passed is let go
    assert reader.handle.traffic.bytes_read == 2 * stored.chunks[:, 1].sum()


def test_a_cache_of_nothing_keeps_nothing(tmp_path):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED["gzip"])
    decoded = []
    reader = chunk_reader(path, cache_bytes=0, decoded=decoded)
    for start, stop in pairwise(CUTS):
        np.testing.assert_array_equal(read(reader, start, stop), stores.matrix()[start:stop])
        assert reader._cut == {}
    assert len(decoded) > len(reader.stored.chunks)


def test_no_more_is_kept_than_asked(tmp_path):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED["gzip 2-D"])
    reader = chunk_reader(path, cache_bytes=50 * 4 * 8)  # one chunk of two columns of them
    read(reader, 0, 20)
    assert len(reader._cut) == 1
    np.testing.assert_array_equal(read(reader, 20, 60), stores.matrix()[20:60])


@pytest.mark.parametrize("form", ["contiguous", "row chunks"])
def test_rows_as_they_lie(tmp_path, calls, form):
    X = stores.matrix(">f4")
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    reader = flat_reader(path)
    for start, stop in [(0, ROWS), (0, 1), (47, 49), (48, 96), (95, 400), (599, 600), (5, 5)]:
        assert read(reader, start, stop).tobytes() == X[start:stop].tobytes()
    assert sum(size for size, _ in calls) == (600 + 1 + 2 + 48 + 305 + 1) * 6 * 4
    assert len(calls) == 6 or form == "row chunks"


def test_chunks_that_are_neighbours_are_read_in_one_call(tmp_path, calls):
    X = stores.matrix(n=48 * 6)
    path = stores.put(tmp_path / "rows.h5", X, chunks=stores.ROW_CHUNKS)
    chunk = 48 * 6 * 8
    with h5py.File(path) as file:
        offsets = [file["X"].id.get_chunk_info(i).byte_offset for i in range(6)]
    runs = 1 + sum(b - a != chunk for a, b in pairwise(offsets))
    np.testing.assert_array_equal(read(flat_reader(path), 0, len(X)), X)
    assert len(calls) == runs < 6


def test_chunks_that_lie_in_another_order(tmp_path, calls):
    X = stores.matrix(n=48 * 4)
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        item = file.create_dataset("X", X.shape, X.dtype, chunks=stores.ROW_CHUNKS)
        for i in (2, 0, 3, 1):
            item[48 * i : 48 * i + 48] = X[48 * i : 48 * i + 48]
            file.flush()
    reader = flat_reader(path)
    for start, stop in ((0, 192), (40, 150), (100, 101)):
        np.testing.assert_array_equal(read(reader, start, stop), X[start:stop])


def test_chunks_that_were_never_written(tmp_path):
    path = tmp_path / "rows.h5"
    for options in ({}, {"compression": "gzip"}):
        with h5py.File(path, "w") as file:
            item = file.create_dataset("X", (200, 6), "f8", chunks=stores.ROW_CHUNKS, **options)
            item[:48] = 1.0
            item[144:] = 1.0
        reader = chunk_reader(path) if options else flat_reader(path)
        assert (read(reader, 0, 48) == 1.0).all()
        with pytest.raises(DataError, match=r"rows\.h5: rows \d+ to \d+ of X were never written"):
            read(reader, 40, 60)
        with pytest.raises(DataError, match="were never written"):
            read(reader, 0, 200)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_chunk_that_cannot_be_decoded(tmp_path, threads):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED["gzip shuffle"])
    offset, size, _ = located(path).chunks[5]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * size)
    pool = Decoders(threads) if threads else None
    reader = chunk_reader(path, pool=pool)
    read(reader, 0, 240)
    with pytest.raises(
        DataError, match=rf"rows\.h5: rows 240 to 288 of X, at offset {offset}, cannot be dec"
    ):
        read(reader, 230, 600)
    if pool:
        pool.close()


@pytest.mark.parametrize("form", ["fletcher32", "gzip fletcher32", "bitshuffle"])
def test_a_flipped_bit_under_a_checksum(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    offset, size, _ = located(path).chunks[3]
    with h5py.File(path, locking=False) as file:
        reader = LibraryReader(located(path), file["X"], Traffic())
        np.testing.assert_array_equal(read(reader, 0, ROWS), stores.matrix())
        assert reader.traffic.bytes_read == ROWS * 6 * 8
    if form == "bitshuffle":
        return  # it has no checksum
    with path.open("r+b") as raw:
        raw.seek(int(offset) + int(size) // 2)
        byte = raw.read(1)[0]
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([byte ^ 16]))
    with h5py.File(path, locking=False) as file:
        reader = LibraryReader(located(path), file["X"], Traffic())
        read(reader, 0, 144)
        for rows in ((144, 200), (0, ROWS), (150, 160)):
            with pytest.raises(DataError, match=r"rows\.h5: rows 144 to 192 of 'X' cannot be read"):
                read(reader, *rows)


def test_hdf5_is_asked_for_no_more_than_a_call_may_have(tmp_path, monkeypatch):
    path = stores.put(tmp_path / "rows.h5", stores.matrix())
    monkeypatch.setattr(module, "_CALL_BYTES", 1000)
    asked = []
    direct = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *a: asked.append(a[2]) or direct(*a))
    with h5py.File(path, locking=False) as file:
        reader = LibraryReader(located(path), file["X"], Traffic())
        np.testing.assert_array_equal(read(reader, 3, 590), stores.matrix()[3:590])
    assert {part.stop - part.start for part in asked[:-1]} == {1000 // 48}


@pytest.mark.parametrize("dtype", stores.DTYPES)
@pytest.mark.parametrize("wanted", ["<f8", "<f4"])
@pytest.mark.parametrize("form", ["contiguous", "row chunks", "gzip 2-D"])
def test_other_types_are_made_in_pieces(tmp_path, monkeypatch, dtype, wanted, form):
    X = stores.matrix(dtype)
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED[form])
    monkeypatch.setattr(module, "_PIECE_BYTES", 60 * 6 * X.itemsize)
    reader = chunk_reader(path) if form.startswith("gzip") else flat_reader(path)
    for start, stop in ((0, ROWS), (1, 2), (47, 500), (9, 9)):
        out = np.full((stop - start, 6), np.nan, wanted)
        read_as(reader, start, stop, out, Buffers())
        np.testing.assert_array_equal(out, X[start:stop].astype(wanted))


def test_pieces_do_not_cut_chunks(tmp_path, monkeypatch):
    path = stores.put(tmp_path / "rows.h5", stores.matrix("<f4"), **stores.STORED["gzip"])
    for piece_bytes in (1, 1000, 5000, 10**6):
        monkeypatch.setattr(module, "_PIECE_BYTES", piece_bytes)
        decoded = []
        reader = chunk_reader(path, cache_bytes=0, decoded=decoded)
        read_as(reader, 0, ROWS, np.empty((ROWS, 6)), Buffers())
        assert len(decoded) == len(reader.stored.chunks)
