"""Each key: what it takes, what it makes of it, what it refuses and how the refusal reads."""

import re
from pathlib import Path

import pytest
import yaml

from hpcml.errors import SpecError
from hpcml.spec import Cadence, Target, describe, origins, parse_spec, resolved


def parse(text, **kwargs):
    return parse_spec(text, source="job.yaml", directory=Path("/specs"), **kwargs)


def with_line(dotted, value):
    """Return a spec whose line 1 sets one key in flow style, and the base keys around it."""
    sections = {"name": "name: a", "data": "path: x.h5", "model": "type: logistic_regression"}
    section, _, rest = dotted.partition(".")
    names = rest.split(".") if rest else []
    flow = value
    for name in reversed(names):
        flow = f"{{{name}: {flow}"
    if not names:
        lines = [f"{section}: {value}"]
    else:
        extra = (
            f", {sections[section]}"
            if section in ("data", "model") and names[0] not in ("path", "type")
            else ""
        )
        lines = [f"{section}: {flow}" + "}" * (len(names) - 1) + extra + "}"]
    for other, text in sections.items():
        if other != section:
            lines.append(text if other == "name" else f"{other}: {{{text}}}")
    return "\n".join(lines) + "\n"


def value_of(spec, dotted):
    for name in dotted.split("."):
        spec = getattr(spec, name)
    return spec


ACCEPTED = [
    ("name", "2024-01-01", "2024-01-01"),
    ("name", "1.10", "1.10"),
    ("name", "007", "007"),
    ("seed", "0x10", 16),
    ("seed", "1_000", 1000),
    ("seed", '"5"', 5),
    ("solver.max_iter", "1e3", 1000),
    ("solver.tol", "1e-4", 1e-4),
    ("solver.tol", '"1e-4"', 1e-4),
    ("solver.tol", "1", 1.0),
    ("solver.progressive", "auto", "auto"),
    ("solver.progressive", "yes", True),
    ("model.scale", "joint", "joint"),
    ("model.alpha", "0", 0.0),
    ("model.alpha", "-0.0", 0.0),
    ("model.C", "2", 2.0),
    ("model.penalty", "none", "none"),
    ("model.fit_intercept", "no", False),
    ("data.cache", "scratch", "scratch"),
    ("scratch.path", "auto", "auto"),
    ("scratch.path", "/local/me", Path("/local/me")),
    ("scratch.stage", "copy", "copy"),
    ("scratch.keep", "on_failure", "on_failure"),
    ("scratch.keep", "always", "always"),
    ("scratch.limit", "20G", 20 << 30),
    ("scratch.limit", "null", None),
    ("resources.time", "90", 90.0),
    ("resources.time", "1:30:00", 5400.0),
    ("resources.time", "01:30:00", 5400.0),
    ("resources.time", "30:00", 1800.0),
    ("resources.time", "90:00", 5400.0),
    ("resources.time", "1-12:00:00", 129600.0),
    ("resources.time", "2-03", 183600.0),
    ("resources.time", "1-00:30", 88200.0),
    ("resources.time", "90m", 5400.0),
    ("resources.time", "1h30m", 5400.0),
    ("resources.time", "0.5h", 1800.0),
    ("resources.time", "30s", 30.0),
    ("resources.signal_before", "1:30", 90.0),
    ("solver.max_time", "null", None),
    ("solver.metrics_every", "25", Cadence(iterations=25)),
    ("solver.metrics_every", "25s", Cadence(seconds=25.0)),
    ("checkpoint.every", "5", Cadence(iterations=5)),
    ("checkpoint.every", "10m", Cadence(seconds=600.0)),
    ("checkpoint.every", "1:00", Cadence(seconds=60.0)),
    ("checkpoint.every", "none", None),
    ("checkpoint.every", "null", None),
    ("checkpoint.resume", "never", "never"),
    ("checkpoint.resume", "runs/a/checkpoints", Path("/specs/runs/a/checkpoints")),
    ("resources.mem", "512M", 512 << 20),
    ("resources.mem", "1.5GiB", 3 << 29),
    ("resources.mem_per_cpu", "4g", 4 << 30),
    ("data.partition.shard_bytes", "auto", "auto"),
    ("data.partition.shard_bytes", "64K", 65536),
    ("data.partition.block_rows", "128", 128),
    ("data.memory_limit", "0.5", 0.5),
    ("data.memory_limit", "1", 1.0),
    ("data.memory_limit", "2G", 2 << 30),
    ("data.path", "d/../x.h5", (Path("/specs/x.h5"),)),
    ("data.path", "/abs/x.h5", (Path("/abs/x.h5"),)),
    ("data.path", "[a.h5, /b/c.h5]", (Path("/specs/a.h5"), Path("/b/c.h5"))),
    ("data.path", "'d/part-*.h5'", (Path("/specs/d/part-*.h5"),)),
    ("data.io.driver", "mpio", "mpio"),
    ("data.io.prefetch", "3", 3),
    ("data.io.prefetch", "0", 0),
    ("data.io.chunk_cache", "1M", 1 << 20),
    ("data.io.untrusted", "true", True),
    ("data.allow_external", "true", True),
    ("data.source", "'raw/*.csv'", ("/specs/raw/*.csv",)),
    ("data.source", "[a.csv, 'package:hpcml/b.csv']", ("/specs/a.csv", "package:hpcml/b.csv")),
    ("data.source", "null", ()),
    ("data.target", "late", Target(column="late")),
    ("data.target", "{column: delay, threshold: 15}", Target(column="delay", threshold=15.0)),
    ("data.split.test", "0", 0.0),
    ("data.rows.fraction", "1", 1.0),
    ("output.dir", "out/x", Path("out/x")),
    ("output.id", "null", None),
    ("tags", "[2024, a-b]", ("2024", "a-b")),
    ("env", "{OMP_NUM_THREADS: 1}", {"OMP_NUM_THREADS": "1"}),
    ("resources.account", "0123", "0123"),
    ("solver.uncertified", "allow", "allow"),
    ("evaluation.predictions", "test", "test"),
    ("evaluation.predictions", "all", "all"),
    ("checkpoint.on_signal", "off", False),
    ("check_every", "0", 0),
]


@pytest.mark.parametrize(("dotted", "given", "value"), ACCEPTED)
def test_accepted(dotted, given, value):
    spec = parse(with_line(dotted, given))
    found = value_of(spec, dotted)
    assert found == value
    assert type(found) is type(value) or dotted == "env"


BOOLEAN = "YAML reads {word} as {truth}"
REFUSED = [
    ("data.cache", "disk", "scratch"),
    ("scratch.stage", "rows", "shard or copy"),
    ("scratch.keep", "sometimes", "never, on_failure or always"),
    ("scratch.limit", "much", "scratch.limit"),
    ("evaluation.predictions", "train", "none, test or all"),
    ("solver.max_itr", "5", "unknown key; did you mean solver.max_iter?"),
    ("max_iter", "5", "unknown key; did you mean solver.max_iter?"),
    ("resources.walltime", "1h", "unknown key; did you mean resources.time?"),
    ("resources.memory", "1G", "unknown key; did you mean resources.mem?"),
    ("data.io.drivr", "auto", "unknown key; did you mean data.io.driver?"),
    ("data.target", "{colum: a}", "data.target.colum: unknown key; did you mean data.target.column?"),
    ("version", "2", "2 is not available in this version (available: 1)"),
    ("name", "a b", "1 to 64 letters"),
    ("name", "..", "1 to 64 letters"),
    ("name", "x" * 65, "1 to 64 letters"),
    ("name", "on", "'on' (which YAML reads as true)"),
    ("name", "null", "null does not fit"),
    ("seed", "-1", "integer >= 0"),
    ("seed", "1.5", "integer >= 0"),
    ("seed", "true", "integer >= 0"),
    ("seed", "9223372036854775808", "integer >= 0"),
    ("seed", "012", "'012' starts with 0, which YAML reads to the base 8; write 12"),
    ("seed", '"012"', "write 12"),
    ("solver.max_iter", "0", "integer >= 1"),
    ("solver.max_iter", "1:30", "base 60"),
    ("solver.max_iter", "2024-01-01", "integer >= 1"),
    ("solver.tol", "0", "number > 0"),
    ("solver.tol", ".nan", "number > 0"),
    ("solver.tol", ".inf", "number > 0"),
    ("solver.tol", "1e999", "number > 0"),
    ("solver.tol", "yes", "'yes' (which YAML reads as true)"),
    ("solver.tol", "[1]", "a list does not fit"),
    ("solver.memory", "0", "integer >= 1"),
    ("model.alpha", "-1", "number >= 0"),
    ("model.C", "0", "number > 0"),
    ("model.l1_ratio", "1.5", "number in [0, 1]"),
    ("model.penalty", "off", BOOLEAN.format(word="'off'", truth="false")),
    ("model.penalty", "null", "write none, l2, l1 or elasticnet"),
    ("model.penalty", "L2", "did you mean l2?"),
    ("model.fit_intercept", "1", "true or false"),
    ("data.cache", "no", "write none"),
    ("checkpoint.every", "off", "or none"),
    ("checkpoint.every", "0", "integer >= 1"),
    ("checkpoint.every", "1.5", "a number of iterations"),
    ("checkpoint.resume", "alwyas", "auto, never or required, or a path with a / in it"),
    ("resources.bind", "no", BOOLEAN.format(word="'no'", truth="false")),
    ("resources.network.transport", "on", BOOLEAN.format(word="'on'", truth="true")),
    ("resources.threads", "2", "2 is not available in this version (available: 1)"),
    ("resources.ntasks", "0", "integer >= 1"),
    ("resources.time", "0", "above 0"),
    ("resources.time", "1-25:00:00", "hours below 24"),
    ("resources.time", "1:75:00", "below 60"),
    ("resources.time", "01:00:75", "below 60"),
    ("resources.time", "soon", "a duration such as"),
    ("resources.time", "010", "base 8"),
    ("resources.time", "null", "a duration such as"),
    ("resources.mem", "4096", "at least 1M"),
    ("resources.mem", "4MB", "a size such as"),
    ("resources.signal", "KILL", "USR1, USR2 or TERM"),
    ("resources.setup", '["a\\nb"]', "on one line"),
    ("resources.partition", '"a\\nb"', "on one line"),
    ("data.memory_limit", "0", "fraction in (0, 1]"),
    ("data.memory_limit", "1.5", "fraction in (0, 1]"),
    ("data.path", "[]", "data.path"),
    ("data.path", "[a, ~/b]", "without ~"),
    ("data.io.prefetch", "65", "data.io.prefetch"),
    ("data.io.prefetch", "-1", "data.io.prefetch"),
    ("data.io.driver", "mpi", "auto, independent or mpio"),
    ("data.path", "~/x.h5", "without ~"),
    ("data.path", "$HOME/x.h5", "without ~ or $NAME"),
    ("data.path", "''", "not empty"),
    ("data.source", "[]", "the list is empty"),
    ("data.source", "'package:x'", "package:NAME/FILE"),
    ("data.target", "{threshold: 3}", "data.target.column: this key is required"),
    ("data.target", "{column: a, threshold: 1, map: {x: 1}}", "exclude each other"),
    ("data.target", "{column: a, map: {x: on}}", "data.target.map.x: 'on' (which YAML reads as true)"),
    ("data.columns", "{include: [a], exclude: [a]}", "keep it in one of the two"),
    ("data.columns.include", "[a, a]", "write each entry once"),
    ("data.columns.include", "[a, no]", "data.columns.include.1: 'no' (which YAML reads as false)"),
    ("data.rows", "{start: 5, stop: 5}", "a stop above the start"),
    ("data.rows.fraction", "0", "number in (0, 1]"),
    ("data.split.test", "1.0", "number in [0, 1)"),
    ("data.split.test", "-.5", "number in [0, 1)"),
    ("data.split.test", "nan", "number in [0, 1)"),
    ("data.split.test", "t.h5", "method: file"),
    ("data.split", "{method: file}", "write its path"),
    ("data.split", "{method: file, test: 0.2}", "write its path"),
    ("data.split", "{method: none, test: 0.2}", "has no test part"),
    ("watchdog", "{name_after: 60, end_after: 30}", "end_after >= name_after"),
    ("resources", "{mem: 1G, mem_per_cpu: 1G}", "exclude each other"),
    ("evaluation.metrics", "[]", "the list is empty"),
    ("evaluation.metrics", "[r2]", "r2 does not fit model.type: logistic_regression"),
    ("evaluation.primary", "r2", "is not among the metrics"),
    ("evaluation", "{metrics: [accuracy], primary: log_loss}", "is not among the metrics"),
    ("task", "regression", "write classification"),
    ("tags", "try", "list of tag"),
    ("env", "{A: on}", "env.A: 'on' (which YAML reads as true)"),
    ("env", "{A B: c}", "'A B'"),
    ("output.id", "a/b", "a directory name"),
    ("output.id", "..", "a directory name"),
    ("solver", "5", "write a map with keys such as"),
    ("preprocessing", "standardize", "a list of steps"),
    ("preprocessing", "[standardise]", "did you mean standardize?"),
    ("preprocessing", "[standardize, {standardize: {}}]", "write each step once"),
    ("preprocessing", "[{standardize: {}, pca: {}}]", "a map of several keys"),
    ("preprocessing", "[{standardize: {with_sd: true}}]", "did you mean preprocessing.standardize.with_std?"),
    ("preprocessing", "[{standardize: {with_mean: maybe}}]", "true or false"),
    ("check_every", "-1", "integer >= 0"),
]


@pytest.mark.parametrize(("dotted", "given", "part"), REFUSED)
def test_refused(dotted, given, part):
    with pytest.raises(SpecError) as caught:
        parse(with_line(dotted, given))
    message = str(caught.value)
    assert part in message
    assert message.startswith(f"job.yaml:1: {dotted}")
    assert "\n" not in message and len(message) < 400


LATER = [
    ("data.format", "text", "'text' is not available"),
    ("data.missing", "mode", "error, mean, median, most_frequent, drop or indicator"),
    ("data.split.method", "column", "(available: hash, file, none)"),
    ("model.type", "forest", "(available: logistic_regression, linear_regression, "),
    ("solver.name", "proximal_gd", "'proximal_gd' is not available"),
    ("solver.reduction", "native", "(available: reproducible)"),
    ("evaluation.metrics", "[mae]", "'mae' is not available"),
    ("task", "custom", "(available: classification, regression, clustering, decomposition)"),
    (
        "preprocessing",
        "[{one_hot: {}}]",
        "step 'one_hot' is not available in this version (available: standardize)",
    ),
    ("sweep", "{parameters: {model.alpha: [1, 2]}}", "this section is not available"),
    *[
        (key, given, "this key is not available in this version; leave it out")
        for key, given in [
            ("hooks.on_start", "'a:b'"),
            ("data.groups", "o"),
            ("data.columns.text", "[a]"),
            ("data.io.collective", "true"),
            ("data.split.stratify", "true"),
            ("data.split.validation", "0.1"),
            ("model.init_args", "{a: 1}"),
            ("solver.local", "newton"),
            ("solver.warm_start", "previous"),
            ("solver.early_stopping", "{metric: r2}"),
            ("evaluation.cv.folds", "5"),
            ("checkpoint.path", "c"),
            ("output.trace", "full"),
            ("output.report", "[html]"),
        ]
    ],
]


@pytest.mark.parametrize(("dotted", "given", "part"), LATER)
def test_later(dotted, given, part):
    with pytest.raises(SpecError, match=re.escape(part)) as caught:
        parse(with_line(dotted, given))
    assert str(caught.value).startswith(f"job.yaml:1: {dotted}")


def test_later_keys_may_say_their_default_but_are_checked():
    assert parse(with_line("solver.local", "auto")).solver.local == "auto"
    assert parse(with_line("data.io.chunk_cache", "64M")).data.io.chunk_cache == 64 << 20
    with pytest.raises(SpecError, match=r"solver\.relaxation: '3' does not fit; write a number in \(0, 2\)"):
        parse(with_line("solver.relaxation", "3"))


@pytest.mark.parametrize(
    ("dotted", "given", "spelled"),
    [
        ("output.overwrite", "same-hash", "same_hash"),
        ("model.type", "linear-regression", "linear_regression"),
        ("model.init", "k_means_parallel", "k-means-parallel"),
    ],
)
def test_hyphens_and_underscores_are_the_same(dotted, given, spelled):
    assert value_of(parse(with_line(dotted, given)), dotted) == spelled


def test_alpha_and_c_exclude_each_other():
    text = "name: a\ndata: {path: x}\nmodel: {type: linear_regression, "
    assert parse(text + "C: 2}").model.alpha is None
    assert parse(text + "C: 2, alpha: null}").model.C == 2.0
    with pytest.raises(SpecError, match=r"job.yaml:3: model.C: alpha and C both"):
        parse(text + "C: 2, alpha: 1}")
    with pytest.raises(SpecError, match="neither alpha nor C"):
        parse(text + "alpha: null}")


def test_defaults_that_follow_from_other_keys():
    spec = parse(with_line("model.type", "linear_regression"))
    assert (spec.task, spec.evaluation.metrics, spec.evaluation.primary) == (
        "regression",
        ("r2", "rmse"),
        "r2",
    )
    spec = parse(with_line("evaluation.metrics", "[accuracy, roc-auc]"))
    assert (spec.task, spec.evaluation.primary) == ("classification", "accuracy")
    assert spec.output.dir == Path("runs/a")
    assert parse(with_line("data.split", "{method: none}")).data.split.test == 0.0
    spec = parse(with_line("data.split", "{method: file, test: t.h5}"))
    assert spec.data.split.test == Path("/specs/t.h5")


def test_raw_values_of_a_target_are_read_as_written():
    spec = parse(with_line("data.target", "{column: c, map: {yes: 1, no: 0, 012: 2, 1: b}}"))
    assert spec.data.target.map == {"yes": 1.0, "no": 0.0, "012": 2.0, "1": "b"}


def test_ranks():
    assert parse(with_line("seed", "0")).resources.n_ranks == 1
    assert parse(with_line("resources", "{nodes: 2, ntasks_per_node: 8}")).resources.n_ranks == 16
    assert parse(with_line("resources", "{nodes: 2, ntasks: 3}")).resources.n_ranks == 3


@pytest.mark.parametrize("missing", ["name", "data", "model"])
def test_required_keys(missing):
    lines = {"name": "name: a", "data": "data: {path: x}", "model": "model: {type: linear_regression}"}
    text = "\n".join(line for name, line in lines.items() if name != missing)
    with pytest.raises(SpecError, match=rf"job.yaml:1: {missing}.*required but missing; add"):
        parse(text)


def test_lines_are_those_of_the_keys():
    text = "name: a\ndata:\n  path: x.h5\n  split:\n\n    test: 2\nmodel: {type: linear_regression}\n"
    with pytest.raises(SpecError, match=r"^job.yaml:6: data.split.test: "):
        parse(text)
    text = "name: a\ndata:\n  path: x.h5\n  columns:\n    include:\n      - a\n      - on\n"
    with pytest.raises(SpecError, match=r"^job.yaml:7: data.columns.include.1: "):
        parse(text)


def test_origins_name_every_leaf_and_stay_out_of_equality():
    text = "name: a\ndata:\n  path: x.h5\nmodel: {type: linear_regression}\npreprocessing: [standardize]\n"
    spec = parse(text, overrides=["solver.tol=1e-3"])
    places = origins(spec)
    assert places["data.path"] == "job.yaml:3"
    assert places["solver.tol"] == "command line"
    assert places["solver.max_iter"] == "default"
    assert places["output.dir"] == "default"
    assert places["preprocessing.standardize.with_std"] == "default"
    other = parse(text + "# a comment\nsolver:\n  tol: 0.001\n")
    assert origins(other) != places
    assert other == spec and hash(other) == hash(spec)
    assert "job.yaml" not in repr(spec)


def test_spec_is_frozen():
    spec = parse(with_line("vars", "{a: [1, {b: 2}]}"))
    hash(spec)
    with pytest.raises(AttributeError):
        spec.seed = 1
    with pytest.raises(TypeError):
        spec.vars["a"] = 2


def test_describe_lists_every_key_once_and_its_defaults_are_valid():
    rows = describe()
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert {
        "name",
        "extends",
        "data.path",
        "data.target.map",
        "preprocessing.standardize.with_mean",
        "sweep.mode",
        "resources.network.transport",
        "watchdog.end_after",
        "check_every",
    } <= set(keys)
    assert all(row.type and row.doc and row.default for row in rows)
    assert not next(row for row in rows if row.key == "sweep.method").available
    skipped = ("sweep.", "data.target.", "data.generate.", "preprocessing.", "extends")
    plain = [row for row in rows if row.default != "required" and not row.key.startswith(skipped)]
    computed = {
        "task",
        "evaluation.metrics",
        "evaluation.primary",
        "resources.ntasks",
        "resources.python",
        "checkpoint.path",
        "output.dir",
    }
    for row in plain:
        if row.key not in computed:
            parse(with_line(row.key, row.default))


def test_resolved_has_every_key_of_the_table():
    tree = resolved(parse(with_line("data.target", "{column: c}") + "preprocessing: [standardize]\n"))
    for row in describe():
        node = tree
        if row.key.startswith(("sweep.", "data.generate.")):
            continue
        for name in row.key.split("."):
            node = node[0][name] if isinstance(node, list) else node[name]


UNLABELLED = [
    ({"model": {"type": "kmeans"}}, "model.n_clusters: kmeans needs the number of clusters"),
    ({"model": {"type": "truncated_svd", "n_components": 0.5}}, "model.n_components: truncated_svd needs"),
    ({"model": {"type": "pca", "n_components": 2.5}}, "model.n_components: 2.5 is no number"),
    ({"model": {"type": "pca", "n_clusters": 3}}, "model.n_clusters: is of type kmeans or minibatch_kmeans"),
    ({"model": {"type": "pca", "alpha": 1}}, "model.alpha: is of type one of the linear models, not pca"),
    ({"model": {"type": "linear_regression", "n_clusters": 3}}, "model.n_clusters: is of type kmeans"),
    (
        {"model": {"type": "kmeans", "n_clusters": 3}, "evaluation": {"metrics": ["r2"]}},
        "evaluation.metrics: r2 does not fit model.type: kmeans; choose from inertia, silhouette_sampled",
    ),
]


@pytest.mark.parametrize(("keys", "said"), UNLABELLED, ids=[said for _, said in UNLABELLED])
def test_keys_of_models_without_labels(keys, said):
    text = yaml.safe_dump({"name": "a", "data": {"path": "a.h5"}, **keys})
    with pytest.raises(SpecError, match=re.escape(said)):
        parse(text)


def test_a_model_without_labels_is_settled():
    spec = parse("name: a\ndata: {path: a.h5, y: null}\nmodel: {type: minibatch_kmeans, n_clusters: 3}\n")
    assert (spec.task, spec.evaluation.metrics, spec.data.y) == ("clustering", ("inertia",), None)
