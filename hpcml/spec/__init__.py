"""The spec: YAML text in, one frozen and checked `Spec` out; pure, and it knows nothing that runs."""

from __future__ import annotations

from hpcml.spec.load import load_spec, origins, parse_spec
from hpcml.spec.render import KeyRow, describe, render_yaml, resolved, science
from hpcml.spec.schema import Spec
from hpcml.spec.schema_data import Columns, Data, DataIO, Partition, Rows, Split, Standardize, Target
from hpcml.spec.schema_fit import Evaluation, Solver
from hpcml.spec.schema_job import Checkpoint, Network, Output, Resources, Scratch, Watchdog
from hpcml.spec.schema_model import Model
from hpcml.spec.units import Cadence

__all__ = [
    "Cadence",
    "Checkpoint",
    "Columns",
    "Data",
    "DataIO",
    "Evaluation",
    "KeyRow",
    "Model",
    "Network",
    "Output",
    "Partition",
    "Resources",
    "Rows",
    "Scratch",
    "Solver",
    "Spec",
    "Split",
    "Standardize",
    "Target",
    "Watchdog",
    "describe",
    "load_spec",
    "origins",
    "parse_spec",
    "render_yaml",
    "resolved",
    "science",
]
