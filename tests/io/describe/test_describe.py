"""What inspect finds in a file, against the file that was made for it."""

from __future__ import annotations

import json
import os
import re

import h5py
import hdf5plugin
import numpy as np
import pytest
import small

from hpcml.cli import inspect
from hpcml.data import Source, make_partition
from hpcml.errors import DataError
from hpcml.io.describe import striping
from hpcml.io.describe.advice import advice
from hpcml.io.describe.file import describe_file
from hpcml.io.describe.storage import share_bytes
from hpcml.io.describe.striping import Component, components, is_on_lustre
from hpcml.io.index.side_file import IndexContent, write_index
from hpcml.io.read.opening import found
from hpcml.io.sizes import human_bytes

X = np.round(np.random.default_rng(0).normal(size=(3000, 8)), 2)


def _told(path, **datasets):
    """Describe a file of data sets, each given by the options of create_dataset."""
    with h5py.File(path, "w") as file:
        for name, options in datasets.items():
            file.create_dataset(name, **options)
    return describe_file(path)


def _printed(path, capsys):
    parser = inspect.argparse.ArgumentParser()
    inspect.configure(parser)
    assert inspect.execute(parser.parse_args([str(path)])) == 0
    return capsys.readouterr().out


# --- storage


def test_storage_against_h5py(tmp_path):
    path = tmp_path / "data.h5"
    chunked = {"data": X, "chunks": (500, 8), "compression": "gzip", "compression_opts": 6, "shuffle": True}
    told = _told(path, X={"data": X}, c=chunked, y={"data": X[:, 0].astype("i1")})
    with h5py.File(path, locking=False) as file:
        for name, item in file.items():
            each = told["storage"][name]
            assert (tuple(each["shape"]), each["dtype"]) == (item.shape, str(item.dtype))
            assert (each["bytes"], each["stored bytes"]) == (item.nbytes, item.id.get_storage_size())
            assert each["ratio"] == item.nbytes / item.id.get_storage_size()
    assert told["data sets"] == {
        "X": "3000 x 8, float64, contiguous",
        "c": "3000 x 8, float64, chunks 500 x 8, gzip+shuffle",
        "y": "3000, int8, contiguous",
    }
    c = told["storage"]["c"]
    assert (c["layout"], c["chunks"], c["n chunks"], c["missing chunks"]) == ("chunked", [500, 8], 6, 0)
    assert [(one["name"], one["number"], one["level"], one["install"]) for one in c["filters"]] == [
        ("shuffle", 2, None, None),
        ("gzip", 1, 6, None),
    ]
    json.dumps(told)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"compression": "gzip", "compression_opts": 1}, "gzip:1"),
        ({"compression": "lzf", "fletcher32": True}, "lzf+fletcher32"),
        ({"scaleoffset": 2}, "scaleoffset"),
        ({**hdf5plugin.Blosc(cname="lz4", clevel=3)}, "blosc-lz4:3"),
        ({**hdf5plugin.Blosc(cname="zstd", clevel=7)}, "blosc-zstd:7"),
        ({**hdf5plugin.Blosc2(cname="zlib", clevel=2)}, "blosc2-zlib:2"),
        ({**hdf5plugin.Bitshuffle(cname="lz4")}, "bitshuffle-lz4"),
        ({**hdf5plugin.Bitshuffle(cname="zstd", clevel=4)}, "bitshuffle-zstd"),
        ({**hdf5plugin.Zstd(clevel=9)}, "zstd:9"),
        ({**hdf5plugin.LZ4()}, "lz4"),
        ({**hdf5plugin.Zfp(accuracy=0.1)}, "zfp"),
    ],
)
def test_filters_by_name_and_level(tmp_path, options, text):
    told = _told(tmp_path / "data.h5", X={"data": X, "chunks": (500, 8), **options})
    filters = told["storage"]["X"]["filters"]
    assert inspect._filters(filters) == text and not any(one["install"] for one in filters)
    assert "problems" not in told or not told["problems"]


@pytest.mark.parametrize(
    ("number", "name", "install"),
    [(32015, "zstd", "pip install hdf5plugin"), (40123, "mine", "a plugin for the")],
)
def test_filters_that_are_missing(tmp_path, monkeypatch, number, name, install):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=X, chunks=(500, 8), **hdf5plugin.Zstd())
    path.write_bytes(path.read_bytes().replace((32015).to_bytes(2, "little"), number.to_bytes(2, "little")))
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda _: False)
    told = describe_file(path)
    (one,) = told["storage"]["X"]["filters"]
    assert one["install"].startswith(install)
    (said, *_) = told["advice"]
    assert said["text"].startswith(
        f"X: cannot be read here, for want of the filter {one['name']}; needs: {install}"
    )


def test_read_amplification_against_a_count(tmp_path):
    """A row at each place, and runs of 8 MiB at each place, counted chunk by chunk."""
    n, chunks = 3000, (700, 3)
    told = _told(tmp_path / "data.h5", X={"data": X, "chunks": chunks})["storage"]["X"]["amplification"]
    padded = 9 / 8  # columns of three chunks

    def cost(start, stop):
        touched = (stop - 1) // chunks[0] - start // chunks[0] + 1
        return touched * chunks[0] * padded / (stop - start)

    assert told["row"] == pytest.approx(np.mean([cost(i, i + 1) for i in range(n)]))
    assert told["8 MiB"] == pytest.approx(cost(0, n))  # all of it is less than 8 MiB
    wide = {"shape": (6000, 4096), "dtype": "f8", "chunks": (100, 4096)}  # 8 MiB are 256 rows
    told = _told(tmp_path / "wide.h5", X=wide)["storage"]["X"]
    assert "amplification" not in told  # never written: there is nothing to read
    with h5py.File(tmp_path / "wide.h5", "a") as file:
        file["X"][:100] = 0
    told = describe_file(tmp_path / "wide.h5")["storage"]["X"]["amplification"]
    runs = [((i + 255) // 100 - i // 100 + 1) * 100 / 256 for i in range(6000 - 256 - 44)]
    assert told["8 MiB"] == pytest.approx(np.mean(runs), rel=1e-3)


def test_csr_groups_are_one_thing(tmp_path):
    path = small.make_rows(tmp_path / "rows.h5")
    told = describe_file(path)
    assert [name for name in told["storage"] if name.startswith("S")] == ["S"]
    parts = told["storage"]["S"]["parts"]
    assert told["storage"]["S"]["bytes"] == sum(part["bytes"] for part in parts.values())
    n = parts["data"]["shape"][0]
    assert told["data sets"]["S"] == f"CSR 600 x 6, float64, {n} entries ({n / 3600:.2%}), contiguous"


def test_links_and_kinds_that_are_not_plain(tmp_path):
    path = tmp_path / "data.h5"
    (tmp_path / "raw").write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file["soft"], file["out"] = h5py.SoftLink("/X"), h5py.ExternalLink("pipe.h5", "/X")
        file.create_dataset("raw", (8,), "f8", external=[("raw", 0, 64)])
        file["texts"] = ["a", "b"]
        file["null"] = h5py.Empty("f4")
        file["one"] = 1.0
        file["type"] = np.dtype("f8")
        for part in ("data", "indices", "indptr"):
            file[f"S/{part}"] = h5py.ExternalLink("pipe.h5", part)
        file["loop/back"] = file["/"]
        file[b"\xff\x1b[31m"] = X
    os.mkfifo(tmp_path / "pipe.h5")  # whoever follows a link waits for ever
    told = describe_file(path)
    assert told["links"]["soft"] == "soft link to /X"
    assert told["links"]["out"] == "external link to /X in the file pipe.h5"
    assert told["data sets"]["raw"] == "8, float64, external"
    assert told["data sets"]["one"] == "scalar, float64, contiguous"
    assert told["data sets"]["null"] == "empty, float32, contiguous"
    assert "S" in told["data sets"] and told["data sets"]["S"].startswith("cannot be described")
    problems = " ".join(told["problems"])
    assert "the bytes of 'raw' lie in the file 'raw'; set data.allow_external" in problems


def test_what_leads_out_of_the_file_is_a_problem_with_its_cure(tmp_path, capsys):
    path = tmp_path / "data.h5"
    (tmp_path / "raw").write_bytes(bytes(64))
    (tmp_path / "there.h5").write_bytes(b"not opened")
    with h5py.File(path, "w") as file:
        file["group/X"] = h5py.ExternalLink("there.h5", "/X")
        file.create_dataset("raw", (8,), "f8", external=[("raw", 0, 64)])
        file["soft"], file["y"] = h5py.SoftLink("/group/X"), X[:, 0]
        for part in ("data", "indices", "indptr"):
            file[f"S/{part}"] = h5py.ExternalLink("there.h5", part)
    cure = "set data.allow_external: true to follow it"
    link = f"'group/X' is an external link to '/X' in the file 'there.h5'; {cure}"
    bytes_ = f"the bytes of 'raw' lie in the file 'raw'; {cure}"
    told = describe_file(path)
    assert {link, bytes_} < set(told["problems"])
    assert sum("'S/" in problem and cure in problem for problem in told["problems"]) == 3
    printed = _printed(path, capsys)
    _, problems = printed.split("problems: a job would refuse these\n")
    assert f"  - {link}\n" in problems and f"  - {bytes_}\n" in problems
    with pytest.raises(DataError) as caught, h5py.File(path) as file:
        found(file, "soft", h5py.Dataset)
    assert str(caught.value) == f"{path}: {link.replace('group/X', 'soft')}"  # as a job says it


def test_links_to_nothing_are_problems(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["X"], file["good"], file["lost"] = X, h5py.SoftLink("/X"), h5py.SoftLink("/gone")
        file["round"], file["about"] = h5py.SoftLink("/about"), h5py.SoftLink("/round")
        file["outside"] = h5py.ExternalLink("gone.h5", "/X")
        file["group/type"], file["kind"] = np.dtype("f8"), h5py.SoftLink("group/type")
    told = describe_file(path)
    problems = {problem.split("'")[1]: problem for problem in told["problems"]}
    assert set(problems) == {"lost", "round", "about", "outside"}
    assert problems["lost"].startswith(
        "'lost' is a soft link to '/gone', which cannot be opened: there is no dataset"
    )
    assert "lead in a circle" in problems["round"]
    assert problems["outside"] == (
        "'outside' is an external link to '/X' in the file 'gone.h5', which is not there"
    )
    assert set(told["links"]) == {*problems, "good", "kind"}


def test_names_cannot_paint_the_terminal(tmp_path, capsys):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["\x1b[31m\nred"] = X
    text = _printed(tmp_path / "data.h5", capsys)
    assert "\x1b" not in text and r"\x1b[31m\nred" in text


def test_virtual_sources(tmp_path):
    path = tmp_path / "all.h5"
    layout = h5py.VirtualLayout((3000, 8), "f8")
    for i in range(3):
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["X"] = X[:1000]
        layout[1000 * i : 1000 * i + 1000] = h5py.VirtualSource(f"s{i}.h5", "X", (1000, 8))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("X", layout)
    told = describe_file(path)
    assert told["storage"]["X"]["sources"] == [str(tmp_path / f"s{i}.h5") for i in range(3)]
    assert not told["problems"]
    (tmp_path / "s1.h5").unlink()
    assert re.search(r"'X' lacks its source '.*s1\.h5': no such file", describe_file(path)["problems"][0])


def test_the_index_beside_a_file(tmp_path):
    path = tmp_path / "data.h5"
    assert _told(path, X={"data": X})["index"] == "none"
    status = path.stat()
    contract = {"format": 1, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "arrays": {}}
    write_index(path, IndexContent(contract, {}, {}))
    told = describe_file(path)
    assert told["index"] == "present" and not told["advice"]
    write_index(path, IndexContent({**contract, "bytes": 1}, {}, {}))
    (said,) = describe_file(path)["advice"]
    assert said["text"] == "the index is of a file of another size; write it again"
    assert said["command"] == f"hpcml index {path}"
    (tmp_path / "data.h5.index").write_text("")
    assert describe_file(path)["index"] == "damaged"


def test_what_hpcml_never_wrote(tmp_path):
    path = tmp_path / "data.h5"
    for value in ("no JSON", "[1]", np.arange(3)):
        with h5py.File(path, "w") as file:
            file["X"] = X
            file.attrs["about"] = value
        assert describe_file(path)["kind"] == "HDF5 file"


# --- memory of a rank


@pytest.mark.parametrize("chunk_rows", [1, 128])
def test_shares_are_those_of_the_partition(chunk_rows):
    shares = share_bytes(100_000, 50, chunk_rows, None)
    for size, dtype in ((8, "float64"), (4, "float32")):
        for ranks, share in zip((1, 16, 256), shares[dtype], strict=True):
            partition = make_partition(Source(100_000, 50, 50 * size, chunk_rows), ranks)
            counts = [np.ptp(partition.rows_of(partition.shards_of(rank))) for rank in range(ranks)]
            assert sum(counts) == 100_000 and share == max(counts) * (50 * size + 8)
    assert share_bytes(1000, 50, 1, 2.5)["float64"][0] == 1000 * (2.5 * 12 + 16)


# --- advice


def _advice(tmp_path, told=None, **options):
    """What is said of one data set of 100 000 x 50, but of the index."""
    told = told or _told(tmp_path / "my data.h5", X={"data": np.zeros((100_000, 50)), **options})
    return [each for each in told["advice"] if "index" not in each["text"]]


def test_good_layouts_get_no_advice(tmp_path):
    for options in (
        {},
        {"chunks": (4096, 50)},
        {"chunks": (4096, 50), **hdf5plugin.Blosc()},
        {"chunks": (1000, 50), "compression": "lzf"},
    ):
        assert _advice(tmp_path, **options) == []
    assert (
        _advice(tmp_path, _told(tmp_path / "a.h5", X={"data": X, "chunks": (1, 1)})) == []
    )  # too small to matter


_ROWS, _LZ4 = "--chunk-rows 8192", "--compression blosc-lz4"


@pytest.mark.parametrize(
    ("options", "text", "words"),
    [
        ({"chunks": True}, r"X: chunks hold \d+ rows of a part of the columns, so a row lies in \d+", _ROWS),
        ({"chunks": (1, 50)}, "X: 100000 chunks of 1 row, 400 bytes each, are small", _ROWS),
        ({"chunks": (200_000, 50), "maxshape": (None, 50)}, r"X: chunks of 76\.3 MiB are large", _ROWS),
        ({"chunks": (8192, 50), "compression": "gzip"}, "X: gzip is slow to undo", _LZ4),
        ({"chunks": (100, 50), "compression": "gzip"}, "X: gzip is slow to undo", f"{_ROWS} {_LZ4}"),
    ],
)
def test_bad_layouts(tmp_path, options, text, words):
    said = _advice(tmp_path, **options)
    assert any(re.match(text, each["text"]) for each in said)
    commands = [each["command"] for each in said if "command" in each]
    target = tmp_path / "my data-rechunked.h5"
    assert len(commands) == 1 and commands[0].startswith(
        f"hpcml rechunk '{tmp_path / 'my data.h5'}' '{target}' "
    )
    assert words in commands[0]


# --- Lustre

PLAIN = """/lustre/data.h5
lmm_stripe_count:  1
lmm_stripe_size:   1048576
lmm_pattern:       raid0
lmm_layout_gen:    0
lmm_stripe_offset: 3
\tobdidx\t\t objid\t\t objid\t\t group
\t     3\t      1234567\t     0x12d687\t             0
"""
PROGRESSIVE = """/lustre/data.h5
  lcm_layout_gen:    4
  lcm_mirror_count:  1
  lcm_entry_count:   2
    lcme_id:             1
    lcme_mirror_id:      0
    lcme_flags:          init
    lcme_extent.e_start: 0
    lcme_extent.e_end:   1073741824
      lmm_stripe_count:  1
      lmm_stripe_size:   1048576
      lmm_pattern:       raid0
      lmm_stripe_offset: 5
      lmm_objects:
      - 0: { l_ost_idx: 5, l_fid: [0x100050000:0x2:0x0] }

    lcme_id:             2
    lcme_mirror_id:      0
    lcme_flags:          init
    lcme_extent.e_start: 1073741824
    lcme_extent.e_end:   EOF
      lmm_stripe_count:  4
      lmm_stripe_size:   4194304
      lmm_pattern:       raid0
      lmm_stripe_offset: -1
"""
GIB = 1 << 30


def test_striping_is_parsed():
    assert components(PLAIN) == [Component(0, None, 1, 1 << 20)]
    assert components(PROGRESSIVE) == [Component(0, GIB, 1, 1 << 20), Component(GIB, None, 4, 4 << 20)]
    assert components("") == components("lfs: invalid path") == []


def test_the_mount_that_counts(tmp_path):
    mounts = (
        "tmpfs /lustre/tmp tmpfs rw 0 0\n"
        "10.0.0.1@tcp:/fs /lustre lustre rw 0 0\n"
        "overlay / overlay rw 0 0\n"
        "10.0.0.1@tcp:/b /my\\040data lustre rw 0 0\n"
        "broken\n"
    )
    for path, expected in {
        "/home/a.h5": False,
        "/lustre/a.h5": True,
        "/lustre2/a.h5": False,
        "/lustre/tmp/a.h5": False,
        "/my data/a.h5": True,
    }.items():
        assert is_on_lustre(tmp_path.__class__(path), mounts) == expected


def test_lfs_is_asked_on_lustre_alone(tmp_path, monkeypatch, capsys):
    path = tmp_path / "data.h5"
    asked = []
    monkeypatch.setattr(striping, "capture", lambda argv: asked.append(argv) or PROGRESSIVE)
    assert _told(path, X={"data": X})["striping"] == [] and not asked
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x {tmp_path} lustre rw 0 0\n")
    monkeypatch.setattr(striping, "_MOUNTS", mounts)
    told = describe_file(path)
    assert asked == [["lfs", "getstripe", str(path)]] and len(told["striping"]) == 2
    monkeypatch.setattr(inspect, "_describe", lambda _: told)
    assert re.search(r"^  from 1 GiB +4 +4 MiB$", _printed(path, capsys), re.MULTILINE)


@pytest.mark.parametrize(
    ("size", "text", "count"),
    [
        (GIB - 1, PLAIN, None),
        (5 * GIB, PLAIN, 8),
        (50 * GIB, PLAIN, 24),
        (500 * GIB, PLAIN, 72),
        (5 * GIB, PROGRESSIVE, None),  # most of it on four
        (GIB + 1, PROGRESSIVE, 8),  # most of it on one
        (50 * GIB, PROGRESSIVE, 24),
        (500 * GIB, PLAIN.replace("count:  1", "count:  -1"), None),
        (500 * GIB, "", None),
    ],
)
def test_advice_on_striping(size, text, count):
    told = {"path": "/lustre/data.h5", "bytes": size, "storage": {}, "shares": {}, "index": "present"}
    said = advice({**told, "striping": [part._asdict() for part in components(text)]})
    commands = [each["command"] for each in said]
    assert commands == ([f"lfs migrate -c {count} -S 4M /lustre/data.h5"] if count else [])


# --- what is printed


def test_the_report_is_aligned(tmp_path, capsys):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["X"] = X
        file.create_dataset("longer name", data=X, chunks=(500, 8), compression="gzip")
        file.create_dataset("holes", X.shape, "f8", chunks=(500, 8))[:500] = 1
    text = _printed(path, capsys)
    head, *sections = text.split("\n\n")
    assert head.splitlines()[0].split() == ["kind", "HDF5", "file"]
    titles = [section.split("\n")[0].split("  ")[0] for section in sections]
    assert titles == [
        "data sets",
        "storage",
        "memory of a rank, with labels",
        "problems: a job would refuse these",
        "advice",
    ]
    storage = sections[1].splitlines()[:-1]
    assert len({len(line) for line in storage}) == 1 and "missing" in storage[0]
    assert max(map(len, storage)) < 110
    assert (
        "  - 'holes' is incomplete: 5 of its 6 chunks were never written, the first at row 500" in sections[3]
    )
    assert sections[4].rstrip().endswith(f"      hpcml index {path}")


def test_sizes_for_a_reader():
    shown = [human_bytes(n) for n in (0, 1, 999, 1000, 1024, 1536, 10**6, 5 << 30, 8 * 10**14, 1 << 62)]
    assert shown == [
        "0 bytes", "1 byte", "999 bytes", "1000 bytes", "1 KiB", "1.5 KiB", "977 KiB", "5 GiB", "728 TiB",
        "4096 PiB",
    ]  # fmt: skip
