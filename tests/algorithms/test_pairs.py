"""Which solver can minimise what: the table says what fits really do."""

import pytest
from algorithms.problems import PROBLEMS, loss_of, model_objective

from hpcml.algorithms.choice import SOLVERS, make_solver
from hpcml.algorithms.losses.kinds import facts_of
from hpcml.algorithms.losses.softmax import Softmax
from hpcml.algorithms.pairs import ON_SAMPLES, misfit
from hpcml.algorithms.solver import Rules, run_solver

KINDS = list(PROBLEMS)


def test_samples_are_for_solvers():
    assert set(ON_SAMPLES) < set(SOLVERS)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_goes_downhill(name, kind):
    objective, _ = model_objective(PROBLEMS[kind](), kind, alpha=0.05)
    if misfit(name, facts_of(objective.loss), is_smooth=True):
        return
    start = objective.evaluate(objective.first_w).value
    assert run_solver(objective, make_solver(name), Rules(3, 1e-3)).objective < start


@pytest.mark.parametrize("name", [*SOLVERS, "local_sgd"])
def test_sentences_name_a_cure(name):
    losses = [*map(loss_of, KINDS), Softmax((0.0, 1.0, 2.0))]
    for loss in losses:
        for is_smooth in (True, False):
            sentence = misfit(name, facts_of(loss), is_smooth=is_smooth)
            assert not sentence or "; take " in sentence
