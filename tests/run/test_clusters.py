"""k-means and components by specs: from a table to labels, on any number of ranks, after any end."""

from __future__ import annotations

import json

import h5py
import harness
import numpy as np
import pytest
import small
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from hpcml.estimators.loading import load_model
from hpcml.io.model import read_model

JOB = harness.ROOT / "jobs" / "digits_kmeans.yaml"
PLACES = {"1": (1, ()), "2": (2, ()), "5": (5, ()), "streamed": (2, ("data.cache=none",))}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The job's run directories on several numbers of ranks, and streamed."""
    folder = tmp_path_factory.mktemp("digits")
    for name, (n, more) in PLACES.items():
        data = f"data.path={folder / 'digits.h5'}"
        small.hpcml("run", JOB, data, "-n", str(n), f"output.dir={folder / name}", *more)
    return folder


def test_the_same_on_any_number_of_ranks(ran):
    results = [small.result_of(ran / name) for name in PLACES]
    assert len({result["model_digest"] for result in results}) == 1
    assert len({json.dumps(result["metrics"]) for result in results}) == 1
    assert len({(ran / name / "predictions.h5").read_bytes() for name in PLACES}) == 1


def test_the_answer_is_that_of_lloyd(ran):
    arrays, about = read_model(ran / "1" / "model.h5")
    assert about["kind"] == "kmeans" and about["converged"]
    X = load_digits().data
    with h5py.File(ran / "1" / "predictions.h5") as file:
        rows, labels, distances = (file[name][:] for name in ("row", "prediction", "distance"))
    far = np.linalg.norm(X[:, None] - arrays["centers"], axis=2)[rows]
    np.testing.assert_array_equal(labels, far.argmin(axis=1))
    np.testing.assert_allclose(distances, far.min(axis=1), rtol=1e-12)
    metrics = small.result_of(ran / "1")["metrics"]
    assert 0.15 < metrics["silhouette_sampled"] < 0.25
    assert abs(silhouette_score(X[rows], labels) - metrics["silhouette_sampled"]) < 0.02  # of other rows
    np.testing.assert_array_equal(load_model(ran / "1").predict(X[rows]), labels)
    peer = KMeans(10, init=arrays["centers"], n_init=1, tol=0).fit(_training_rows(ran, X))
    np.testing.assert_allclose(peer.cluster_centers_, arrays["centers"], rtol=1e-10, atol=1e-10)


def _training_rows(ran, X):
    small.hpcml("predict", ran / "1", ran / "digits.h5", "--part", "train", "-o", ran / "train.h5")
    with h5py.File(ran / "train.h5") as file:
        return X[file["row"][:]]


def test_the_verb_evaluate(ran):
    said = small.hpcml(
        "evaluate", ran / "1", ran / "digits.h5", "--part", "test", "--metric", "inertia", "--json"
    )
    assert json.loads(said.stdout)["metrics"]["inertia"] == small.result_of(ran / "1")["metrics"]["inertia"]
    refused = small.hpcml("evaluate", ran / "1", ran / "digits.h5", "--metric", "r2", check=2)
    assert "choose from inertia, silhouette_sampled" in refused.stderr


BLOBS = {
    "data__generate": {"kind": "blobs", "rows": 3000, "features": 4, "centers": 5, "dtype": "float32"},
    "data__y": None,
    "data__partition": {"block_rows": 64, "shard_bytes": 4096},
    "data__split": {"method": "none"},
    "preprocessing": [],
    "checkpoint__every": 1,
}
MODELS = {
    "kmeans": {"type": "kmeans", "n_clusters": 9, "init": "random", "n_init": 2},
    "minibatch": {"type": "minibatch_kmeans", "n_clusters": 9, "batch_size": 300},
    "randomized": {"type": "pca", "n_components": 2, "svd_solver": "randomized", "n_iter": 5},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_killed_run_goes_on_with_other_ranks_to_the_same_bits(tmp_path, name):
    rows, keys = tmp_path / "rows.h5", BLOBS | {"model": MODELS[name], "solver": {"tol": 1e-12}}
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **keys)
    small.hpcml("run", spec, f"output.dir={tmp_path / 'whole'}")
    run = tmp_path / "run"
    fault = {"where": "hpcml.run.saver:Saver._save", "rank": 1, "call": 3, "action": "kill"}
    env = small.fault(tmp_path, fault)
    done = small.hpcml("run", spec, "-n", "3", f"output.dir={run}", env=env, check=None)
    assert done.returncode != 0
    resumed = small.hpcml("resume", run, "-n", "2")
    assert "goes on from iteration" in resumed.stderr
    whole, other = small.result_of(tmp_path / "whole"), small.result_of(run)
    assert whole["model_digest"] == other["model_digest"]
    assert (whole["n_iter"], whole["objective"]) == (other["n_iter"], other["objective"])


def test_principal_components(tmp_path):
    X = load_digits().data + np.random.default_rng(0).normal(size=(1797, 64))  # no constant pixel
    rows = tmp_path / "rows.h5"
    with h5py.File(rows, "w") as file:
        file["X"] = X
    keys = {
        "model": {"type": "pca", "n_components": 0.5, "whiten": True},
        "evaluation": {"predictions": "all"},
    }
    keys |= {"data__split": {"method": "none"}, "data__y": None, "preprocessing": [], "solver": {}}
    spec = small.write_spec(tmp_path / "spec.yaml", rows, **keys)
    small.hpcml("run", spec, "-n", "2", f"output.dir={tmp_path / 'run'}")
    peer = PCA(0.5, whiten=True, svd_solver="full").fit(X)
    arrays, about = read_model(tmp_path / "run" / "model.h5")
    np.testing.assert_allclose(np.abs(arrays["components"]), np.abs(peer.components_), atol=1e-8)
    with h5py.File(tmp_path / "run" / "predictions.h5") as file:
        found = file["prediction"][:]
    np.testing.assert_allclose(np.abs(found), np.abs(peer.transform(X)), atol=1e-7)
    np.testing.assert_allclose(load_model(tmp_path / "run").transform(X), found, rtol=1e-9, atol=1e-12)
    result = small.result_of(tmp_path / "run")
    assert result["solver"] == "gram" and about["kind"] == "pca"
    share = peer.explained_variance_ratio_.sum()
    np.testing.assert_allclose(result["metrics"]["explained_variance_ratio"], share, rtol=1e-9)
    said = json.loads(small.hpcml("evaluate", tmp_path / "run", rows, "--json").stdout)  # it has no y
    assert said["metrics"] == result["metrics"]


def test_centres_of_a_file(tmp_path):
    keys = BLOBS | {"solver": {"tol": 1e-12}, "model": MODELS["kmeans"] | {"n_init": 1}}
    spec = small.write_spec(tmp_path / "spec.yaml", tmp_path / "rows.h5", **keys)
    small.hpcml("run", spec, f"output.dir={tmp_path / 'first'}")
    centers = read_model(tmp_path / "first" / "model.h5").arrays["centers"]
    np.save(tmp_path / "centers.npy", centers)
    for name, init, code in (("again", "centers.npy", 0), ("bad", "spec.yaml", 3), ("none", "no.npy", 3)):
        words = [f"model.init={tmp_path / init}", f"output.dir={tmp_path / name}"]
        done = small.hpcml("run", spec, *words, check=code)
        assert code == 0 or "model.init" in done.stderr
    again = read_model(tmp_path / "again" / "model.h5").arrays["centers"]
    assert again.tobytes() == centers.tobytes()
