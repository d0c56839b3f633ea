"""The keys of data.generate: their types, which of them fit together, and what a run is known by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcml.data.synthetic import Synthetic
from hpcml.errors import SpecError
from hpcml.spec import parse_spec, render_yaml, resolved, science
from hpcml.spec.fields import keys_of
from hpcml.spec.schema_generate import GENERATED, Generate

BASE = "kind: blobs, rows: 100, features: 5"


def parse(generate, data=""):
    text = (
        f"name: a\ndata: {{path: x.h5{data}, generate: {generate}}}\nmodel: {{type: logistic_regression}}\n"
    )
    return parse_spec(text, source="job.yaml", directory=Path("/specs"))


def test_values():
    spec = parse(
        f"{{{BASE}, centers: 7, noise: 1e-1, weights: true, compression: 'gzip:4', rows: 1e6}}".replace(
            "rows: 100, ", ""
        )
    )
    made = spec.data.generate
    assert (made.kind, made.rows, made.features, made.centers) == ("blobs", 10**6, 5, 7)
    assert (made.noise, made.weights, made.seed, made.compression) == (0.1, True, None, "gzip:4")


def test_without_it_there_is_none():
    spec = parse_spec(
        "name: a\ndata: {path: x.h5}\nmodel: {type: logistic_regression}\n",
        source="job.yaml",
        directory=Path("/specs"),
    )
    assert spec.data.generate is None
    assert resolved(spec)["data"]["generate"] is None


def test_the_resolved_spec_reads_back():
    spec = parse(f"{{{BASE}, seed: 3}}", ", format: generated")
    assert parse_spec(render_yaml(resolved(spec)), source="job.yaml", directory=Path("/specs")) == spec


def test_it_decides_the_answer():
    specs = [parse(f"{{{BASE}, seed: {seed}}}") for seed in (1, 2)]
    assert science(specs[0]) != science(specs[1])


def test_the_defaults_are_those_of_the_rows():
    entries = {name: entry for name, entry in keys_of(Generate) if not entry.required}
    made = Synthetic("blobs", 1, 1)
    for name in set(entries) - {"seed", "chunk_rows", "compression"}:
        assert entries[name].default == getattr(made, name), name
    for kind in GENERATED:
        Synthetic(kind, 10, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "{kind: blob, rows: 1, features: 1}",
            "data.generate.kind: 'blob' does not fit; write classification",
        ),
        ("{kind: blobs, features: 1}", "data.generate.rows: this key is required but missing"),
        (f"{{{BASE}, featurs: 3}}", "unknown key; did you mean data.generate.features?"),
        (
            f"{{{BASE}, density: 0.5}}",
            "data.generate.density: does not fit kind blobs; leave it out, or take kind sparse",
        ),
        (f"{{{BASE}, seed: -1}}", "data.generate.seed: '-1' does not fit"),
        ("{kind: sparse, rows: 5, features: 2, density: 0}", "write a number in (0, 1]"),
        (
            "{kind: sparse, rows: 5, features: 2, informative: 3}",
            "3 of 2 features is too many; write at most 2",
        ),
        ("{kind: sparse, rows: 5, features: 2, noise: 2}", "is a share of labels for this kind"),
        (f"{{{BASE}, compression: GZIP}}", "write a compression, as in gzip:4"),
    ],
)
def test_refused(given, said):
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        parse(given)
    assert str(caught.value).startswith("job.yaml:2: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (", format: csv", "data.generate: does not fit format: csv"),
        (", source: t.csv, target: y", "data.generate: data.source names tables for the same file"),
    ],
)
def test_refused_beside_other_keys(data, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        parse(f"{{{BASE}}}", data)


def test_one_file_is_made():
    text = (
        f"name: a\ndata: {{path: [x.h5, y.h5], generate: {{{BASE}}}}}\nmodel: {{type: logistic_regression}}\n"
    )
    with pytest.raises(SpecError, match=r"data\.path: data\.generate makes one file; write one path"):
        parse_spec(text, source="job.yaml", directory=Path("/specs"))


def test_the_format_needs_it():
    text = "name: a\ndata: {path: x.h5, format: generated}\nmodel: {type: logistic_regression}\n"
    with pytest.raises(SpecError, match=r"data\.format: generated needs data\.generate, as in generate:"):
        parse_spec(text, source="job.yaml", directory=Path("/specs"))


def test_the_path_is_beside_the_spec():
    assert parse(f"{{{BASE}}}").data.path[0] == Path("/specs/x.h5")
