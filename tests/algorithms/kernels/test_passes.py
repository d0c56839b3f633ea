"""Compiled and NumPy kernels against sums in 80-bit numbers, and the bits of the compiled ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES, WIDTHS, N, dense, make_block, naive_sums, stacked

from hpcml.algorithms.kernels import passes
from hpcml.algorithms.kernels.choice import VARIABLE
from hpcml.algorithms.kernels.passes import hessian_product, n_sums, raw_prediction, shard_sums
from hpcml.algorithms.losses import Logistic, Squared
from hpcml.data import Block
from hpcml.data.block import part_of

FORMS = [(np.float64, False), (np.float32, False), (np.float64, True), (np.float32, True)]
LOSSES = [Squared(), Logistic()]
compiled_only = pytest.mark.skipif(not COMPILED, reason="no compiled kernels for this machine")


@pytest.fixture(params=NAMES)
def kernels(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param


def weights_of(d, seed=1):
    return np.random.default_rng(seed).normal(size=d) / np.sqrt(d)


def close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, np.asarray(expected, float), rtol=1e-12, atol=1e-13 * float(scale))


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_sums(kernels, d, dtype, csr, loss):
    block = make_block(d, dtype, csr, weighted=d % 2 == 0)
    w = weights_of(d)
    expected = naive_sums(block, loss, w, 0.3, np.arange(d))
    found = stacked(shard_sums(block, loss, w, 0.3, np.arange(d)))
    assert found.shape == (5, n_sums(d, np.arange(d)))
    close(found, expected)
    alone = stacked(shard_sums(block, loss, w, 0.3))
    assert alone.tobytes() == found[:, : 2 + d].tobytes()
    some = np.arange(0, d, 3)
    found = stacked(shard_sums(block, loss, w, 0.3, some))
    assert found.shape == (5, n_sums(d, some))
    close(found, naive_sums(block, loss, w, 0.3, some))


@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("d", [0, 1, 15, 100])
def test_raw_prediction(kernels, d, dtype, csr):
    block = make_block(d, dtype, csr)
    w = np.random.default_rng(0).normal(size=d)
    np.testing.assert_allclose(
        raw_prediction(block, w, 0.25), dense(block) @ w + 0.25, rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize(("dtype", "csr"), FORMS)
def test_hessian_product_is_the_hessian_times_a_vector(kernels, dtype, csr):
    block = make_block(15, dtype, csr)
    curvature = np.random.default_rng(2).random(N)
    v = weights_of(15, 3)
    q = dense(block) @ v + 0.5
    for i, found in enumerate(stacked(hessian_product(block, curvature, v, 0.5))):
        rows = slice(block.shards[i], block.shards[i + 1])
        h = curvature[rows]
        expected = [h @ q[rows] ** 2 / 2, h @ q[rows], *(dense(block)[rows].T @ (h * q[rows]))]
        np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-12, atol=1e-12)


@compiled_only
@pytest.mark.parametrize("which", ["none", "some", "all"])
@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("d", [15, 100])
def test_a_shard_has_the_same_bits_in_any_company(monkeypatch, d, dtype, csr, which):
    monkeypatch.setenv(VARIABLE, COMPILED[0])
    columns = {"none": None, "some": np.arange(1, d, 4), "all": np.arange(d)}[which]
    block = make_block(d, dtype, csr)
    whole = stacked(shard_sums(block, Logistic(), weights_of(d), 0.3, columns))
    for i in range(block.n_shards):
        alone = next(shard_sums(part_of(block, i), Logistic(), weights_of(d), 0.3, columns))
        assert alone[0].tobytes() == whole[i].tobytes()
    monkeypatch.setattr(passes, "_PARTIAL_BYTES", 1)  # a shard at a time
    one_by_one = list(shard_sums(block, Logistic(), weights_of(d), 0.3, columns))
    assert [len(part) for part in one_by_one] == [1] * 5
    assert np.concatenate(one_by_one).tobytes() == whole.tobytes()


@compiled_only
@pytest.mark.parametrize(("dtype", "csr"), FORMS)
def test_every_instruction_set_gives_the_same_bits(monkeypatch, dtype, csr):
    if len(COMPILED) < 2:
        pytest.skip(f"this processor has {COMPILED[0]} alone")
    found = set()
    for name in COMPILED:
        monkeypatch.setenv(VARIABLE, name)
        blocks = [make_block(d, dtype, csr) for d in WIDTHS]
        sums = [
            stacked(shard_sums(b, Logistic(), weights_of(d), 0.3, np.arange(d)))
            for b, d in zip(blocks, WIDTHS, strict=True)
        ]
        z = [raw_prediction(b, weights_of(b.X.shape[1]), 0.3) for b in blocks]
        found.add(b"".join(part.tobytes() for part in (*sums, *z)))
    assert len(found) == 1


def test_rows_that_lie_apart(kernels):
    """A view with a gap between rows is read where it lies, and columns apart are copied."""
    block = make_block(15)
    wide = np.full((N, 40), np.nan)
    wide[:, 3:18] = block.X
    turned = np.asfortranarray(block.X)
    plain = stacked(shard_sums(block, Logistic(), weights_of(15), 0.3))
    for X in (wide[:, 3:18], turned, np.repeat(block.X, 2, axis=1)[:, ::2]):
        found = stacked(shard_sums(replace(block, X=X), Logistic(), weights_of(15), 0.3))
        if kernels == "numpy":  # BLAS sums rows that lie apart in another order
            np.testing.assert_allclose(found, plain, rtol=1e-12)
        else:
            assert found.tobytes() == plain.tobytes()


@compiled_only
def test_wide_indices_change_no_bit(monkeypatch):
    """SciPy takes 64-bit indices where a rank has many entries; the answer may not show it."""
    monkeypatch.setenv(VARIABLE, COMPILED[0])
    block = make_block(15, csr=True)
    X = block.X.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    narrow, wide = (
        stacked(shard_sums(one, Logistic(), weights_of(15), 0.3, np.arange(15)))
        for one in (block, replace(block, X=X))
    )
    assert narrow.tobytes() == wide.tobytes()


def test_float32_is_read_as_it_is(kernels):
    """Large sums of single-precision rows keep the digits of double precision."""
    rng = np.random.default_rng(0)
    X = (1000 + rng.normal(size=(N, 7))).astype(np.float32)
    block = replace(make_block(7), X=X)
    w = weights_of(7)
    z = X.astype(np.longdouble) @ w
    np.testing.assert_allclose(raw_prediction(block, w, 0.0), z.astype(float), rtol=1e-13)


def test_a_block_without_rows(kernels):
    none = np.array([0, 0, 0])
    block = Block(np.zeros((0, 3)), np.zeros(0), None, 7, none, np.array([0]))
    for sums in shard_sums(block, Logistic(), np.ones(3), 0.0, np.arange(3)):
        assert not sums.any()
    assert raw_prediction(block, np.ones(3), 0.0).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_stays_none(kernels, bad):
    block = make_block(15)
    block.X[60, 14] = bad
    with np.errstate(invalid="ignore"):
        found = stacked(shard_sums(block, Squared(), weights_of(15), 0.3))
    assert not np.isfinite(found[1, [0, 1, 16]]).any()
    assert np.isfinite(found[2:]).all()


@compiled_only
class TestTheDoor:
    """The extension refuses what would make it read beyond an array."""

    def call(
        self,
        rows=None,
        y=None,
        shards=(0, 4),
        pieces=(0, 4),
        coef=None,
        out=None,
        loss="squared",
        columns=None,
    ):
        from hpcml.algorithms.kernels.choice import compiled

        rows = (np.ones((4, 3)),) if rows is None else rows
        coef = np.ones(3) if coef is None else coef
        out = np.empty((1, 5)) if out is None else out
        borders = (np.array(shards), np.array(pieces))
        compiled().sums(
            COMPILED[0], rows, (y, None, None), borders, (loss, 0.0, 0.0), (coef, 0.0), columns, out
        )

    def test_what_is_right_passes(self):
        self.call()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"y": np.ones(3)}, {"coef": np.ones(2)}, {"out": np.empty((1, 4))}, {"out": np.empty((2, 5))},
            {"out": np.empty((1, 10))[:, ::2]}, {"shards": (0, 5)}, {"pieces": (0, 5)}, {"shards": (2, 0)},
            {"pieces": (-1, 4)}, {"loss": "hinge"},
            {"columns": np.array([0, 3]), "out": np.empty((1, 11))},
            {"columns": np.array([-1]), "out": np.empty((1, 8))},
            {"columns": np.array([1, 1]), "out": np.empty((1, 11))},
            {"columns": np.array([2]), "out": np.empty((1, 5))},
            {"rows": (np.ones(9), np.zeros(9, np.int32), np.array([0, 3, 6, 9, 12]), 3)},
        ],
        ids=str,
    )  # fmt: skip
    def test_wrong_lengths(self, wrong):
        with pytest.raises((ValueError, TypeError)):
            self.call(**wrong)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"rows": (np.ones((4, 3), np.int64),)}, {"rows": (np.ones((4, 6))[:, ::2],)},
            {"rows": (np.ones((4, 3), ">f8"),)}, {"y": np.ones(4, np.float32)}, {"rows": (np.ones(4),)},
        ],
        ids=str,
    )  # fmt: skip
    def test_wrong_types(self, wrong):
        with pytest.raises(TypeError, match="wanted"):
            self.call(**wrong)
