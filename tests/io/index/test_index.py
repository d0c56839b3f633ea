"""The side file: what is written comes back, what is damaged or of another state is said."""

from __future__ import annotations

import os

import h5py
import indexed
import numpy as np
import pytest
import xxhash

from hpcml.errors import DataError, OutputError
from hpcml.io.describe.file import describe_file
from hpcml.io.index.side_file import (
    FORMAT,
    FileIndex,
    IndexContent,
    index_path,
    index_state,
    load_index,
    read_answer,
    read_index,
    write_index,
)
from hpcml.io.read.handle import identity_of

DIGESTS = np.arange(64, dtype=np.uint8).reshape(4, 16)
BORDERS = np.array([0, 2, 2, 5, 9])


def put(path, **changes):
    """Write a data file that is not looked at, and its index."""
    path.write_bytes(b"rows")
    known = {"dtype": "<f8", "content": "ab", "is_finite": None}
    arrays = {
        "S/data": {**known, "shape": [9], "n_rows": 16, "grain_rows": 4},
        "y": {**known, "shape": [16], "n_rows": 16, "grain_rows": 4, "is_finite": True},
    }
    status = path.stat()
    contract = {"format": FORMAT, "bytes": 4, "mtime_ns": status.st_mtime_ns, "arrays": arrays, **changes}
    numbers = {"digests/S/data": DIGESTS, "digests/y": DIGESTS[::-1], "borders/S": BORDERS}
    content = IndexContent(contract, numbers, {"k1": {"n_rows": 16, "classes": [0.1, 1e300]}, "k0": {}})
    write_index(path, content)
    return content


def read(path):
    return read_index(path, identity_of(path.stat()))


def test_all_comes_back(tmp_path):
    content = put(tmp_path / "data.h5")
    found = load_index(tmp_path / "data.h5")
    assert found.contract == content.contract and found.answers == content.answers
    assert found.numbers.keys() == content.numbers.keys()
    for name, numbers in content.numbers.items():
        np.testing.assert_array_equal(found.numbers[name], numbers)


def test_ranks_learn_where_digests_lie(tmp_path):
    path = tmp_path / "data.h5"
    put(path)
    index = FileIndex.from_json(read(path).to_json())
    assert index == read(path) and index.is_fresh
    content = index_path(path).read_bytes()
    data, y = index.arrays["S/data"], index.arrays["y"]
    assert content[data.digests : data.digests + 64] == DIGESTS.tobytes()
    assert content[y.digests : y.digests + 64] == DIGESTS[::-1].tobytes()
    assert content[data.borders : data.borders + 40] == BORDERS.tobytes()
    assert y.borders is None and (y.n_grains, y.is_finite, data.is_finite) == (4, True, None)


def test_answers(tmp_path):
    path = tmp_path / "data.h5"
    put(path)
    assert read_answer(path, "k1") == {"n_rows": 16, "classes": [0.1, 1e300]}
    assert read_answer(path, "k2") is None


def test_the_same_content_has_the_same_bytes(tmp_path):
    put(tmp_path / "data.h5")
    before = index_path(tmp_path / "data.h5").read_bytes()
    write_index(tmp_path / "data.h5", load_index(tmp_path / "data.h5"))
    assert index_path(tmp_path / "data.h5").read_bytes() == before


def test_states(tmp_path):
    path = tmp_path / "data.h5"
    path.write_bytes(b"")
    assert index_state(path) == "none" and read(path) is None
    put(path)
    assert index_state(path) == "present"
    os.utime(path, ns=(0, 1))
    assert index_state(path) == "of another time of change" and not read(path).is_fresh
    path.write_bytes(b"other rows")
    assert index_state(path) == "of a file of another size"
    with pytest.raises(DataError, match=r"was made for another state of data\.h5, of 4 bytes; it has 10 now"):
        read(path)
    put(path, format=FORMAT + 1)
    assert index_state(path) == "of another version" and read(path).arrays == {}
    index_path(path).write_bytes(b"")
    assert index_state(path) == "damaged"


@pytest.mark.parametrize("name", ["contract", "answers/k1"])
def test_no_byte_of_what_is_believed_may_change(tmp_path, name):
    path = tmp_path / "data.h5"
    put(path)
    with h5py.File(index_path(path)) as file:
        item = file[name]
        places = range(item.id.get_offset(), item.id.get_offset() + item.size)
    whole = index_path(path).read_bytes()
    for at in places[:: max(1, len(places) // 40)]:
        index_path(path).write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DataError, match="is damaged"):
            load_index(path)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_index(tmp_path, part):
    path = tmp_path / "data.h5"
    put(path)
    os.truncate(index_path(path), int(index_path(path).stat().st_size * part))
    with pytest.raises(DataError, match=r"data\.h5\.index"):
        read(path)


def test_a_directory_that_takes_no_file(tmp_path):
    content = put(tmp_path / "data.h5")
    with pytest.raises(OutputError):
        write_index(tmp_path / "data.h5" / "inside.h5", content)


def test_the_digest_is_xxh3(tmp_path):
    path = indexed.put(tmp_path / "data.h5", 100)
    indexed.index(path)
    with h5py.File(path) as file:
        wanted = xxhash.xxh3_128_digest(file["X"][()])
    assert load_index(path).numbers["digests/X"].tobytes() == wanted


def test_inspect_knows_an_index(tmp_path):
    path = indexed.put(tmp_path / "data.h5", 100)
    assert describe_file(path)["index"] == "none"
    indexed.index(path)
    assert describe_file(path)["index"] == "present"
    assert describe_file(index_path(path))["kind"] == "index"
