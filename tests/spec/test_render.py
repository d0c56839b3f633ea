"""A resolved spec reads back as itself, and its scientific part is what decides the answer."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcml.spec import load_spec, parse_spec, render_yaml, resolved, science

BASE = "name: a\ndata: {path: x.h5}\nmodel: {type: linear_regression}\n"


def parse(text, *overrides, directory="/specs"):
    return parse_spec(text, source="job.yaml", directory=Path(directory), overrides=overrides)


def texts(**options):
    return st.text(st.characters(exclude_categories=["Cc", "Cs"], **options), max_size=20)


line = texts().map(lambda text: "".join(text.splitlines())).filter(bool) | st.sampled_from(
    [
        "012",
        "1e-4",
        "1:30",
        "on",
        "no",
        "null",
        "~",
        "2024-01-01",
        "${vars.x}",
        "$${a}",
        "$$${",
        "${",
        "0x1",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        " a ",
        "'",
        '"',
        "\\",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a}",
        "[a]",
        "1_0",
        ".5",
        "nan",
    ]
)
paragraph = st.lists(line | st.just(""), max_size=3).map("\n".join) | st.just("a\tb\n")
path = st.text(string.ascii_letters + string.digits + "_-./ ${}", min_size=1, max_size=20).map(
    lambda s: "p" + s
)
positive = st.floats(min_value=1e-300, max_value=1e300)
count = st.integers(min_value=1, max_value=2**62)
seconds = st.integers(1, 10**8).map(lambda n: f"{n / 1000}s") | st.integers(1, 10**6).map(
    lambda n: f"{n}m"
).filter(lambda text: int(text[:-1]) < 10**6)
cadence = st.integers(1, 10**9) | seconds
free = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | line,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(line, inner, max_size=3),
    max_leaves=5,
)
word = st.text(string.ascii_letters + "_", min_size=1, max_size=8)


def some(**keys):
    return st.fixed_dictionaries({}, optional=keys)


def choice(*options):
    return st.sampled_from(options)


def lines(**options):
    return st.lists(line, max_size=3, **options)


split = (
    some(method=st.just("hash"), test=st.floats(0, 1, exclude_max=True))
    | st.fixed_dictionaries({"method": st.just("file"), "test": path})
    | st.just({"method": "none"})
)
target = (
    line
    | st.fixed_dictionaries({"column": line})
    | st.fixed_dictionaries({"column": line, "threshold": st.floats(-1e9, 1e9)})
    | st.fixed_dictionaries(
        {"column": line, "map": st.dictionaries(line, line | st.integers(-5, 5), min_size=1, max_size=3)}
    )
)
data = st.builds(
    lambda required, rest: {**required, **rest},
    st.fixed_dictionaries({"path": path}),
    some(
        source=st.none() | path | st.lists(path, min_size=1, max_size=2) | st.just("package:hpcml/a.csv"),
        format=choice("auto", "hdf5", "csv", "parquet", "npy", "libsvm", "jsonl"),
        x=line,
        y=line,
        weight=st.none() | line,
        target=target,
        columns=some(include=lines(unique=True), numeric=lines(unique=True)),
        layout=choice("auto", "dense", "csr"),
        dtype=choice("float64", "float32"),
        rows=some(start=st.integers(0, 10), stop=st.integers(11, 10**6), fraction=st.floats(0.01, 1)),
        missing=choice("error", "mean", "median", "most_frequent", "drop", "indicator"),
        split=split,
        partition=some(shard_bytes=st.just("auto") | count.map(lambda n: n % 2**50 + 1), block_rows=count),
        io=some(driver=choice("auto", "independent")),
        cache=choice("auto", "memory", "none"),
        memory_limit=st.floats(0.001, 1) | st.integers(1, 2**50) | st.just("1.5GiB"),
    ),
)
model = st.builds(
    lambda strength, rest: {**rest, **strength},
    st.just({})
    | st.fixed_dictionaries({"alpha": st.floats(0, 1e300)})
    | st.fixed_dictionaries({"C": positive}),
    st.fixed_dictionaries(
        {"type": choice("logistic_regression", "linear-regression")},
        optional={"penalty": choice("none", "l2"), "fit_intercept": st.booleans()},
    ),
)
tree = st.fixed_dictionaries(
    {"name": st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z"), "data": data, "model": model},
    optional={
        "description": paragraph,
        "tags": lines(unique=True),
        "seed": st.integers(0, 2**63 - 1),
        "vars": st.dictionaries(word, free, max_size=3),
        "env": st.dictionaries(word, paragraph, max_size=3),
        "preprocessing": st.just(["standardize"])
        | st.lists(
            st.fixed_dictionaries(
                {"standardize": some(with_mean=choice("auto", True, False), with_std=st.booleans())}
            ),
            max_size=1,
        ),
        "solver": some(
            name=choice("auto", "gd", "lbfgs"),
            max_iter=count,
            tol=positive,
            max_time=st.none() | seconds,
            metrics_every=cadence,
            uncertified=choice("refuse", "allow"),
        ),
        "resources": some(
            nodes=count,
            ntasks=st.none() | count,
            mem=st.none() | st.just("3G"),
            time=seconds,
            partition=st.none() | line,
            setup=lines(),
            signal=choice("USR1", "TERM"),
            network=some(interface=line),
            signal_before=seconds,
        ),
        "checkpoint": some(
            every=cadence | choice("none", None),
            keep=count,
            resume=choice("auto", "never") | path.map(lambda s: "r/" + s),
        ),
        "watchdog": st.fixed_dictionaries({"name_after": st.just(5), "end_after": st.integers(5, 10**6)}),
        "check_every": st.integers(0, 10**6),
        "output": some(
            dir=path, id=st.none() | st.just("run-1"), model=st.booleans(), log_level=choice("debug")
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(tree)
def test_resolved_text_reads_back_as_the_same_spec(tree):
    spec = parse(render_yaml(tree))
    text = render_yaml(resolved(spec))
    again = parse(text, directory="/elsewhere")
    assert again == spec
    assert hash(again) == hash(spec)
    assert render_yaml(resolved(again)) == text
    assert json.dumps(science(again)) == json.dumps(science(spec))


@settings(max_examples=60, deadline=None)
@given(tree)
def test_resolved_is_json_and_json_is_a_spec(tree):
    spec = parse(render_yaml(tree))
    plain = json.loads(json.dumps(resolved(spec), allow_nan=False))
    assert plain == resolved(spec)
    assert parse(render_yaml(plain)) == spec


def test_names_of_files_with_references_in_them_read_back():
    spec = parse(BASE.replace("x.h5", "'$${a}.h5'"))
    assert [path.name for path in spec.data.path] == ["${a}.h5"]
    assert parse(render_yaml(resolved(spec))) == spec


def test_resolved_does_not_extend_again(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE + "seed: 4\n")
    (tmp_path / "job.yaml").write_text("extends: base.yaml\n")
    spec = load_spec(tmp_path / "job.yaml")
    assert parse(render_yaml(resolved(spec))) == spec


NOT_SCIENCE = [
    "name=b",
    "description=b",
    "tags=[b]",
    "env.A=b",
    "vars.A=b",
    "data.path=b.h5",
    "data.source=b.csv",
    "data.io.driver=independent",
    "data.cache=memory",
    "data.memory_limit=0.1",
    "solver.metrics_every=3",
    "resources.nodes=3",
    "resources.time=5m",
    "output.dir=b",
    "output.id=b",
    "checkpoint.every=5",
    "check_every=7",
    "watchdog.end_after=400",
    "evaluation.metrics=[rmse]",
]
SCIENCE = [
    "seed=1",
    "data.x=b",
    "data.y=b",
    "data.weight=b",
    "data.target=b",
    "data.target={column: b, threshold: 1}",
    "data.columns.include=[b]",
    "data.dtype=float32",
    "data.layout=dense",
    "data.rows.stop=5",
    "data.missing=mean",
    "data.split.test=0.3",
    "data.split.method=none",
    "data.partition.block_rows=64",
    "preprocessing=[standardize]",
    "model.type=logistic_regression",
    "model.alpha=2",
    "model.C=2",
    "model.penalty=none",
    "model.fit_intercept=false",
    "solver.name=gd",
    "solver.tol=1e-3",
    "solver.max_iter=3",
    "solver.max_time=5",
]


@pytest.mark.parametrize("override", NOT_SCIENCE)
def test_what_does_not_decide_the_answer(override):
    assert science(parse(BASE, override)) == science(parse(BASE))


@pytest.mark.parametrize("override", SCIENCE)
def test_what_decides_the_answer(override):
    assert science(parse(BASE, override)) != science(parse(BASE))


def test_science_names_no_file():
    spec = parse(
        BASE, "data.split={method: file, test: secret.h5}", "data.source=secret.csv", "data.path=secret.h5"
    )
    assert "secret" not in json.dumps(science(spec))
    assert "/specs" not in json.dumps(science(spec))


def test_equal_values_spelled_differently_are_one_science():
    left = parse(BASE, "solver.tol=1e-3", "model.alpha=1", "data.target={column: a, map: {x: 1, y: 2}}")
    right = parse(BASE, "solver.tol=0.001", "model.alpha=1.0", "data.target={column: a, map: {y: 2.0, x: 1}}")
    assert json.dumps(science(left)) == json.dumps(science(right))
