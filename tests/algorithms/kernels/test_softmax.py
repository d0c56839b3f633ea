"""The passes of a softmax against sums in 80-bit numbers, and the bits of the compiled ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from algorithms.kernels.cases import COMPILED, NAMES, WIDTHS, N, dense, make_block, stacked

from hpcml.algorithms.kernels.choice import VARIABLE
from hpcml.algorithms.kernels.passes import hessian_product, raw_prediction, shard_sums, softmax_sums
from hpcml.algorithms.losses.softmax import Softmax
from hpcml.data.block import part_of

FORMS = [(np.float64, False), (np.float32, False), (np.float64, True), (np.float32, True)]
CLASSES = [3, 4, 5, 8, 10, 12, 13, 16, 17, 33]
compiled_only = pytest.mark.skipif(not COMPILED, reason="no compiled kernels for this machine")


@pytest.fixture(params=NAMES)
def kernels(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param


def case(k, d, dtype=np.float64, csr=False, scale=1.0):
    """A block with labels 1, 3, 5, ..., the loss, coefficients and intercepts."""
    rng = np.random.default_rng(k + 100 * d)
    block = make_block(d, dtype, csr)
    block = replace(block, y=1.0 + 2.0 * rng.integers(0, k, N))
    coef = scale * rng.normal(size=(k, d)) / np.sqrt(max(d, 1))
    return block, Softmax(tuple(1.0 + 2.0 * np.arange(k))), coef, rng.normal(size=k)


def naive_probabilities(block, coef, intercept):
    z = dense(block) @ coef.T.astype(np.longdouble) + intercept
    z -= z.max(axis=1, keepdims=True)
    return z, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def by_shard(block, value, slope):
    """The partials of weighted values (rows,) and slopes (rows, k)."""
    out = []
    for start, stop in zip(block.shards[:-1], block.shards[1:], strict=True):
        rows = slice(start, stop)
        products = slope[rows].T @ dense(block)[rows]
        out.append(np.concatenate([[value[rows].sum()], slope[rows].sum(axis=0), products.ravel()]))
    return np.array(out)


def close(found, expected):
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found, np.asarray(expected, float), rtol=1e-12, atol=1e-13 * scale)


@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("k", CLASSES)
@pytest.mark.parametrize("d", [0, 1, 3, 4, 8, 9, 33])
def test_sums(kernels, k, d, dtype, csr):
    block, loss, coef, intercept = case(k, d, dtype, csr)
    z, p = naive_probabilities(block, coef, intercept)
    own = block.y[:, None] == np.array(loss.classes)
    value = np.log(np.exp(z).sum(axis=1)) - (z * own).sum(axis=1)
    expected = by_shard(block, block.weights * value, block.weights[:, None] * (p - own))
    close(stacked(shard_sums(block, loss, coef, intercept)), expected)


@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("k", [3, 10, 17])
def test_products(kernels, k, dtype, csr):
    block, _, coef, intercept = case(k, 15, dtype, csr)
    _, p = naive_probabilities(block, coef, intercept)
    v, v0 = np.random.default_rng(0).normal(size=(k, 15)), np.random.default_rng(1).normal(size=k)
    q = dense(block) @ v.T + v0
    image = p * (q - (p * q).sum(axis=1, keepdims=True))
    expected = by_shard(block, 0.5 * block.weights * (q * image).sum(axis=1), block.weights[:, None] * image)
    close(stacked(hessian_product(block, p.astype(float), v, v0)), expected)


@pytest.mark.parametrize(("dtype", "csr"), FORMS)
def test_raw_predictions(kernels, dtype, csr):
    block, _, coef, intercept = case(7, 20, dtype, csr)
    np.testing.assert_allclose(
        raw_prediction(block, coef, intercept), dense(block) @ coef.T + intercept, rtol=1e-12, atol=1e-13
    )


@compiled_only
@pytest.mark.parametrize(("dtype", "csr"), FORMS)
@pytest.mark.parametrize("d", WIDTHS)
def test_every_instruction_set_gives_the_same_bits(monkeypatch, d, dtype, csr):
    k = CLASSES[d % len(CLASSES)]
    block, loss, coef, intercept = case(k, d, dtype, csr)
    _, p = naive_probabilities(block, coef, intercept)
    found = set()
    for name in COMPILED:
        monkeypatch.setenv(VARIABLE, name)
        parts = [
            stacked(shard_sums(block, loss, coef, intercept)),
            stacked(softmax_sums(block, loss, coef, intercept, p.astype(float))),
            raw_prediction(block, coef, intercept),
        ]
        found.add(b"".join(part.tobytes() for part in parts))
    assert len(found) == 1


def test_a_shard_by_itself_gives_the_same_bits(kernels):
    block, loss, coef, intercept = case(10, 20)
    whole = stacked(shard_sums(block, loss, coef, intercept))
    for i in range(block.n_shards):
        alone = stacked(shard_sums(part_of(block, i), loss, coef, intercept))
        assert alone.tobytes() == whole[i : i + 1].tobytes()


def test_many_partials_are_made_some_at_a_time(kernels, monkeypatch):
    monkeypatch.setattr("hpcml.algorithms.kernels.passes._PARTIAL_BYTES", 100)
    block, loss, coef, intercept = case(5, 9)
    _, p = naive_probabilities(block, coef, intercept)
    for known in (None, p.astype(float)):
        some = stacked(softmax_sums(block, loss, coef, intercept, known))
        with monkeypatch.context() as patch:
            patch.setattr("hpcml.algorithms.kernels.passes._PARTIAL_BYTES", 1 << 20)
            assert some.tobytes() == stacked(softmax_sums(block, loss, coef, intercept, known)).tobytes()


@pytest.mark.parametrize("far", [1e3, 1e5])
def test_large_predictions(kernels, far):
    """Nothing overflows, and the loss of a class that is sure keeps its digits."""
    block, loss, coef, intercept = case(4, 3, scale=far)
    found = stacked(shard_sums(block, loss, coef, intercept))
    assert np.isfinite(found).all()
    z, p = naive_probabilities(block, coef, intercept)
    own = block.y[:, None] == np.array(loss.classes)
    value = np.log(np.exp(z).sum(axis=1)) - (z * own).sum(axis=1)
    close(found, by_shard(block, block.weights * value, block.weights[:, None] * (p - own)))


def test_a_number_that_is_none_is_seen(kernels):
    block, loss, coef, intercept = case(4, 3)
    coef[2, 1] = np.nan
    found = stacked(shard_sums(block, loss, coef, intercept))
    assert np.isnan(found[2]).all()


@compiled_only
@pytest.mark.parametrize(
    "wrong",
    [
        lambda y, labels, coef, b, out: (y[:-1], labels, coef, b, out),
        lambda y, labels, coef, b, out: (y, labels, coef[:, :-1].copy(), b, out),
        lambda y, labels, coef, b, out: (y, labels, coef.T.copy(), b, out),
        lambda y, labels, coef, b, out: (y, labels, coef, b[:-1], out),
        lambda y, labels, coef, b, out: (y, labels, None, b, out),
        lambda y, labels, coef, b, out: (y, labels, coef, b, out[:, :-1].copy()),
        lambda y, labels, coef, b, out: (y, labels, np.repeat(coef, 2, axis=1)[:, :3], b, out),
        lambda y, labels, coef, b, out: (y, labels, coef.astype("f4"), b, out),
    ],
)
def test_the_module_refuses_arrays_that_do_not_fit(wrong):
    from hpcml.algorithms.kernels import _compiled

    block, loss, coef, intercept = case(4, 3)
    out = np.empty((block.n_shards, 1 + 4 * 4))
    y, labels, w, b, to = wrong(block.y, np.array(loss.classes), coef, intercept, out)
    with pytest.raises((ValueError, TypeError)):
        _compiled.softmax_sums(
            COMPILED[0], (block.X,), (y, None, None), (block.shards, block.pieces), (labels, w, b), to
        )
