"""extends, ${...} and the command line."""

from pathlib import Path

import pytest

from hpcml.errors import SpecError
from hpcml.spec import load_spec, origins, parse_spec

BASE = "name: a\ndata: {path: x.h5}\nmodel: {type: linear_regression}\n"


def parse(text, *overrides):
    return parse_spec(text, source="job.yaml", directory=Path("/specs"), overrides=overrides)


def refusal(text, *overrides):
    with pytest.raises(SpecError) as caught:
        parse(text, *overrides)
    return str(caught.value)


# extends


def test_extends_merges_maps_and_replaces_lists(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/base.yaml").write_text(BASE + "tags: [b]\nsolver:\n  tol: 1e-3\n  max_iter: 5\n")
    (tmp_path / "lib/more.yaml").write_text("solver: {max_iter: 6}\nseed: 3\nresources: {ntasks: 2}\n")
    path = tmp_path / "job.yaml"
    path.write_text(
        "extends: [lib/base.yaml, lib/more.yaml]\nname: child\ntags: [c]\nsolver: {memory: 3}\nresources:\n"
    )
    spec = load_spec(path)
    assert (spec.name, spec.tags, spec.seed) == ("child", ("c",), 3)
    assert (spec.solver.tol, spec.solver.max_iter, spec.solver.memory) == (1e-3, 6, 3)
    assert spec.resources.ntasks == 2
    assert spec.data.path == (tmp_path / "lib/x.h5",)
    assert spec.extends == (tmp_path / "lib/base.yaml", tmp_path / "lib/more.yaml")
    assert origins(spec)["solver.tol"] == f"{tmp_path}/lib/base.yaml:6"
    assert origins(spec)["solver.memory"] == f"{path}:4"


def test_extends_of_one_word_and_of_a_base_that_extends(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCML_TEST_BASE", "two")
    (tmp_path / "one.yaml").write_text(BASE)
    (tmp_path / "two.yaml").write_text("extends: one.yaml\nseed: 2\n")
    (tmp_path / "job.yaml").write_text("extends: ${env:HPCML_TEST_BASE}.yaml\n")
    spec = load_spec(tmp_path / "job.yaml")
    assert (spec.name, spec.seed) == ("a", 2)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"job.yaml": "extends: [job.yaml]\n"}, "circle"),
        (
            {"job.yaml": "extends: b.yaml\n", "b.yaml": "extends: c.yaml\n", "c.yaml": "extends: b.yaml\n"},
            "circle",
        ),
        ({"job.yaml": "extends: absent.yaml\n"}, "absent.yaml: no such file"),
        ({"job.yaml": "extends: {a: b}\n"}, "job.yaml:1: extends: .*a list of file names"),
        ({"job.yaml": "extends: [on]\n"}, "a list of file names"),
        ({"job.yaml": "extends: [[a]]\n"}, "a list of file names"),
        ({"job.yaml": "extends: b.yaml\n", "b.yaml": BASE + "solver: {tol: 0}\n"}, r"b.yaml:4: solver.tol"),
        ({"job.yaml": "extends: [" + "b.yaml," * 40 + "]\n", "b.yaml": BASE}, "too many files"),
    ],
)
def test_extends_refused(tmp_path, files, part):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=part):
        load_spec(tmp_path / "job.yaml")


# substitution


def test_substitution_of_variables_environment_and_name(monkeypatch):
    monkeypatch.setenv("HPCML_TEST_USER", "me")
    monkeypatch.delenv("HPCML_TEST_NONE", raising=False)
    spec = parse(
        "name: run1\n"
        "vars: {root: /big, file: '${vars.root}/f.h5', tol: 1e-3, cols: [a, b], n: 7}\n"
        "data:\n  path: ${vars.file}\n  columns: {include: '${vars.cols}'}\n"
        "model: {type: linear_regression}\n"
        "solver:\n  tol: ${vars.tol}\n  max_iter: ${env:HPCML_TEST_NONE,25}\n  memory: ${vars.n}\n"
        "resources:\n  requeue: ${env:HPCML_TEST_NONE,false}\n"
        "  setup: ['export A=$${HOME}', 'echo $HOME $$']\n"
        "output: {dir: '${env:HPCML_TEST_USER}/${name}'}\n"
    )
    assert spec.data.path == (Path("/big/f.h5"),)
    assert spec.data.columns.include == ("a", "b")
    assert (spec.solver.tol, spec.solver.max_iter, spec.solver.memory) == (1e-3, 25, 7)
    assert spec.resources.requeue is False
    assert spec.resources.setup == ("export A=${HOME}", "echo $HOME $$")
    assert spec.output.dir == Path("me/run1")
    assert spec.vars["file"] == "/big/f.h5"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("description: ${HOME}", "job.yaml:4: description: '${HOME}' is unknown; write"),
        ("description: ${name}", "'${name}' is unknown"),
        ("description: ${vars.x}", "the variable 'vars.x' is not a value; define it under 'vars:'"),
        ("description: ${env:HPCML_TEST_NONE}", "HPCML_TEST_NONE is not set"),
        ("description: a ${vars.x", "is not closed"),
        ("description: ${}", "is unknown"),
        ("vars: {a: '${vars.b}', b: '${vars.a}'}", "refers to itself"),
        ("vars: {a: {b: c}}\ndescription: ${vars.a}", "is not a value"),
        ("vars: {a: [b]}\ndescription: x ${vars.a}", "is not a single value"),
        ("vars: {a: }\ndescription: x ${vars.a}", "is not a single value"),
        ("vars: {a b: c}", "the name 'a b' does not fit"),
        ("vars: [a]", "vars: a list does not fit"),
        ("vars: {s: 0}\nsolver: {tol: '${vars.s}'}", "job.yaml:5: solver.tol: '0' does not fit"),
    ],
)
def test_substitution_refused(monkeypatch, line, part):
    monkeypatch.delenv("HPCML_TEST_NONE", raising=False)
    assert part in refusal(BASE + line + "\n")


def test_substitution_cannot_grow_without_bound():
    doubling = ["v0: " + "x" * 100] + [f"v{i}: '${{vars.v{i - 1}}}${{vars.v{i - 1}}}'" for i in range(1, 40)]
    assert "grow beyond 1 MiB" in refusal(BASE + "vars:\n  " + "\n  ".join(doubling) + "\n")
    lists = ["l0: [a, a]"] + [f"l{i}: ['${{vars.l{i - 1}}}', '${{vars.l{i - 1}}}']" for i in range(1, 40)]
    assert "grow beyond 1 MiB" in refusal(BASE + "vars:\n  " + "\n  ".join(lists) + "\n")


# the command line


def test_overrides_set_add_and_remove():
    text = BASE + "tags: [a]\nsolver: {tol: 1e-3}\nenv: {A: b}\nvars: {root: /x}\ndescription: ${vars.root}\n"
    spec = parse(
        text,
        "solver.max_iter=50",
        "+tags=[try, c]",
        "+tags=d",
        "~solver.tol",
        "+env.C=1",
        "+env={D: e}",
        "vars.root=/y",
        "output.dir=out/${name}",
        "name=b",
        "data.target={column: c, threshold: 3}",
    )
    assert spec.solver.max_iter == 50
    assert spec.solver.tol == 1e-6
    assert spec.tags == ("a", "try", "c", "d")
    assert spec.env == {"A": "b", "C": "1", "D": "e"}
    assert spec.description == "/y"
    assert spec.output.dir == Path("out/b")
    assert spec.data.target.threshold == 3.0
    assert parse(text, "solver.tol=1", "solver.tol=2").solver.tol == 2.0
    assert parse(BASE, "+tags=[try]").tags == ("try",)
    assert parse(BASE, "+solver.max_iter=5").solver.max_iter == 5
    assert parse(BASE, "description=a=b").description == "a=b"


def test_a_file_may_leave_required_keys_to_the_command_line():
    spec = parse("model: {type: linear_regression}", "name=a", "data.path=x")
    assert spec.data.path == (Path("/specs/x"),)


@pytest.mark.parametrize(
    "steps", ["[{standardize: {with_mean: false}}]", "[standardize]", "[{standardize: }]"]
)
@pytest.mark.parametrize(
    "key",
    [
        "preprocessing.standardize.with_std",
        "preprocessing.0.with_std",
        "preprocessing.0.standardize.with_std",
    ],
)
def test_overrides_reach_into_steps(steps, key):
    spec = parse(BASE + f"preprocessing: {steps}\n", f"{key}=false")
    assert len(spec.preprocessing) == 1
    assert spec.preprocessing[0].with_std is False
    assert spec.preprocessing[0].with_mean == (False if "with_mean" in steps else "auto")
    assert origins(spec)["preprocessing.standardize.with_std"] == "command line"


def test_overrides_replace_add_and_remove_steps():
    text = BASE + "preprocessing: [standardize]\n"
    assert parse(text, "~preprocessing.standardize").preprocessing == ()
    assert parse(text, "~preprocessing.0").preprocessing == ()
    assert parse(text, "preprocessing.0={with_std: false}").preprocessing[0].with_std is False
    assert parse(text, "preprocessing.0={standardize: {with_std: false}}").preprocessing[0].with_std is False
    assert parse(BASE, "+preprocessing=[standardize]").preprocessing[0].with_std is True


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("solver.max_iter", "'solver.max_iter' is not an override; write KEY=VALUE, +KEY=VALUE or ~KEY"),
        ("=5", "is not an override"),
        ("", "is not an override"),
        ("a..b=1", "is not a dotted key"),
        (".a=1", "is not a dotted key"),
        ("solver.max_itr=3", "command line: solver.max_itr: unknown key; did you mean solver.max_iter?"),
        ("solver.max_iter=0", "command line: solver.max_iter: '0' does not fit"),
        ("solver.max_iter=", "null does not fit"),
        ("solver.tol=[", "command line: solver.tol: this is not valid YAML"),
        ("solver.tol=!!python/name:os.system", "is not allowed"),
        ("solver.tol=" + "[" * 100, "nested too deep"),
        ("solver={tol: 1, tol: 2}", "solver.tol: duplicate key"),
        ("~solver.tol", "the file does not say this key"),
        ("~name", "name: this key is required"),
        ("+name=b", "command line: name: + adds to lists and maps; write name=VALUE"),
        ("name.x=5", "name is not a map"),
        ("extends=b.yaml", "base files cannot be overridden"),
        ("preprocessing.standardize.with_std=false", "no step is called 'standardize'"),
        ("preprocessing.3.with_std=false", "no step is called '3'"),
        ("data.cache=off", "YAML reads 'off' as false"),
    ],
)
def test_overrides_refused(override, part):
    message = refusal(BASE, override)
    assert part in message
    assert message.startswith("command line: ") or "required" in message


def test_the_layout_clears_the_total_of_the_file():
    text = BASE + "resources: {ntasks: 2}\n"
    assert parse(text).resources.n_ranks == 2
    assert parse(text, "resources.nodes=3").resources.n_ranks == 3
    assert parse(text, "resources.ntasks_per_node=4", "resources.nodes=2").resources.n_ranks == 8
    assert parse(text, "resources.nodes=3", "resources.ntasks=5").resources.n_ranks == 5
    assert parse(text, "resources.ntasks=5", "resources.nodes=3").resources.n_ranks == 5
    assert parse(text, "resources.time=1h").resources.n_ranks == 2
