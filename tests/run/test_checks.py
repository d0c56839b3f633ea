"""What a spec says of its loss is what the loss says of itself."""

from pathlib import Path

import pytest

from hpcml.algorithms.losses.kinds import facts_of, make_loss
from hpcml.run.checks import _facts
from hpcml.spec import parse_spec
from hpcml.spec.schema_fit import TASKS

MODELS = [{"type": kind} for kind in TASKS]
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
