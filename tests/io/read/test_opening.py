"""Files are opened truthfully: nothing outside is followed, nothing that is not there is read as zeros."""

from __future__ import annotations

import fcntl
import itertools
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcml.errors import DataError
from hpcml.io.read.opening import check_declared, check_written, expected_chunks, found, open_file

ROWS = np.arange(40.0).reshape(10, 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.h5"


def _checked(path, name="X", **options):
    """Take a data set through all that a reader asks of it."""
    with open_file(path) as file:
        item = found(file, name, h5py.Dataset, **options)
        check_declared(item)
        check_written(item)
        return item[()]


# --- opening


def test_an_open_file_is_read_without_lock_and_cache(path):
    with h5py.File(path, "w") as file:
        file["X"] = ROWS
    with open(path, "rb") as other, open_file(path) as file:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it
        assert file.mode == "r" and file.id.get_access_plist().get_cache()[2] == 0
        np.testing.assert_array_equal(file["X"], ROWS)


def _no_file(path):
    return "there is no such file"


def _below_a_file(path):
    path.parent.joinpath("a").write_text("")
    return "there is no such file"


def _folder(path):
    path.mkdir()
    return "is a directory, not an HDF5 file"


def _pipe(path):
    os.mkfifo(path)
    return "is a pipe, a socket or a device, not an HDF5 file"


def _empty(path):
    path.write_bytes(b"")
    return "is not an HDF5 file: it has no bytes"


def _text(path):
    path.write_text("a,b\n1,2\n")
    return "is not an HDF5 file$"


def _cut(path):
    with h5py.File(path, "w") as file:
        file["X"] = ROWS
    size = path.stat().st_size
    os.truncate(path, size - 1)
    return f"is truncated: it has {size - 1} bytes and its header speaks of more"


@pytest.mark.parametrize("make", [_no_file, _folder, _pipe, _empty, _text, _cut])
def test_what_cannot_be_opened(path, make):
    said = make(path)
    with pytest.raises(DataError, match=rf"^{path}: {said}"):
        open_file(path)


def test_a_part_of_the_path_is_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(DataError, match="there is no such file"):
        open_file(tmp_path / "a" / "b.h5")


def test_permission(path, monkeypatch):
    path.write_text("")

    def refuse(*args, **options):
        raise PermissionError(13, "no")

    monkeypatch.setattr(h5py, "File", refuse)  # root may read everything
    with pytest.raises(DataError, match="permission denied"):
        open_file(path)


def test_a_table_is_told_where_it_belongs(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    with pytest.raises(DataError, match=r"name it in data\.source, or convert it first"):
        open_file(path)


# --- finding


@pytest.fixture
def linked(tmp_path):
    """A file of links, and the file that some of them lead to."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = ROWS + 1
        file["deep/X"] = ROWS + 2
        file["back"] = h5py.SoftLink("/deep/X")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["g/X"] = ROWS
        file["soft"] = h5py.SoftLink("/g/X")
        file["g/near"] = h5py.SoftLink("X")
        file["g/far"] = h5py.SoftLink("/g/near")
        file["group"] = h5py.SoftLink("g")
        file["circle"] = h5py.SoftLink("/circle")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("other.h5", "/X")
        file["folder"] = h5py.ExternalLink("other.h5", "/")
        file["hidden"] = h5py.SoftLink("/outside")
        file["lost"] = h5py.ExternalLink("missing.h5", "/X")
        file["type"] = np.dtype("f8")
    return tmp_path / "data.h5"


@pytest.mark.parametrize(
    "name", ["g/X", "/g/X", "./g//X", "soft", "g/near", "g/far", "group/X", "group/near"]
)
def test_links_inside_the_file_are_followed(linked, name):
    np.testing.assert_array_equal(_checked(linked, name), ROWS)


@pytest.mark.parametrize(
    ("name", "plus"),
    [("outside", 1), ("hidden", 1), ("folder/X", 1), ("folder/deep/X", 2), ("folder/back", 2)],
)
def test_links_out_of_the_file_are_followed_only_where_allowed(linked, name, plus, monkeypatch):
    np.testing.assert_array_equal(_checked(linked, name, allow_external=True), ROWS + plus)
    where = "/" if name.startswith("folder") else "/X"
    said = (
        f"{linked}: '{name}' is an external link to '{where}' in the file 'other.h5'; set data.allow_external"
    )
    with pytest.raises(DataError, match=said):
        _checked(linked, name)


def test_an_external_link_is_refused_before_its_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # whoever opens it waits for ever
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"] = h5py.ExternalLink("pipe", "/X")
    with pytest.raises(DataError, match="external link"):
        _checked(tmp_path / "data.h5")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "there is no dataset 'nope'; the file has circle, dangling, folder, g, g/X"),
        ("dangling", "there is no dataset 'dangling'; the file has"),
        ("g/X/more", "there is no dataset 'g/X/more'"),
        ("circle", "the soft links of 'circle' lead in a circle"),
        ("g", "'g' is a group, not a dataset"),
        ("type", "'type' is a datatype, not a dataset"),
        ("a\0b", "there is no dataset 'a"),
    ],
)
def test_what_is_not_found(linked, name, said):
    with pytest.raises(DataError, match=said):
        _checked(linked, name)


def test_a_missing_target_is_named(linked):
    with pytest.raises(
        DataError, match=r"'lost' cannot be opened \(external link to '/X' in the file 'missing"
    ):
        _checked(linked, "lost", allow_external=True)


def test_a_link_of_a_kind_of_its_own_is_refused(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file["X"] = ROWS

    def unknown(*args, **options):
        raise TypeError("Unknown link type")

    with open_file(path) as file:
        monkeypatch.setattr(h5py.Group, "get", unknown)
        with pytest.raises(DataError, match="a link of a kind that only its writer knows"):
            found(file, "X", h5py.Dataset)


def test_kinds(linked):
    with open_file(linked) as file:
        assert isinstance(found(file, "g", (h5py.Dataset, h5py.Group)), h5py.Group)
        with pytest.raises(DataError, match="'g/X' is a dataset, not a group"):
            found(file, "g/X", h5py.Group)
        assert found(file, "/", h5py.Group).name == "/"


def test_a_long_list_of_names_is_cut(path):
    with h5py.File(path, "w") as file:
        for i in range(50):
            file[f"d{i:02}"] = i
    with pytest.raises(DataError, match=r"the file has d00, .*d19, \.\.\.$"):
        _checked(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(DataError, match="the file has nothing"):
        _checked(path)


def test_bytes_in_other_files(tmp_path, path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(b"12345678" + ROWS.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("X", ROWS.shape, "f8", external=[(str(raw), 8, ROWS.nbytes)])
    np.testing.assert_array_equal(_checked(path, allow_external=True), ROWS)
    with pytest.raises(
        DataError, match=rf"the bytes of 'X' lie in the file '{raw}'; set data.allow_external"
    ):
        _checked(path)
    os.truncate(raw, 100)
    with pytest.raises(DataError, match=rf"{raw}: has 100 bytes and 'X' of {path} needs {8 + ROWS.nbytes}"):
        _checked(path, allow_external=True)
    raw.unlink()
    with pytest.raises(DataError, match="with bytes of 'X' does not exist"):
        _checked(path, allow_external=True)


# --- what is declared


@pytest.mark.parametrize("chunks", [None, (1000, 10)])
def test_a_header_that_declares_too_much(path, chunks):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (10**9, 10**5), "f8", chunks=chunks)
    assert path.stat().st_size < 5000
    with (
        open_file(path) as file,
        pytest.raises(DataError, match=r"'X' declares .* \(728 TiB\) and the file of"),
    ):
        check_declared(file["X"])


def test_a_chunk_larger_than_the_file(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=ROWS, chunks=(10, 4), compression="gzip")
        stored = file["X"].id.get_chunk_info(0)
    content = path.read_bytes()
    key = content.index(stored.size.to_bytes(4, "little") + bytes(4), content.index(b"TREE\1"))
    path.write_bytes(content[:key] + (10**6).to_bytes(4, "little") + content[key + 4 :])
    said = (
        rf"'X' declares 10 x 4 float64 \(320 bytes\), stored up to byte 1000000 of a file of {len(content)}"
    )
    with pytest.raises(DataError, match=said):
        _checked(path)


@pytest.mark.parametrize("what", ["address", "rows"])
def test_a_layout_that_does_not_fit_the_file(path, what):
    with h5py.File(path, "w") as file:
        file["X"] = ROWS
        offset = file["X"].id.get_offset()
    words = {
        "address": (offset.to_bytes(8, "little") + ROWS.nbytes.to_bytes(8, "little"), 10**6),
        "rows": ((10).to_bytes(8, "little") + (4).to_bytes(8, "little"), 11),
    }
    before, number = words[what]
    path.write_bytes(path.read_bytes().replace(before, number.to_bytes(8, "little") + before[8:]))
    with pytest.raises(DataError, match=r"'X' (cannot be opened|declares)"):  # HDF5 2 looks at it too
        _checked(path)


def test_chunks_too_large_to_be_read(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (2**28, 8), "f4", chunks=(2**26, 8), compression="gzip")
    with pytest.raises(DataError, match=r"'X' has chunks of 2 GiB, and a chunk is only ever read whole"):
        _checked(path)


def test_no_shape_and_no_rows(path):
    with h5py.File(path, "w") as file:
        file["X"] = h5py.Empty("f8")
        file["none"] = np.zeros((0, 4))
        file.create_dataset("later", (0, 4), "f8", maxshape=(None, 4))
        file["one"] = 1.0
    with pytest.raises(DataError, match="'X' is empty: it has a type and no shape"):
        _checked(path)
    assert (
        _checked(path, "none").shape == _checked(path, "later").shape == (0, 4) and _checked(path, "one") == 1
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3, 4)},
        {"chunks": (3, 3)},
        {"chunks": (10, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (10, 4), **hdf5plugin.Blosc2(cname="zstd")},
        {"maxshape": (None, None), "chunks": (16, 16)},
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_honest_data_sets_pass(path, options, constant):
    """Also those that compression makes thousands of times smaller."""
    values = np.tile(np.zeros_like(ROWS) if constant else ROWS, (1000, 1))
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("X", data=values, **options)
    np.testing.assert_array_equal(_checked(path), values)


def test_compact_data_sets_pass(path):
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(ROWS.shape)
        item = h5py.Dataset(h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, space, plist))
        item[...] = ROWS
    np.testing.assert_array_equal(_checked(path), ROWS)


# --- what was written


def test_never_written(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", ROWS.shape, "f8", fillvalue=7)
    with h5py.File(path, locking=False) as file:
        assert (file["X"][()] == 7).all()  # what HDF5 says of it
    with pytest.raises(DataError, match=r"'X' was created and never written: it has no bytes in the file"):
        _checked(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 3)),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_chunks_never_written(tmp_path_factory, libver, shape, chunks, compressed, random):
    """Any subset of the chunks, told by a naive count."""
    path = tmp_path_factory.getbasetemp() / "holes.h5"
    chunks = tuple(map(min, chunks, shape))
    places = list(itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))))
    written = [place for place in places if random.random() < 0.7]
    with h5py.File(path, "w", libver=libver) as file:
        item = file.create_dataset(
            "X", shape, "f4", chunks=chunks, compression="gzip" if compressed else None
        )
        assert expected_chunks(item) == len(places)
        for row, column in written:
            item[row : row + chunks[0], column : column + chunks[1]] = 1
    missing = sorted(set(places) - set(written))
    if not missing:
        assert (_checked(path) == 1).all()
        return
    said = f"{len(missing)} of its {len(places)} chunks were never written, the first at row {missing[0][0]};"
    with pytest.raises(DataError, match=f"'X' is incomplete: {said} HDF5 would read them as fill values"):
        _checked(path)


@pytest.mark.parametrize("chunks", [None, (1000, 4)])
def test_a_modest_size_that_was_never_written_is_told_as_that(path, chunks):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (10_000, 4), "f8", chunks=chunks)
    with pytest.raises(DataError, match=r"never written"):
        _checked(path)


def test_a_data_set_that_grew_and_was_not_written(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=ROWS, chunks=(5, 4), maxshape=(None, 4)).resize((20, 4))
    with pytest.raises(DataError, match="2 of its 4 chunks were never written, the first at row 10"):
        _checked(path)


def test_a_data_set_that_shrank_passes(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=ROWS, chunks=(5, 4), maxshape=(None, 4)).resize((5, 4))
    np.testing.assert_array_equal(_checked(path), ROWS[:5])
