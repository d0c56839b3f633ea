"""Generated files: the same bytes for any number of ranks, made once, never over another file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import small
from scipy import sparse

from hpcml.collectives import Communicator, run_threads
from hpcml.data.synthetic import Synthetic, make_truth
from hpcml.data.synthetic_rows import dense_block, sparse_block, sparse_columns
from hpcml.errors import DataError, OutputError
from hpcml.io.files import file_digest
from hpcml.io.write import chunks as chunk_write
from hpcml.io.write.filters import CONTIGUOUS, Storage
from hpcml.io.write.generate import GenerateReport, generate_file

KINDS = ("classification", "regression", "counts", "blobs", "sparse")
STORAGES = [CONTIGUOUS, Storage(chunk_rows=300), Storage(compression="gzip:1")]
ROWS = 9001


@pytest.fixture
def small_units(monkeypatch):
    """Many rounds of few rows, with borders inside blocks."""
    monkeypatch.setattr(chunk_write, "UNIT_BYTES", 30_000)


def settings_of(kind: str, **given: Any) -> Synthetic:
    density = {"density": 0.1} if kind == "sparse" else {}
    return Synthetic(
        **{"kind": kind, "rows": ROWS, "features": 12, "weights": True, "seed": 5, **density, **given}
    )


def run(size: int, path: Path, settings: Synthetic, storage: Storage = CONTIGUOUS) -> GenerateReport:
    reports = run_threads(size, lambda comm: generate_file(comm, path, settings, storage))
    assert all(report == reports[0] for report in reports)
    return reports[0]


def expected(settings: Synthetic) -> dict[str, Any]:
    """All blocks one after the other."""
    truth = make_truth(settings)
    blocks = range(settings.n_blocks)
    make = sparse_columns if settings.is_sparse else dense_block
    parts = [make(settings, truth, block) for block in blocks]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if settings.is_sparse:
        entries = zip(*[sparse_block(settings, block) for block in blocks], strict=True)
        rows["data"], rows["indices"] = (np.concatenate(part) for part in entries)
    return rows


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_leave_no_trace(tmp_path, small_units, kind, storage):
    settings = settings_of(kind)
    digests = set()
    for size in (1, 2, 3, 5, 30):
        path = tmp_path / f"{size}.h5"
        assert run(size, path, settings, storage) == (path, True, path.stat().st_size)
        digests.add(file_digest(path))
    assert len(digests) == 1
    assert len(os.listdir(tmp_path)) == 5
    rows = expected(settings)
    with h5py.File(tmp_path / "3.h5") as file:
        for name, values in rows.items():
            stored = file[f"X/{name}" if name in ("data", "indices") else name]
            assert stored.dtype == values.dtype and np.array_equal(stored[()], values)
            assert (stored.chunks is None) == (storage is CONTIGUOUS)


def test_a_sparse_file_is_in_csr_form(tmp_path, small_units):
    settings = settings_of("sparse")
    run(3, tmp_path / "f.h5", settings)
    with h5py.File(tmp_path / "f.h5") as file:
        parts = [file["X"][name][()] for name in ("data", "indices", "indptr")]
        X = sparse.csr_array(tuple(parts), shape=tuple(file["X"].attrs["shape"]))
    X.check_format(full_check=True)
    assert X.shape == (ROWS, 12) and X.has_canonical_format
    assert X.nnz == pytest.approx(0.1 * ROWS * 12, rel=0.05)


def test_a_sparse_file_without_an_entry(tmp_path):
    settings = Synthetic("sparse", 5, 3, density=1e-9)
    run(2, tmp_path / "f.h5", settings, Storage(compression="gzip"))
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["X/data"].shape == (0,)
        assert file["X/indptr"][()].tolist() == [0] * 6


def test_what_stands_beside_the_rows(tmp_path):
    settings = settings_of("classification", classes=3, condition=10.0)
    run(2, tmp_path / "f.h5", settings)
    with h5py.File(tmp_path / "f.h5") as file:
        truth = make_truth(settings)
        assert np.array_equal(file["truth/coef"][()], truth.coef)
        assert np.array_equal(file["truth/intercept"][()], truth.intercept)
        assert np.array_equal(file["truth/scales"][()], truth.scales)
        assert list(file["feature_names"].asstr())[:2] == ["x0", "x1"]
        recipe = json.loads(file.attrs["hpcml_generate"])
        assert recipe | settings.describe() == recipe
        assert recipe["informative"] == 10 and recipe["noise"] == 0.01
        assert file.attrs["numpy"] == np.__version__


def written_at(path):
    """Which file it is, and when it was written; reading changes the time of access alone."""
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_it_is_made_once_and_again_for_another_recipe(tmp_path):
    path, settings = tmp_path / "f.h5", settings_of("blobs")
    assert run(2, path, settings).generated
    before = written_at(path)
    assert not run(3, path, settings).generated
    assert written_at(path) == before
    assert run(1, path, settings_of("blobs", seed=6)).generated
    assert run(1, path, settings_of("blobs", seed=6), Storage(chunk_rows=64)).generated


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_another_file_is_never_replaced(tmp_path, content):
    path = tmp_path / "f.h5"
    if content is None:
        with h5py.File(path, "w") as file:
            file["X"] = [1.0]
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="was not generated by hpcml: move it"):
        run(2, path, settings_of("blobs"))
    assert path.read_bytes() == before


def test_what_a_killed_job_left_aside_is_removed(tmp_path):
    (tmp_path / ".f.h5.1.part").write_bytes(b"half")
    run(2, tmp_path / "f.h5", settings_of("blobs"))
    assert os.listdir(tmp_path) == ["f.h5"]


MEMORY = """
    import resource, sys
    from pathlib import Path
    from hpcml.collectives import world
    from hpcml.data.synthetic import Synthetic
    from hpcml.io.write.filters import Storage
    from hpcml.io.write.generate import generate_file

    comm = world()
    small, large = (Synthetic(sys.argv[2], int(n), 50) for n in (20_000, sys.argv[3]))
    storage = Storage(compression="gzip:1")
    generate_file(comm, Path(sys.argv[1], "small.h5"), small, storage)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generate_file(comm, Path(sys.argv[1], "large.h5"), large, storage)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("kind", "rows"), [("regression", 200_000), ("sparse", 4_000_000)])
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, spmd: Callable[..., Any], kind: str, rows: int
) -> None:
    job = spmd(2, MEMORY, tmp_path, kind, str(rows), check=0, timeout=200)
    written = rows * 50 * (8 if kind == "regression" else 0.01 * 12)
    assert max(map(int, job.lines)) < 32 << 10, job.stdout  # KiB
    assert written > 20e6


def test_the_command_on_ranks(tmp_path):
    words = ("generate", "counts", "--rows", "5000", "--features", "6", "--seed", "3", "--noise", "0.1")
    done = small.hpcml(*words, "-n", "3", "-o", tmp_path / "f.h5", check=0)
    size = (tmp_path / "f.h5").stat().st_size
    assert done.stdout == f"{tmp_path / 'f.h5'}: counts, 5,000 rows x 6 features, {size:,} bytes\n"
    assert "generating 5,000 rows x 6 features of kind counts on 3 rank(s)" in done.stderr
    run(1, tmp_path / "g.h5", Synthetic("counts", 5000, 6, seed=3, noise=0.1))
    assert file_digest(tmp_path / "f.h5") == file_digest(tmp_path / "g.h5")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--density", "0.5"], 2, "density does not fit kind blobs; leave it out, or take kind sparse"),
        (["--centers", "0"], 2, "centers 0 does not fit"),
        (["--compression", "gzip:99"], 2, "the level of gzip is 0 to 9"),
        (["-o", "there/f.h5"], 5, "not a directory"),
        (["-o", "there"], 5, "was not generated by hpcml"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, words, code, said):
    (tmp_path / "there").touch()
    base = ("generate", "blobs", "--rows", "10", "--features", "2", "-o", "f.h5")
    done = small.hpcml(*base, *words, check=code, cwd=tmp_path)
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr
    assert os.listdir(tmp_path) == ["there"]


def test_a_limit_of_file_size(tmp_path):
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)"
    (tmp_path / "sitecustomize.py").write_text(code)
    words = ("generate", "blobs", "--rows", "100000", "--features", "10", "-o", tmp_path / "out" / "f.h5")
    path = f"{tmp_path}:{small.harness.clean_environment()['PYTHONPATH']}"
    done = small.hpcml(*words, check=5, env={"PYTHONPATH": path})
    assert "larger than the limit allows" in done.stderr
    assert os.listdir(tmp_path / "out") == []


def spec_of(folder: Path, **generate: Any) -> Path:
    wanted = {"kind": "classification", "rows": 3000, "features": 5, **generate}
    keys = {"data__format": "generated", "data__generate": wanted}
    return small.write_spec(folder / "spec.yaml", folder / "made.h5", **keys)


def test_a_run_makes_its_data_once(tmp_path):
    spec = spec_of(tmp_path)
    first = small.hpcml("run", "-n", "2", spec, f"output.dir={tmp_path / 'a'}", check=0)
    assert "generating 3,000 rows x 5 features" in first.stderr
    again = small.hpcml("run", spec, f"output.dir={tmp_path / 'b'}", check=0)
    assert "is up to date" in again.stderr
    results = [small.result_of(tmp_path / name)["model_digest"] for name in ("a", "b")]
    assert results[0] == results[1]
    run(1, tmp_path / "same.h5", Synthetic("classification", 3000, 5))
    assert file_digest(tmp_path / "same.h5") == file_digest(tmp_path / "made.h5")


def test_a_run_of_another_recipe_is_another_run(tmp_path):
    small.hpcml("run", spec_of(tmp_path), f"output.dir={tmp_path / 'a'}", check=0)
    before = file_digest(tmp_path / "made.h5")
    words = ("run", spec_of(tmp_path), "data.generate.noise=0.2")
    assert "holds another run" in small.hpcml(*words, f"output.dir={tmp_path / 'a'}", check=2).stderr
    assert file_digest(tmp_path / "made.h5") == before
    small.hpcml(*words, f"output.dir={tmp_path / 'b'}", check=0)
    assert file_digest(tmp_path / "made.h5") != before


def test_the_seed_of_the_spec_is_that_of_the_rows(tmp_path):
    small.hpcml("run", spec_of(tmp_path), "seed=9", f"output.dir={tmp_path / 'a'}", check=0)
    run(1, tmp_path / "same.h5", Synthetic("classification", 3000, 5, seed=9))
    assert file_digest(tmp_path / "same.h5") == file_digest(tmp_path / "made.h5")


def test_an_error_leaves_nothing(tmp_path, monkeypatch):
    def program(comm: Communicator) -> None:
        with pytest.raises(DataError):
            generate_file(comm, tmp_path / "f.h5", settings_of("blobs"))

    def broken(*args: Any) -> Any:
        raise DataError("broken")

    monkeypatch.setattr("hpcml.io.write.generate.dense_block", broken)
    run_threads(2, program)
    assert os.listdir(tmp_path) == []
