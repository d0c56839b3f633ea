"""Filters undone outside HDF5 give what HDF5 gives, or an error."""

from __future__ import annotations

import importlib.util
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st

from hpcml.io.read import decode as module
from hpcml.io.read.decode import make_decoder
from hpcml.io.read.stored import stored_array

OURS = ["gzip", "gzip shuffle", "lzf", "lzf shuffle", "zstd", "zstd shuffle", "blosc lz4", "blosc zstd"]
NOT_OURS = ["shuffle alone", "fletcher32", "gzip fletcher32", "bitshuffle", "blosc2"]


def raw_chunk(item, number=0):
    """Return the bytes of a chunk as stored, the mask, and its values by HDF5."""
    rows = item.chunks[0]
    mask, raw = item.id.read_direct_chunk((number * rows,) + (0,) * (item.ndim - 1))
    return np.frombuffer(raw, np.uint8), mask, item[number * rows : (number + 1) * rows]


@pytest.mark.parametrize("dtype", stores.DTYPES)
@pytest.mark.parametrize("form", OURS)
def test_a_chunk_is_what_hdf5_gives(tmp_path, form, dtype):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(dtype, n=200), **stores.STORED[form])
    with h5py.File(path) as file:
        item = file["X"]
        decode = make_decoder(stored_array(item))
        for number in (0, 2, 1):
            raw, mask, expected = raw_chunk(item, number)
            out = np.full(expected.nbytes, 7, np.uint8)
            decode(raw, mask, out)
            assert out.tobytes() == expected.tobytes()
            if dtype in ("<f8", "<i8"):
                assert raw.size != out.size  # it was compressed


@pytest.mark.parametrize("form", NOT_OURS)
def test_the_rest_is_left_to_hdf5(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    with h5py.File(path) as file:
        assert make_decoder(stored_array(file["X"])) is None


def test_without_the_codecs_only_plain_chunks_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for form in (*OURS, *NOT_OURS, "row chunks"):
        path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
        with h5py.File(path) as file:
            decode = make_decoder(stored_array(file["X"]))
        assert (decode is None) == (form != "row chunks")
    out = np.zeros(5, np.uint8)
    decode(np.arange(5, dtype=np.uint8), 0, out)
    assert out.tolist() == [0, 1, 2, 3, 4]


def test_the_codecs_are_installed_for_these_tests():
    assert importlib.util.find_spec("imagecodecs") is not None


def _as_filters_write(values, mask):
    """Shuffle and deflate, without those that the mask has."""
    raw = values.tobytes()
    if not mask & 1:
        raw = np.frombuffer(raw, np.uint8).reshape(-1, values.itemsize).T.tobytes()
    return raw if mask & 2 else zlib.compress(raw)


@pytest.mark.parametrize("mask", [0, 1, 2, 3])
def test_filters_that_a_chunk_went_without(tmp_path, mask):
    X = stores.matrix(n=96)
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED["gzip shuffle"])
    with h5py.File(path, "r+") as file:
        file["X"].id.write_direct_chunk((48, 0), _as_filters_write(X[48:], mask), mask)
    with h5py.File(path) as file:
        raw, seen, expected = raw_chunk(file["X"], 1)
        out = np.zeros(expected.nbytes, np.uint8)
        make_decoder(stored_array(file["X"]))(raw, seen, out)
    assert seen == mask
    assert out.tobytes() == expected.tobytes() == X[48:].tobytes()


def test_compression_alone_that_a_chunk_went_without(tmp_path):
    X = stores.matrix(n=96)
    path = stores.put(tmp_path / "rows.h5", X, **stores.STORED["lzf"])
    with h5py.File(path, "r+") as file:
        file["X"].id.write_direct_chunk((48, 0), X[48:].tobytes(), 1)
    with h5py.File(path) as file:
        raw, mask, expected = raw_chunk(file["X"], 1)
        out = np.zeros(raw.size, np.uint8)
        make_decoder(stored_array(file["X"]))(raw, mask, out)
    assert out.tobytes() == expected.tobytes() == X[48:].tobytes()


@pytest.mark.parametrize("form", OURS)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_chunk_is_an_error(tmp_path, form, damage):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    with h5py.File(path) as file:
        raw, mask, expected = raw_chunk(file["X"])
        decode = make_decoder(stored_array(file["X"]))
    noise = np.full_like(raw, 0xFF)
    bad = {"cut": raw[: raw.size // 2].copy(), "empty": raw[:0].copy(), "noise": noise}[damage]
    with pytest.raises(Exception):  # noqa: B017 (codecs have no common class; the reader takes them all)
        decode(bad, mask, np.zeros(expected.nbytes, np.uint8))


@pytest.mark.parametrize("form", OURS)
def test_a_chunk_of_another_size_is_an_error(tmp_path, form):
    path = stores.put(tmp_path / "rows.h5", stores.matrix(), **stores.STORED[form])
    with h5py.File(path) as file:
        raw, mask, expected = raw_chunk(file["X"])
        decode = make_decoder(stored_array(file["X"]))
    for size in (expected.nbytes + 8, expected.nbytes - 8):
        with pytest.raises(Exception):  # noqa: B017
            decode(raw, mask, np.zeros(size, np.uint8))


@given(st.integers(1, 16), st.integers(0, 400), st.randoms(use_true_random=False))
def test_unshuffle(itemsize, n_bytes, random):
    wanted = np.frombuffer(random.randbytes(n_bytes), np.uint8)
    whole = n_bytes // itemsize * itemsize
    shuffled = np.concatenate([wanted[:whole].reshape(-1, itemsize).T.ravel(), wanted[whole:]])
    module._shuffled_place(n_bytes)[...] = shuffled
    out = np.zeros(n_bytes, np.uint8)
    module._unshuffle(itemsize, out)
    assert out.tobytes() == wanted.tobytes()


def test_large_chunks(tmp_path):
    X = stores.matrix("<f4", n=300_000, d=3)
    for options in (
        {"compression": "gzip", "shuffle": True, "compression_opts": 1},
        {"compression": "lzf", "shuffle": True},
        dict(hdf5plugin.Blosc(cname="blosclz", shuffle=hdf5plugin.Blosc.SHUFFLE)),
    ):
        path = stores.put(tmp_path / "rows.h5", X, chunks=X.shape, **options)
        with h5py.File(path) as file:
            raw, mask, _ = raw_chunk(file["X"])
            out = np.zeros(X.nbytes, np.uint8)
            make_decoder(stored_array(file["X"]))(raw, mask, out)
        assert out.tobytes() == X.tobytes()
