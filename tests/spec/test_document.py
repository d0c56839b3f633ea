"""The text itself: what YAML may hold, what it may not, and what a file on disk may be."""

import json
import os
import time
from pathlib import Path

import pytest

from hpcml.errors import SpecError
from hpcml.spec import load_spec, parse_spec

BASE = "name: a\ndata: {path: x.h5}\nmodel: {type: linear_regression}\n"


def parse(text):
    return parse_spec(text, source="job.yaml", directory=Path("/specs"))


def laughs(levels):
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]")
    return "\n".join(lines)


def merge_laughs(levels):
    lines = ["m0: &m0 {" + ", ".join(f"k{i}: 1" for i in range(10)) + "}"]
    for level in range(1, levels):
        lines.append(f"m{level}: &m{level} {{<<: [" + ", ".join([f"*m{level - 1}"] * 10) + "]}")
    return "\n".join(lines)


HOSTILE = {
    "billion laughs": (laughs(10), "too many values"),
    "billion merges": (merge_laughs(9), "too many values"),
    "alias of itself": ("a: &a [*a]", "an alias holds itself"),
    "merge of itself": ("a: &a {<<: *a}", "an alias holds itself"),
    "deep lists": ("[" * 500_000, "nested too deep"),
    "deep maps": ("{a: " * 200_000, "nested too deep"),
    "deep dashes": ("- " * 300_000, "nested too deep"),
    "deep indentation": ("\n".join(" " * depth + "a:" for depth in range(300)), "nested too deep"),
    "many values": (BASE + "tags: [" + "a," * 500_000 + "]", "too many values"),
    "two megabytes": (BASE + "description: " + "x" * (2 << 20), "larger than 1 MiB"),
    "python call": (
        "a: !!python/object/apply:os.system ['touch hacked']",
        "tag '!!python/object/apply:os.system'",
    ),
    "python name": ("a: !!python/name:os.system", "is not allowed"),
    "python object": ("!!python/object:pathlib.Path {a: 1}", "is not allowed"),
    "python as key": ("? !!python/name:os.system\n: 1", "is not allowed"),
    "python on scalar in list": (BASE + "tags: [!!python/str a]", "is not allowed"),
    "binary": ("a: !!binary aGk=", "tag '!!binary'"),
    "set": ("a: !!set {b, c}", "tag '!!set'"),
    "omap": ("a: !!omap [b: 1]", "tag '!!omap'"),
    "own tag": ("a: !include other.yaml", "tag '!include'"),
    "null byte": ("name: a\nseed: \x00", "control character"),
    "bell": ("name: a\n\nseed: \x07", "control character"),
    "escaped null": (BASE + 'description: "a\\0b"', "without control characters"),
    "escaped surrogate": (BASE + 'description: "\\ud800"', "without control characters"),
    "code point out of range": ('a: "\\UFFFFFFFF"', "not valid YAML"),
    "tab as indentation": ("name: a\n\tseed: 1", "not valid YAML"),
    "open bracket": ("name: [a", "not valid YAML"),
    "two colons": ("name: a: b", "not valid YAML"),
    "unknown alias": ("name: *a", "not valid YAML"),
    "two documents": (BASE + "---\nname: b", "not valid YAML"),
    "another YAML": ("%YAML 9.0\n---\nname: a", "not valid YAML"),
    "undefined tag handle": ("a: !x!y z", "not valid YAML"),
    "duplicate": ("name: a\nseed: 1\nname: b", "job.yaml:3: name: duplicate key, first given on line 1"),
    "nested duplicate": (
        "solver:\n  tol: 1\n  max_iter: 1\n  tol: 2",
        "job.yaml:4: solver.tol: duplicate key, first given on line 2",
    ),
    "duplicate in a list": ("preprocessing:\n- a: 1\n  a: 2", "job.yaml:3: preprocessing.0.a: duplicate key"),
    "duplicate in JSON": ('{"name": "a", "name": "b"}', "duplicate key"),
    "duplicate by quotes": ('name: a\n"name": b', "duplicate key"),
    "two merges": ("a: &a {}\nb: {<<: *a, <<: *a}", "duplicate key"),
    "merge of a scalar": ("<<: 5", "a merge key needs a map"),
    "list as key": ("? [a]\n: 1", "a key is a list or a map"),
    "null as key": ("~: 1", "a key is empty"),
    "huge key": ("k" * 1_000 + ": 1", "unknown key"),
    "key with a line break": ('"a\\nb": 1', "unknown key"),
    "boolean key": (BASE + "on: 1", "job.yaml:4: on: unknown key"),
    "huge integer": (BASE + "seed: " + "9" * 100_000, "integer >= 0"),
    "long duration": (BASE + "resources: {time: " + "1s" * 10_000 + "}", "a duration such as"),
    "empty": ("", "the file is empty"),
    "only a comment": ("# nothing", "the file is empty"),
    "null": ("null", "not a map"),
    "a list": ("- name: a", "not a map"),
    "a word": ("hello", "not a map"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_refused_in_one_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, part = HOSTILE[case]
    with pytest.raises(SpecError) as caught:
        parse(text)
    message = str(caught.value)
    assert part in message
    assert message.startswith("job.yaml")
    assert message.isprintable() and len(message) < 500
    assert os.listdir(tmp_path) == []


def test_expansion_is_stopped_early():
    start = time.process_time()
    with pytest.raises(SpecError):
        parse(laughs(60))
    assert time.process_time() - start < 20


REST = "data: {path: x.h5}\nmodel: {type: linear_regression}\n"
JSON = '{\n"name": "a",\n\t"data": {"path": "x.h5"},\n\t"model": {"type": "linear_regression"}\n}'

LEGITIMATE = {
    "json": JSON.replace("\n", "").replace("\t", ""),
    "json with tabs": JSON,
    "document marks": "%YAML 1.1\n---\n" + BASE + "...\n",
    "windows lines": BASE.replace("\n", "\r\n"),
    "anchor": "name: &n a\n" + REST + 'output: {dir: "runs/${name}"}\n',
    "alias": "vars: &v {}\nenv: *v\nname: a\n" + REST,
    "plain tags": "name: !!str a\ndata: !!map {path: x.h5}\n" + REST[19:] + 'seed: !!int "0"\n',
    "merge": "name: a\ndata: {path: x.h5}\nmodel: {<<: {type: linear_regression, alpha: 3}, alpha: 1e-4}",
    "merge of a list": "name: a\ndata: {path: x.h5}\nmodel:\n  <<: [{type: linear_regression}, {type: pca}]",
    "merge of an anchor": "env: &e {}\nvars: {<<: *e}\nname: a\n" + REST,
    "empty sections": BASE + "solver:\nresources:\npreprocessing:\nvars:\nenv:\n",
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_legitimate_text(case):
    assert parse(LEGITIMATE[case]) == parse(BASE)


def test_json_with_escaped_pairs_of_surrogates():
    plain = {
        "name": "a",
        "description": "\U0001f600/\u00e9",
        "data": {"path": "x.h5"},
        "model": {"type": "linear_regression"},
    }
    spec = parse(json.dumps(plain, indent="\t").replace("/", "\\/"))
    assert spec.description == plain["description"]


def test_errors_behind_an_alias_name_the_place_of_use():
    text = "name: a\ndata: {path: &p [x]}\nmodel: {type: linear_regression}\ndescription: *p\n"
    with pytest.raises(SpecError, match=r"^job.yaml:4: description: "):
        parse(text)
    text = text.replace("&p [x]", "x").replace("*p", "a").replace("name: a", "name: a\nseed: &s on")
    with pytest.raises(SpecError, match=r"^job.yaml:2: seed: "):
        parse(text)


def test_files(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("\ufeff" + BASE, encoding="utf-8")
    spec = load_spec(path)
    assert spec.data.path == (tmp_path / "x.h5",)
    assert load_spec(str(path)) == spec
    for content, part in [
        (b"\xff\xfen\x00", "job.yaml:1: the text is not UTF-8; save the file as UTF-8"),
        (b"name: a\nseed: \xe9", "job.yaml:2: the text is not UTF-8"),
        (b"x" * (2 << 20), "larger than 1 MiB"),
        (b"", "the file is empty"),
    ]:
        path.write_bytes(content)
        with pytest.raises(SpecError) as caught:
            load_spec(path)
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("absent.yaml", "no such file"),
        ("folder", "is a directory"),
        ("file/below.yaml", "cannot be read"),
        ("nul\0byte", "cannot be read"),
    ],
)
def test_what_is_not_a_file(tmp_path, name, part):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=part):
        load_spec(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(BASE)
    path.chmod(0)
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(path)


def test_relative_directory_gives_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(BASE)
    assert load_spec(Path("job.yaml")).data.path == (tmp_path / "x.h5",)
