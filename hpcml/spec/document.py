"""YAML text to a tree: the only import of yaml, and the only reader of spec files.

The text is composed into nodes and never constructed into objects, so no tag can run code. Size, depth and
the number of values after alias expansion are bounded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hpcml.errors import SpecError
from hpcml.spec.tree import Branch, Listing, Scalar, Tree, Where, fail, join, shown

__all__ = ["MAX_BYTES", "dump_yaml", "parse_document", "parse_value", "read_text"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 50_000

_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = {_CORE + name: name for name in ("null", "bool", "int", "float", "str", "timestamp")} | {
    _CORE + "merge": "str",
    _CORE + "value": "str",
}
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_DEPTH = f"values are nested too deep, or an alias holds itself; stay within {MAX_DEPTH} levels"
_VALUES = f"the text expands to too many values; stay within {MAX_VALUES}"
_YAML_CURE = "write 'key: value' lines indented with spaces, and quote text that holds special characters"


class _TooMuch(yaml.YAMLError):
    """More depth or more values than we read; carries the line and the sentence."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class _Loader(yaml.SafeLoader):
    """A safe loader that counts depth and values while it composes, before either costs much."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._values += 1
        if self._depth > MAX_DEPTH:
            raise _TooMuch(self.get_mark().line + 1, _DEPTH)
        if self._values > 2 * MAX_VALUES:
            raise _TooMuch(self.get_mark().line + 1, _VALUES)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_text(path: Path) -> str:
    """Return the text of a spec file, or raise `SpecError` with one clear sentence."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; give the path of a YAML spec") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a directory; give the path of a YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{path}: cannot be read ({reason}); give a readable YAML file") from None
    return _decoded(content, str(path))


def _decoded(content: bytes, source: str) -> str:
    """Return the text of `content`, which must be UTF-8 of bounded size."""
    if len(content) > MAX_BYTES:
        raise SpecError(f"{source}: the file is larger than 1 MiB; a spec has at most {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{source}:{line}: the text is not UTF-8; save the file as UTF-8") from None


def parse_document(text: str, *, source: str, directory: Path) -> Branch:
    """Return the map that a spec's text holds."""
    where = Where(source, None, directory)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        fail(where, "", f"the text is larger than 1 MiB; a spec has at most {MAX_BYTES} bytes")
    node = _compose(_without_tabs(text), where, "")
    if node is None:
        fail(where, "", "the file is empty; a spec is a map with at least name, data and model")
    tree = _Converter(where).tree(node, replace(where, line=node.start_mark.line + 1), "", 0)
    if not isinstance(tree, Branch):
        fail(tree.where, "", "the file is not a map; write keys such as 'name: my-run' at the left margin")
    return tree


def _without_tabs(text: str) -> str:
    """Return JSON-like text without tabs before its lines, which YAML refuses and JSON's writers use."""
    if not text.lstrip().startswith("{"):
        return text
    return re.sub(r"^[ \t]+", lambda match: " " * len(match[0]), text, flags=re.MULTILINE)


def _joined(text: str) -> str:
    """Return `text` with the pairs of surrogates that JSON escapes as single characters."""
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _PAIR.search(text)
        else text
    )


def parse_value(text: str, where: Where, path: str) -> Tree:
    """Return the tree of one value given on the command line; an empty text is null."""
    if len(text) > MAX_BYTES:
        fail(where, path, f"the value is too long; give at most {MAX_BYTES} bytes")
    node = _compose(text, where, path)
    return Scalar("", "null", where) if node is None else _Converter(where).tree(node, where, path, 0)


def _compose(text: str, where: Where, path: str) -> yaml.Node | None:
    """Return the node graph of a text, with YAML's complaints turned into one sentence."""
    try:
        return _single_node(text)
    except _TooMuch as error:
        fail(_at(where, error.line), path, error.sentence)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        fail(_at(where, line), path, "a control character is in the text; keep to printable characters")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = _at(where, mark.line + 1 if mark else None)
        problem = " ".join((error.problem or error.context or "syntax error").split())
        fail(at, path, f"this is not valid YAML ({problem}); {_YAML_CURE}")
    except (ValueError, OverflowError):
        fail(where, path, f"this is not valid YAML (a character code out of range); {_YAML_CURE}")


def _single_node(text: str) -> yaml.Node | None:
    """Return the root node of the only document in `text`."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _at(where: Where, line: int | None) -> Where:
    """Return `where` with a line, unless it is a command line, which has none."""
    return where if where.source == "command line" else replace(where, line=line)


class _Converter:
    """Turns nodes into trees; aliases are expanded and counted."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._count = 0

    def tree(self, node: yaml.Node, where: Where, path: str, depth: int) -> Tree:
        """Return the tree of a node; `where` is the line of its key."""
        self._count += 1
        if depth > MAX_DEPTH:
            fail(where, path, _DEPTH)
        if self._count > MAX_VALUES:
            fail(where, path, _VALUES)
        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return Branch(self._entries(node, path, depth), where)
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            return Listing(self._items(node, path, depth), where)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALAR_TAGS:
            return Scalar(_joined(node.value), _SCALAR_TAGS[node.tag], where)
        tag = node.tag.replace(_CORE, "!!")
        fail(where, path, f"the tag {shown(tag)} is not allowed; write plain values without tags")

    def _line(self, node: yaml.Node) -> Where:
        """Return the place of a node."""
        return _at(self._where, node.start_mark.line + 1)

    def _items(self, node: yaml.SequenceNode, path: str, depth: int) -> tuple[Tree, ...]:
        """Return the trees of a list."""
        return tuple(
            self.tree(item, self._line(item), join(path, str(index)), depth + 1)
            for index, item in enumerate(node.value)
        )

    def _entries(self, node: yaml.MappingNode, path: str, depth: int) -> Mapping[str, Tree]:
        """Return the trees of a map: merged maps first, own keys over them."""
        own: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        below: dict[str, Tree] = {}
        for key, value in node.value:
            name = self._name(key, path)
            if name in lines:
                fail(
                    self._line(key),
                    join(path, name),
                    f"duplicate key, first given on line {lines[name]}; keep one of the two",
                )
            lines[name] = key.start_mark.line + 1
            if key.tag == _CORE + "merge":
                below = self._merged(value, self._line(key), path, depth)
            else:
                own[name] = self.tree(value, self._line(key), join(path, name), depth + 1)
        return {**below, **own}

    def _name(self, key: yaml.Node, path: str) -> str:
        """Return the text of a key, which is never read as a number or a boolean."""
        if not isinstance(key, yaml.ScalarNode):
            fail(self._line(key), path, "a key is a list or a map; write keys as plain words")
        if key.tag not in _SCALAR_TAGS:
            fail(self._line(key), path, f"the tag {shown(key.tag)} is not allowed; write keys without tags")
        if key.tag == _CORE + "null":
            fail(self._line(key), path, "a key is empty; write a name before the colon")
        return str(key.value)

    def _merged(self, node: yaml.Node, where: Where, path: str, depth: int) -> dict[str, Tree]:
        """Return the entries that ``<<`` brings in; earlier maps of a list win, as YAML says."""
        entries: dict[str, Tree] = {}
        for part in self._sources(node):
            tree = self.tree(part, where, path, depth + 1)
            if not isinstance(tree, Branch):
                fail(where, join(path, "<<"), "a merge key needs a map; write '<<: *anchor' of a map")
            entries = {**tree.entries, **entries}
        return entries

    @staticmethod
    def _sources(node: yaml.Node) -> Iterator[yaml.Node]:
        """Yield the maps that a merge key names."""
        if isinstance(node, yaml.SequenceNode):
            yield from node.value
        else:
            yield node


class _Dumper(yaml.SafeDumper):
    """A safe dumper that writes values in full, never as anchors and aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Tell that nothing is written as an alias."""
        return True


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Return a plain tree of maps, lists and scalars as YAML text, in the order of its keys."""
    return yaml.dump(
        dict(tree),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=sys.maxsize,
    )
