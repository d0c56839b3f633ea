"""From files and text to a spec, and where each of its values came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpcml.spec.build import build
from hpcml.spec.document import parse_document, read_text
from hpcml.spec.expand import extended, substituted
from hpcml.spec.overrides import overridden
from hpcml.spec.schema import Spec
from hpcml.spec.tree import Branch, Scalar, Where, is_null

__all__ = ["load_spec", "origins", "parse_spec"]


def load_spec(path: Path, overrides: Sequence[str] = ()) -> Spec:
    """Return the spec of a YAML file. Local.

    Parameters
    ----------
    path : Path
        The file. Relative input paths in it start at its directory.
    overrides : sequence of str
        ``KEY=VALUE`` sets a dotted key, ``+KEY=VALUE`` adds to a list or map, ``~KEY`` takes it out.

    Raises
    ------
    SpecError
        With one sentence that names file, line and key, and ends with what would be right.
    """
    path = Path(path)
    return parse_spec(read_text(path), source=str(path), directory=path.parent, overrides=overrides)


def parse_spec(text: str, *, source: str, directory: Path, overrides: Sequence[str] = ()) -> Spec:
    """Return the spec of a YAML text. Local.

    Parameters
    ----------
    text : str
        YAML or JSON.
    source : str
        The name of the text in messages and origins.
    directory : Path
        Where relative input paths start.
    overrides : sequence of str
        As for `load_spec`.
    """
    directory = Path(directory).absolute()
    tree, files = extended(parse_document(text, source=source, directory=directory))
    tree = overridden(tree, overrides, directory)
    spec = build(substituted(_with_directory(tree)))
    return replace(spec, extends=files)


def _with_directory(tree: Branch) -> Branch:
    """Return the tree with the default of ``output.dir``, which substitution fills with the name."""
    output = tree.entries.get("output", Branch({}, tree.where))
    if is_null(output):
        output = Branch({}, output.where)
    if not isinstance(output, Branch) or "dir" in output.entries:
        return tree
    default = Scalar("runs/${name}", "str", Where("default", None, tree.where.directory))
    output = replace(output, entries={**output.entries, "dir": default})
    return replace(tree, entries={**tree.entries, "output": output})


def origins(spec: Spec) -> Mapping[str, str]:
    """Return where each dotted key came from: ``default``, ``FILE:LINE`` or ``command line``. Local."""
    return spec._origins
