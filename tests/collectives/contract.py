"""What every communicator owes its callers; run as a program, it asks this of MPI's."""

from __future__ import annotations

import numpy as np

from hpcml.collectives import CountingCommunicator, agreed
from hpcml.errors import DataError, HpcmlError, SpecError


def refuses(kind, call):
    try:
        call()
    except kind:
        return True
    return False


def check_reductions(comm):
    mine = np.arange(6.0).reshape(2, 3) * (comm.rank + 1)
    weights = np.arange(1, comm.size + 1)
    for op, factor in (("sum", weights.sum()), ("max", comm.size), ("min", 1)):
        found, scalar, empty = comm.allreduce(mine, np.array(comm.rank + 1.0), np.zeros((0, 4)), op=op)
        assert (found == np.arange(6.0).reshape(2, 3) * factor).all()
        assert scalar.shape == ()
        assert float(scalar) == factor
        assert empty.shape == (0, 4)
    assert (mine == np.arange(6.0).reshape(2, 3) * (comm.rank + 1)).all()
    mine[:] = 0
    found, _ = comm.allreduce(mine, np.ones(1))
    assert not np.shares_memory(found, mine)
    large = np.array([2**62, -(2**62) + comm.rank], np.int64)
    (found,) = comm.allreduce(large, op="max")
    assert found.tolist() == [2**62, -(2**62) + comm.size - 1]
    assert found.dtype == np.int64


def check_dtypes(comm):
    ones = np.ones(2)
    assert refuses(TypeError, lambda: comm.allreduce(ones.astype(np.float32))) or comm.size == 1
    assert refuses(TypeError, lambda: comm.allreduce(ones, np.ones(2, np.int64))) or comm.size == 1
    assert refuses(TypeError, lambda: comm.allreduce(ones.astype(">f8"))) or comm.size == 1


def check_values(comm):
    value = {"name": "é", "list": [1, 2.5, None, True], "large": 3**60}
    for root in {0, comm.size - 1}:
        assert comm.bcast(value if comm.rank == root else None, root) == value
    assert comm.bcast((1, 2)) == [1, 2]
    assert comm.allgather([comm.rank, "x" * comm.rank]) == [[r, "x" * r] for r in range(comm.size)]
    assert comm.allgather((comm.rank,))[-1] == [comm.size - 1]
    assert refuses(TypeError, lambda: comm.allgather(np.ones(1)))


def check_exchange(comm):
    # Rank r sends rank s a buffer of (r * s) % 3 bytes: some of them are empty.
    sent = [np.full((comm.rank * s) % 3, 10 * comm.rank + s, np.uint8) for s in range(comm.size)]
    received = comm.alltoall(sent)
    expected = [[10 * r + comm.rank] * ((r * comm.rank) % 3) for r in range(comm.size)]
    assert [buffer.tolist() for buffer in received] == expected
    nothing = comm.alltoall([np.zeros(0, np.uint8)] * comm.size)
    assert [buffer.size for buffer in nothing] == [0] * comm.size


def check_parts(comm):
    part = comm.split(comm.rank % 2)
    members = [r for r in range(comm.size) if r % 2 == comm.rank % 2]
    assert part.size == len(members)
    assert members[part.rank] == comm.rank
    assert part.allgather(comm.rank) == members
    node = comm.node()
    assert node.size == comm.size
    assert sorted(node.allgather(node.rank)) == list(range(comm.size))
    assert int(part.split(0).allreduce(np.array([1]))[0][0]) == part.size


def check_agreement(comm):
    with agreed(comm):
        pass
    for failing in range(comm.size):
        sentence = f"of rank {failing}"
        error = None
        try:
            with agreed(comm):
                if comm.rank >= failing:
                    raise (DataError if comm.rank == failing else SpecError)(f"of rank {comm.rank}")
        except HpcmlError as caught:
            error = caught
        assert type(error) is DataError
        assert str(error) == sentence
        assert error.on_all_ranks


def check_letters(comm):
    """Every place writes to every other, short letters and long ones, and reads while it writes."""
    box = CountingCommunicator(comm).mailbox()
    assert box is comm.mailbox() or comm.size == 1
    assert (box.place, box.size) == (comm.rank, comm.size)
    lengths, others = (1, 200_000, 2, 0, 50_000), [place for place in range(box.size) if place != box.place]
    seen = {place: [] for place in others}

    def read(letter):
        seen[letter.sender].append((letter.values.size, set(letter.values.tolist())))

    for i, length in enumerate(lengths):
        for place in others:
            values = np.full(length, 10.0 * box.place + i)
            box.post(place, values)
            values[:] = -1.0  # what was posted is a copy
            if (letter := box.take()) is not None:
                read(letter)
    while sum(map(len, seen.values())) < len(lengths) * len(others):
        read(box.wait())
    box.settle()
    for place in others:
        assert seen[place] == [(n, {10.0 * place + i} if n else set()) for i, n in enumerate(lengths)]
    comm.allreduce(np.ones(1))
    assert box.take() is None


class Unknown(DataError):
    """An error that errors.py does not have."""


def check_agreement_on_a_subclass(comm):
    error = None
    try:
        with agreed(comm):
            if comm.rank == comm.size - 1:
                raise Unknown("far")
    except DataError as caught:
        error = caught
    assert (str(error), error.exit_code) == ("far", 3)


def check_counts(comm):
    counting = CountingCommunicator(comm)
    assert (counting.rank, counting.size) == (comm.rank, comm.size)
    counting.allreduce(np.ones(3), np.ones((2, 2)))
    counting.bcast(1)
    counting.allgather(1)
    counting.alltoall([np.ones(5, np.uint8)] * comm.size)
    counting.split(0)
    counting.node()
    assert counting.calls == dict.fromkeys(
        ("allreduce", "bcast", "allgather", "alltoall", "split", "node"), 1
    )
    assert counting.bytes["allreduce"] == 56
    assert counting.bytes["alltoall"] == 5 * comm.size
    assert 0 < counting.seconds["allreduce"] < 60


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


def main():
    from hpcml.collectives import packing, world

    comm = world()
    assert comm is world()
    for check in CHECKS:
        check(comm)
    packing.MESSAGE_BYTES = 40  # now every reduction is cut into pieces of five numbers
    check_reductions(comm)
    (found,) = comm.allreduce(np.arange(23) * (comm.rank + 1))
    assert (found == np.arange(23) * comm.size * (comm.size + 1) // 2).all()
    print("kept", comm.rank)


if __name__ == "__main__":
    main()
