"""Checkpoints: the same bits come back, or nothing does."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpcml.errors import DataError
from hpcml.io.checkpoint import decode, encode, last_checkpoint, read_checkpoint, write_checkpoint

DTYPES = [np.float64, np.float32, np.int64, np.int32, np.bool_]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
# Any bit pattern: NaNs with payloads, -0.0, infinities, denormals.
FLOATS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])


@st.composite
def any_bits(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(SHAPES)
    if dtype == np.bool_:
        return draw(arrays.arrays(dtype, shape))
    n_bytes = math.prod(shape) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=n_bytes, max_size=n_bytes)), dtype).reshape(shape)


LEAVES = st.one_of(
    any_bits(), FLOATS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(max_size=5), st.none()
)
TREES = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=4),
    st.recursive(
        LEAVES, lambda inner: st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3), max_leaves=6
    ),
    max_size=4,
)


def bits(value: Any) -> Any:
    """What two equal values have in common, to the bit."""
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape, value.tobytes())
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value), value)


@given(TREES)
def test_the_same_bits_come_back(tree):
    assert bits(decode(encode(tree))) == bits(tree)


def test_what_numpy_hands_out_comes_back_as_plain_numbers():
    tree = {"a": np.float64(-0.0), "b": np.int64(3), "c": np.bool_(True), "d": np.arange(6.0).reshape(2, 3).T}
    back = decode(encode(tree))
    assert bits(back["a"]) == bits(-0.0) and (back["b"], back["c"]) == (3, True)
    assert back["d"].tolist() == tree["d"].tolist() and back["d"].flags.writeable
    big = {"d": np.arange(3.0).astype(">f8")}
    assert decode(encode(big))["d"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [np.zeros(2, complex), np.array(["a"]), np.array([{}], object)])
def test_what_could_not_be_read_back_is_not_written(value):
    with pytest.raises((DataError, TypeError)):
        encode({"a": value})


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return encode({"n_iter": 3, "solver": {"w": rng.normal(size=40), "m": rng.normal(size=(3, 4)), "f": 0.1}})


def test_every_cut_is_seen(content):
    for end in [*range(0, len(content), 64), *range(len(content) - 40, len(content))]:
        with pytest.raises(DataError):
            decode(content[:end])
    with pytest.raises(DataError):
        decode(content + b"\0")


@given(st.data())
def test_a_flipped_bit_is_seen(data):
    content = encode({"w": np.arange(5.0), "n": 1})
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    broken = bytearray(content)
    broken[at // 8] ^= 1 << at % 8
    with pytest.raises(DataError):
        decode(bytes(broken))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_stay(tmp_path):
    for step in (1, 2, 9, 10):
        write_checkpoint(tmp_path, step, {"n_iter": step}, keep=2)
    assert _names(tmp_path) == ["step-00000009.ckpt", "step-00000010.ckpt"]
    assert read_checkpoint(last_checkpoint(tmp_path)) == {"n_iter": 10}


def test_the_last_whole_one_is_found(tmp_path):
    assert last_checkpoint(tmp_path) is None and last_checkpoint(tmp_path / "missing") is None
    paths = [write_checkpoint(tmp_path, step, {"w": np.full(100, step)}, keep=3) for step in (1, 2, 3)]
    (tmp_path / ".step-00000004.ckpt.77.part").write_bytes(b"half")
    paths[2].write_bytes(paths[2].read_bytes()[:-9])
    assert last_checkpoint(tmp_path) == paths[1]
    paths[1].write_bytes(b"")
    assert last_checkpoint(tmp_path) == paths[0]
    paths[0].write_bytes(b"hpcmlck9" + paths[0].read_bytes()[8:])
    assert last_checkpoint(tmp_path) is None


def test_errors_name_the_file(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"something else entirely, which is longer than a digest")
    with pytest.raises(DataError, match=r"a\.ckpt: is not a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=r"cannot read .*b\.ckpt"):
        read_checkpoint(tmp_path / "b.ckpt")
