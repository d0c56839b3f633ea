"""The sum has the same bits for any split, and is as close as it says."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.collectives import CountingCommunicator, SerialCommunicator, reproducible_sum, run_threads
from hpcml.collectives.reproducible import reduce_partials

SERIAL = SerialCommunicator()
every = st.floats(allow_nan=False, allow_infinity=False)
# Close to each other, so that sums cancel; subnormal; next to overflow.
mild = st.integers(-(2**53), 2**53).map(lambda i: i * 2.0**-30)
tiny = st.integers(-(2**52), 2**52).map(lambda i: i * 5e-324)
huge = st.floats(1e300, 1.7976931348623157e308).map(lambda x: x) | st.floats(-1.7e308, -1e300)
terms = st.one_of(*(st.lists(kind, max_size=40) for kind in (every, mild, tiny, huge, mild | tiny)))


def column(values):
    return np.array(values, float).reshape(-1, 1)


def summed(values):
    return float(reproducible_sum(SERIAL, column(values))[0])


def exact(values):
    """The exact sum as the nearest double."""
    total = sum(map(Fraction, values), Fraction(0))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


@settings(max_examples=400)
@given(values=terms)
def test_error_bound(values):
    found, total = summed(values), exact(values)
    if math.isinf(total):
        assert found == total
        return
    largest = max(map(abs, values), default=0.0)
    error = abs(Fraction(found) - sum(map(Fraction, values), Fraction(0)))
    assert error <= Fraction(largest) / 2**80 + Fraction(math.ulp(total)) * Fraction(5001, 10000)


def test_a_small_negative_sum_keeps_its_digits():
    # In limbs this is -1 + (1 - 2^-38 ...): written as one double it would lose what the bound promises.
    values = [1.0, -1.0 - 2.0**-50, -(2.0**-90) * 3]
    assert summed(values) == exact(values) == -(2.0**-50) - 3 * 2.0**-90


@settings(max_examples=60)
@given(values=terms, size=st.integers(1, 5), data=st.data())
def test_any_split_order_and_grouping(values, size, data):
    expected = reproducible_sum(SERIAL, column(values)).tobytes()
    order = data.draw(st.permutations(values))
    owner = data.draw(st.lists(st.integers(0, size - 1), min_size=len(values), max_size=len(values)))

    def program(comm):
        mine = [value for value, rank in zip(order, owner, strict=True) if rank == comm.rank]
        half = len(mine) // 2
        chunks = [column(mine[:half]), column([]), column(mine[half:])]
        whole = reproducible_sum(comm, column(mine)).tobytes()
        return whole, reduce_partials(comm, lambda: chunks, 1).total.tobytes()

    assert run_threads(size, program) == [(expected, expected)] * size


@pytest.mark.filterwarnings("ignore:invalid value")
@given(values=st.lists(st.sampled_from([1.5, -1e300, np.inf, -np.inf, np.nan, 0.0, -0.0]), max_size=6))
def test_inf_and_nan_come_out_as_in_a_plain_sum(values):
    finite = [value for value in values if math.isfinite(value)]
    expected = exact(finite) if len(finite) == len(values) else float(np.sum(values))
    np.testing.assert_equal(summed(values) + 0.0, expected + 0.0)

    def program(comm):
        return reproducible_sum(comm, column(values[comm.rank :: 2])).tobytes()

    assert run_threads(2, program) == [reproducible_sum(SERIAL, column(values)).tobytes()] * 2


def test_zeros_add_to_plus_zero():
    for values in ([], [0.0], [-0.0], [-0.0, 0.0], [1.0, -1.0]):
        assert math.copysign(1.0, summed(values)) == 1.0


def test_elements_have_windows_of_their_own():
    partials = np.array([[1e300, 1e-300, 5e-324, 0.0], [1e284, 1e-316, 5e-324, 0.0]])
    found = reproducible_sum(SERIAL, partials)
    assert found.tolist() == [exact(partials[:, j]) for j in range(4)]


def test_many_terms():
    values = np.random.default_rng(0).normal(size=100_000) * np.logspace(-30, 0, 100_000)
    assert summed(values) == math.fsum(values)


def test_shapes():
    assert reproducible_sum(SERIAL, np.zeros((0, 3))).tolist() == [0.0] * 3
    assert reproducible_sum(SERIAL, np.zeros((3, 0))).shape == (0,)
    assert reproducible_sum(SERIAL, np.ones((2, 2), np.float32)).tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="shape"):
        reproducible_sum(SERIAL, np.ones(3))


def counted(size, chunks_of, window=None, counts=()):
    """Return the sum, and the messages it took, over `size` ranks."""

    def program(comm):
        counting = CountingCommunicator(comm)
        reduced = reduce_partials(counting, lambda: chunks_of(comm.rank), 2, window, counts)
        assert set(counting.calls) == {"allreduce"}
        return reduced, counting.calls["allreduce"]

    results = run_threads(size, program)
    assert len({(r.total.tobytes(), r.window.tobytes(), r.counts, n) for r, n in results}) == 1
    return results[0]


@pytest.mark.parametrize(
    ("factor", "messages"),
    [(1.0, 1), (0.9, 1), (2.0**7, 1), (2.0**-7, 1), (2.0**9, 3), (2.0**-17, 3), (1e300, 3), (1e-300, 3)],
)
def test_messages_with_a_window(factor, messages):
    rng = np.random.default_rng(3)
    first = rng.uniform(1.0, 2.0, (3, 4, 2))
    fresh, n = counted(3, lambda rank: [first[rank]])
    assert n == 2
    later = first * factor
    again, n = counted(3, lambda rank: [later[rank]], fresh.window, (1, rng.integers(9)))
    assert n == messages
    assert again.counts[0] == 3
    if messages == 3:
        anew, _ = counted(3, lambda rank: [later[rank]])
        assert again.total.tobytes() == anew.total.tobytes()
        assert again.window.tolist() == anew.window.tolist()
    exactly = [math.fsum(later[:, :, j].ravel()) for j in range(2)]
    np.testing.assert_allclose(again.total, exactly, rtol=2.3e-16)


def test_the_window_of_one_element_decides_for_all():
    first = np.ones((2, 2))
    fresh, _ = counted(1, lambda rank: [first])
    _, n = counted(1, lambda rank: [first * [1.0, 1e9]], fresh.window)
    assert n == 3
    _, n = counted(1, lambda rank: [first * [1.0, 0.0]], fresh.window)
    assert n == 3
    zeros, _ = counted(1, lambda rank: [first * [1.0, 0.0]])
    _, n = counted(1, lambda rank: [first * [1.0, 0.0]], zeros.window)
    assert n == 1  # zeros fit the lowest window


def test_a_term_at_the_bound_of_the_window():
    fresh, _ = counted(1, lambda rank: [np.ones((1, 2))])
    edge = 2.0 ** float(fresh.window[0])
    assert counted(1, lambda rank: [np.full((1, 2), edge)], fresh.window)[1] == 3
    assert counted(1, lambda rank: [np.full((1, 2), -edge)], fresh.window)[1] == 3
    below, n = counted(1, lambda rank: [np.full((1, 2), np.nextafter(edge, 0))], fresh.window)
    assert n == 1
    assert below.total[0] == np.nextafter(edge, 0)


def test_inf_takes_one_message_more():
    fresh, _ = counted(3, lambda rank: [np.ones((2, 2))])
    bad = np.array([[1.0, 2.0], [1.0, np.inf]])
    reduced, n = counted(3, lambda rank: [bad if rank == 1 else np.ones((2, 2))], fresh.window)
    assert n == 2
    assert reduced.total.tolist() == [6.0, np.inf]


def test_terms_are_computed_once_where_they_are_few():
    calls = []

    def chunks():
        calls.append(1)
        yield np.ones((1, 2))

    reduce_partials(SERIAL, chunks, 2)
    assert len(calls) == 1


def test_counts_add_up():
    reduced, _ = counted(5, lambda rank: [], None, (7, -2))
    assert reduced.counts == (35, -10)
    assert reduced.total.tolist() == [0.0, 0.0]
