"""Virtual data sets: what they are made of, and every way in which HDF5 would quietly read fill values."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.errors import DataError
from hpcml.io.read.opening import open_file
from hpcml.io.read.virtual import VirtualPart, virtual_parts

ROWS = np.arange(40.0).reshape(10, 4)


def _parts(path, name="X", **options):
    with open_file(path) as file:
        return virtual_parts(file[name], path, **options)


def _read(parts, name="X"):
    """The rows that parts name, read from the sources alone."""
    found = []
    for part in parts:
        with h5py.File(part.path, locking=False) as file:
            found.append(file[part.name][part.source_start : part.source_start + part.n_rows])
    return np.concatenate(found)


def _whole(path, name="X"):
    with h5py.File(path, locking=False) as file:
        return file[name][()]


def _make(path, sources, shape=(10, 4), dtype="f8", name="X"):
    """Write a virtual data set from (its rows, file, name, shape of the source, rows of the source)."""
    layout = h5py.VirtualLayout(shape, dtype)
    for rows, file, source, its_shape, its_rows in sources:
        virtual = h5py.VirtualSource(str(file), source, its_shape)
        layout[rows] = virtual if its_rows is None else virtual[its_rows]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout, fillvalue=-1)
    return path


def _one(tmp_path, file="a.h5", source="X", shape=(10, 4), rows=None, **options):
    """A virtual data set of one source, that of `file`."""
    return _make(tmp_path / "all.h5", [(np.s_[:], file, source, shape, rows)], **options)


@pytest.fixture
def a(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = ROWS
        file["y"] = ROWS[:, 0]
        file["cube"] = ROWS.reshape(10, 2, 2)
    return tmp_path / "a.h5"


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6),
    st.sampled_from([(), (3,), (2, 2)]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_parts_are_the_rows_that_hdf5_reads(tmp_path_factory, pieces, columns, same_file, random):
    """Runs of rows, with rows left out before and after in the source, mapped in any order."""
    folder = tmp_path_factory.mktemp("parts")
    path, at, sources = folder / "all.h5", 0, []
    for i, (n, before, after) in enumerate(pieces):
        shape = (before + n + after, *columns)
        file = path if same_file else folder / f"s{i % 3}.h5"
        with h5py.File(file, "a") as source:
            source[f"part{i}"] = np.random.default_rng(i).normal(size=shape)
        rows = np.s_[before : before + n] if before or after else None
        name = "." if same_file else file.name
        sources.append((np.s_[at : at + n], name, f"part{i}", shape, rows))
        at += n
    random.shuffle(sources)
    parts = _parts(_make(path, sources, (at, *columns)))
    starts = [part.start for part in parts]
    assert starts == [0, *np.cumsum([part.n_rows for part in parts])[:-1]] and len(parts) == len(pieces)
    np.testing.assert_array_equal(_read(parts), _whole(path))
    assert not (_whole(path) == -1).any()


def test_the_parts_of_a_small_one(tmp_path, a):
    path = _make(
        tmp_path / "all.h5",
        [(np.s_[4:7], "a.h5", "X", (10, 4), np.s_[1:4]), (np.s_[:4], "a.h5", "X", (10, 4), np.s_[6:])],
        (7, 4),
    )
    assert _parts(path) == [VirtualPart(a, "X", 6, 0, 4), VirtualPart(a, "X", 1, 4, 3)]


def test_names_with_a_sign_of_per_cent(tmp_path, a):
    shutil.move(a, tmp_path / "50%.h5")
    path = _one(tmp_path, "50%%.h5")
    np.testing.assert_array_equal(_read(_parts(path)), _whole(path))
    assert (_whole(path) == ROWS).all()


# --- where sources are


def test_a_directory_can_move(tmp_path, a):
    """Relative names, and absolute ones whose file lies beside: as HDF5 finds them."""
    for name in ("a.h5", a):
        home, away = tmp_path / f"home{len(str(name))}", tmp_path / f"away{len(str(name))}"
        home.mkdir()
        shutil.copy(a, home)
        _make(home / "all.h5", [(np.s_[:], home / "a.h5" if name is a else name, "X", (10, 4), None)])
        home.rename(away)
        (part,) = _parts(away / "all.h5")
        assert part.path == away / "a.h5"
        np.testing.assert_array_equal(_whole(away / "all.h5"), ROWS)


def test_a_link_to_the_virtual_file(tmp_path, a):
    path = _one(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "all.h5"
    link.symlink_to(path)
    (part,) = _parts(link)
    np.testing.assert_array_equal(_read([part]), _whole(link))


def test_the_working_directory_does_not_decide(tmp_path, a, monkeypatch):
    (tmp_path / "below").mkdir()
    path = _make(tmp_path / "below" / "all.h5", [(np.s_[:], "a.h5", "X", (10, 4), None)])
    monkeypatch.chdir(tmp_path)  # where HDF5 would find a.h5
    with pytest.raises(DataError, match=r"lacks its source '.*/below/a\.h5': no such file"):
        _parts(path)


@pytest.mark.parametrize("absolute", [True, False])
def test_sources_elsewhere_only_where_allowed(tmp_path, a, absolute):
    (tmp_path / "below").mkdir()
    name = a if absolute else "../a.h5"
    path = _make(tmp_path / "below" / "all.h5", [(np.s_[:], name, "X", (10, 4), None)])
    with pytest.raises(
        DataError, match=rf"takes rows from '{name}', outside its directory; set data.allow_ext"
    ):
        _parts(path)
    np.testing.assert_array_equal(_read(_parts(path, allow_external=True)), ROWS)


def test_a_path_that_leaves_and_comes_back_is_outside(tmp_path, a):
    with pytest.raises(DataError, match="outside its directory"):
        _parts(_one(tmp_path, f"../{tmp_path.name}/a.h5"))


def test_an_external_link_in_a_source(tmp_path, a):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["X"] = h5py.ExternalLink("a.h5", "/X")
    path = _one(tmp_path, "b.h5")
    with pytest.raises(DataError, match="'X' is an external link"):
        _parts(path)
    np.testing.assert_array_equal(_read(_parts(path, allow_external=True)), ROWS)


# --- what HDF5 would not say


def test_a_source_that_is_missing(tmp_path, a):
    path = _one(tmp_path)
    a.unlink()
    assert (_whole(path) == -1).all()  # what HDF5 says
    with pytest.raises(
        DataError, match=rf"^{path}: the virtual data set 'X' lacks its source '{a}': no such file"
    ):
        _parts(path)


def _text(a):
    a.write_text("a,b\n")
    return "cannot use its source .*a.h5: is not an HDF5 file"


def _cut(a):
    with open(a, "r+b") as file:
        file.truncate(a.stat().st_size - 1)
    return "cannot use its source .*a.h5: is truncated"


def _gone(a):
    target = a.with_name("b.h5")
    a.rename(target)
    a.symlink_to(target)
    target.unlink()
    return "cannot use its source .*a.h5: there is no such file"


def _without(a):
    with h5py.File(a, "a") as file:
        del file["X"]
    return "there is no dataset 'X'; the file has cube, y"


def _as_group(a):
    with h5py.File(a, "a") as file:
        del file["X"]
        file.create_group("X")
    return "'X' is a group, not a dataset"


def _replaced(values, said):
    def change(a):
        with h5py.File(a, "a") as file:
            del file["X"]
            file["X"] = values
        return said

    return change


def _unwritten(a):
    with h5py.File(a, "a") as file:
        del file["X"]
        file.create_dataset("X", (10, 4), "f8", chunks=(5, 4))[:5] = 1
    return "'X' is incomplete: 1 of its 2 chunks were never written, the first at row 5"


def _huge(a):
    with h5py.File(a, "a") as file:
        del file["X"]
        file.create_dataset("X", (10**12, 4), "f8")
    return "29.1 TiB"


def _nested(a):
    shutil.copy(a, a.with_name("b.h5"))
    with h5py.File(a, "a") as file:
        del file["X"]
        layout = h5py.VirtualLayout((10, 4), "f8")
        layout[:] = h5py.VirtualSource("b.h5", "X", (10, 4))
        file.create_virtual_dataset("X", layout)
    return "is virtual itself; name the data sets that hold the rows"


@pytest.mark.parametrize(
    "change",
    [
        _text,
        _cut,
        _gone,
        _without,
        _as_group,
        _unwritten,
        _huge,
        _nested,
        _replaced(ROWS[:9], "which has 9 rows, not 10"),
        _replaced(np.vstack([ROWS, ROWS]), "which has 20 rows, not 10"),
        _replaced(ROWS[:, :3], "which is rows x 3 float64, not rows x 4 float64"),
        _replaced(ROWS[:, 0], "which is rows float64, not rows x 4 float64"),
        _replaced(ROWS.astype("f4"), "which is rows x 4 float32, not rows x 4 float64"),
        _replaced(ROWS.astype(">f8"), "which is rows x 4 >f8, not rows x 4 float64"),
        _replaced(h5py.Empty("f8"), "'X' is empty: it has a type and no shape"),
        _replaced(3.0, "which is"),
    ],
)
def test_a_source_that_changed(tmp_path, a, change):
    path = _one(tmp_path)
    assert len(_parts(path)) == 1
    with_sentence = change(a)
    with pytest.raises(DataError, match=with_sentence):
        _parts(path)


def test_a_source_that_became_too_short_for_its_rows(tmp_path, a):
    path = _make(tmp_path / "all.h5", [(np.s_[:], "a.h5", "X", (10, 4), np.s_[3:8])], (5, 4))
    assert _parts(path) == [VirtualPart(a, "X", 3, 0, 5)]
    _replaced(ROWS[:7], "")(a)
    with pytest.raises(DataError, match="which has 7 rows, not 8"):
        _parts(path)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([(0, 4), (5, 10)], "has no source for row 4; HDF5 would read fill values"),
        ([(1, 10)], "has no source for row 0"),
        ([(0, 9)], "has no source for row 9"),
        ([], "has no source for row 0"),
        ([(0, 6), (5, 10)], "takes row 5 from two sources"),
        ([(0, 10), (0, 10)], "takes row 0 from two sources"),
    ],
)
def test_rows_without_a_source_or_with_two(tmp_path, a, pieces, said):
    sources = [(np.s_[i:j], "a.h5", "X", (10, 4), np.s_[i:j]) for i, j in pieces]
    path = tmp_path / "all.h5"
    if pieces:
        _make(path, sources)
    else:
        with h5py.File(path, "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_layout(h5py.h5d.VIRTUAL)
            space = h5py.h5s.create_simple((10, 4))
            h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, space, properties)
    with pytest.raises(DataError, match=said):
        _parts(path)


@pytest.mark.parametrize(
    ("where", "source", "shape", "rows"),
    [
        (np.s_[:, :2], "X", (10, 4), np.s_[:, :2]),
        (np.s_[::2], "X", (10, 4), np.s_[:5]),
        (np.s_[:], "X", (20, 4), np.s_[::2]),
        (np.s_[:, 0], "y", (10,), None),
        (np.s_[0], "y", (10,), np.s_[:4]),
        (np.s_[:8], "X", (10, 4), np.s_[[0, 1, 2, 3, 5, 6, 7, 9]]),
    ],
)
def test_mosaics_are_refused(tmp_path, a, where, source, shape, rows):
    path = _make(tmp_path / "all.h5", [(where, "a.h5", source, shape, rows)])
    said = r"is not made of runs of whole rows \(see its part from 'a\.h5'\)"
    with pytest.raises(DataError, match=said):
        _parts(path)


def test_a_source_of_other_axes_is_refused(tmp_path, a):
    with pytest.raises(DataError, match="which is rows x 2 x 2 float64, not rows x 4 float64"):
        _parts(_one(tmp_path, source="cube", shape=(10, 2, 2)))


def test_selections_without_an_end_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=ROWS, maxshape=(None, 4))
    layout = h5py.VirtualLayout((10, 4), "f8", maxshape=(None, 4))
    source = h5py.VirtualSource("a.h5", "X", (10, 4), maxshape=(None, 4))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
    with pytest.raises(DataError, match="is not made of runs of whole rows"):
        _parts(tmp_path / "all.h5")


def test_patterns_of_names_are_refused(tmp_path):
    for i in (0, 2):  # 1 is missing, and HDF5 ends there
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["X"] = ROWS
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    rows = h5py.h5s.create_simple((0, 4), (h5py.h5s.UNLIMITED, 4))
    rows.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (10, 1), (10, 4))
    properties.set_virtual(rows, b"s%b.h5", b"X", h5py.h5s.create_simple((10, 4)))
    space = h5py.h5s.create_simple((0, 4), (h5py.h5s.UNLIMITED, 4))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, space, properties)
    assert _whole(tmp_path / "all.h5").shape == (10, 4)
    with pytest.raises(DataError, match=r"names its sources by the pattern 's%b\.h5', 'X'"):
        _parts(tmp_path / "all.h5")


def test_each_source_is_opened_once(tmp_path, monkeypatch):
    sources = []
    for i in range(4):
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["X"] = ROWS
        sources += [
            (np.s_[10 * i + j : 10 * i + j + 1], f"s{i}.h5", "X", (10, 4), np.s_[j : j + 1])
            for j in range(10)
        ]
    path = _make(tmp_path / "all.h5", sources, (40, 4))
    opened = []
    monkeypatch.setattr("hpcml.io.read.virtual.open_file", lambda p: opened.append(p) or open_file(p))
    assert len(_parts(path)) == 40 and [p.name for p in opened] == ["s0.h5", "s1.h5", "s2.h5", "s3.h5"]
