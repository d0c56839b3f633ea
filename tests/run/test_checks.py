"""What a spec says of its loss is what the loss says of itself."""

import re
from pathlib import Path

import pytest
import yaml

from hpcml.algorithms.losses.kinds import facts_of, make_loss
from hpcml.errors import SpecError
from hpcml.run.checks import _facts, check_spec
from hpcml.spec import parse_spec
from hpcml.spec.schema_model import TASKS, UNLABELLED

MODELS = [{"type": kind} for kind, task in TASKS.items() if task not in UNLABELLED]
MODELS += [{"type": "tweedie_regression", "power": power} for power in (0, 1, 1.5, 2, 3)]
MODELS += [{"type": "huber_regression", "scale": 2.0}]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_facts(model):
    text = f"name: a\ndata: {{path: a.h5}}\nmodel: {model}\n".replace("'", "")
    spec = parse_spec(text, source="a.yaml", directory=Path())
    scale = spec.model.scale
    delta = None if isinstance(scale, str) else spec.model.epsilon * scale
    loss = facts_of(make_loss(spec.model.type, (0.0, 1.0), spec.model.power, delta))
    assert _facts(spec)._replace(name="") == loss._replace(name="")


REFUSED = {
    "solver.name: is of linear models": {"solver": {"name": "newton"}},
    "solver.epochs: is of model.type: minibatch_kmeans, not pca": {"solver": {"epochs": 3}},
    "data.offset: is of models with labels": {"data": {"offset": "o"}},
    "preprocessing: model.type: pca takes the features": {"preprocessing": [{"standardize": {}}]},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_needs_labels_is_refused_without(said):
    keys = {"name": "a", "model": {"type": "pca"}} | REFUSED[said]
    keys["data"] = {"path": "a.h5"} | keys.get("data", {})
    with pytest.raises(SpecError, match=re.escape(said)):
        check_spec(parse_spec(yaml.safe_dump(keys), source="a.yaml", directory=Path()))


@pytest.mark.parametrize("keys", [{"data": {"path": "a.h5", "y": None}}, {"solver": {"epochs": 3}}], ids=str)
def test_what_a_model_with_labels_needs(keys):
    keys = {"name": "a", "data": {"path": "a.h5"}, "model": {"type": "linear_regression"}} | keys
    with pytest.raises(SpecError, match=r"data\.y|solver\.epochs"):
        check_spec(parse_spec(yaml.safe_dump(keys), source="a.yaml", directory=Path()))
