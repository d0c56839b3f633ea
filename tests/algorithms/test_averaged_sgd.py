"""SGD with averaging comes near the optimum, says how near, and gives the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from algorithms.problems import Grid, as_csr, classification, in_memory, model_objective, regression
from algorithms.test_solvers import copied, digest

from hpcml.algorithms.averaged_sgd import AveragedSGD
from hpcml.algorithms.choice import make_solver
from hpcml.algorithms.solver import LoopState, Rules, run_solver
from hpcml.algorithms.state import from_tree, to_tree
from hpcml.collectives import CountingCommunicator, SerialCommunicator, run_threads

KINDS = ["logistic_regression", "linear_regression", "linear_svc"]
PENALTIES = {
    "l2": {"alpha": 0.01},
    "l1": {"alpha": 0.02, "l1_ratio": 1.0},
    "bounds": {"alpha": 0.01, "lower": -0.1, "upper": 0.1},
}


def problem_of(kind, **more):
    return regression(**more) if kind == "linear_regression" else classification(**more)


@pytest.mark.parametrize("settings", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("kind", KINDS)
def test_near_the_optimum(kind, settings):
    problem = problem_of(kind, n=3000, weighted=True)
    objective, _ = model_objective(problem, kind, dataset=in_memory, **settings)
    best = run_solver(objective, make_solver("prox_newton"), Rules(200, 1e-10)).objective
    start = objective.evaluate(objective.first_w).value
    found = run_solver(objective, AveragedSGD(), Rules(20, 1e-12))
    assert (found.converged, found.reason, found.n_iter) == (False, "max_iter was reached", 20)
    assert best <= found.objective <= best + 0.1 * (start - best)
    assert found.certificate.value > 1e-12
    assert run_solver(objective, AveragedSGD(), Rules(50, 0.05)).converged


@pytest.mark.parametrize("dataset", [Grid, in_memory])
@pytest.mark.parametrize("make", [lambda p: p, as_csr], ids=["dense", "csr"])
def test_the_same_bits_and_resume(make, dataset):
    problem = make(classification(weighted=True))
    trees = []

    def program(comm, tree=None):
        objective, _ = model_objective(problem, "logistic_regression", comm, dataset, alpha=0.01)
        solver = AveragedSGD(batch_rows=20, learning_rate=0.7, seed=4)
        loop = None
        if tree is not None:
            loop = from_tree(LoopState, copied(tree))
            loop = loop._replace(solver=from_tree(solver.state_type, loop.solver))
        note = trees.append if comm.size == 1 and tree is None else (lambda tree: None)
        rules, callback = Rules(6, 1e-9), lambda progress: note(to_tree(progress.loop))
        return digest(run_solver(objective, solver, rules, loop=loop, callback=callback))

    expected = run_threads(1, program)[0]
    for size in (2, 3, 5):
        assert run_threads(size, program) == [expected] * size
        assert run_threads(size, lambda comm, i=size: program(comm, trees[i])) == [expected] * size


def test_a_message_a_batch():
    counting = CountingCommunicator(SerialCommunicator())
    objective, _ = model_objective(
        classification(640), "logistic_regression", counting, in_memory, alpha=0.01
    )
    taken = []

    def note(progress):
        taken.append(counting.calls["allreduce"])
        counting.calls.clear()

    run_solver(objective, AveragedSGD(64), Rules(10, 1e-9), callback=note)
    assert np.median(taken[2:]) == 10 + 1
    assert max(taken[1:]) <= 2 * (10 + 1)
