"""Expressions over the columns of a table: parsed here, evaluated by rows, without Python's eval.

They have ``or``, ``and``, ``not``, comparisons, ``in [...]``, ``+ - * / // % **``, a few functions, numbers,
quoted texts and column names (in back quotes where they are no plain words). A truth is 1 or 0. A missing
value makes missing what is computed of it, except that ``0 and missing`` is 0 and ``1 or missing`` is 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcml.errors import SpecError
from hpcml.io.convert.columns import Column

__all__ = ["Expression", "near", "parse"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<text>'[^']*'|"[^"]*")|`(?P<quoted>[^`]+)`"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<sign>\*\*|//|==|!=|<=|>=|[-+*/%<>(),\[\]]))"""
)
_BINDING = {
    **dict.fromkeys(("or",), 1),
    **dict.fromkeys(("and",), 2),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not"), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/", "//", "%"), 6),
    "**": 8,
}
_NOT, _COMPARED, _MINUS, _POWER = 3, 4, 7, 8
_DEPTH, _LENGTH = 40, 4000
_WORDS = frozenset({"and", "or", "not", "in"})

Numbers: TypeAlias = NDArray[np.float64]
Value: TypeAlias = "Column | Numbers | str"
Node: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text : str
        As it was written.
    node : tuple
    """

    text: str
    node: Node

    def names(self) -> set[str]:
        """Return the columns that it speaks of. Local."""
        return set(_names(self.node))

    def column(self, columns: Mapping[str, Column], n_rows: int, name: str = "") -> Column:
        """Return the value of each row; a bare column keeps its texts. Local.

        Raises
        ------
        SpecError
            Text is used as a number, or a column is not there.
        """
        with np.errstate(all="ignore"):
            value = _Rows(self.text, columns).value(self.node)
        if isinstance(value, str):
            raise SpecError(f"{self.text!r} is a text; write an expression of columns")
        if isinstance(value, Column):
            return Column(name, value.values.copy(), value.texts)
        return Column(name, np.array(np.broadcast_to(value, (n_rows,)), np.float64))


def parse(text: str) -> Expression:
    """Return the expression that a text says. Local.

    Raises
    ------
    SpecError
        It is none, longer than 4000 characters, or nested more than 40 deep.
    """
    if len(text) > _LENGTH:
        raise SpecError(f"an expression has at most {_LENGTH} characters; {text[:40]!r}... has {len(text)}")
    return Expression(text, _Parser(text).whole())


def near(name: str, names: Mapping[str, Any] | list[str]) -> str:
    """Return what to say of a column that is not there. Local."""
    close = get_close_matches(name, list(names), 1, 0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"the table has {', '.join(list(names)[:30])}"
    return f"there is no column {name!r}; {hint}"


def _names(node: Node) -> Iterator[str]:
    if node[0] == "name":
        yield node[1]
    for part in node[1:]:
        if isinstance(part, tuple):
            yield from _names(part)


class _Parser:
    """Precedence climbing over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self._tokens: list[tuple[str, str, int]] = []
        end = len(text.rstrip())
        while self._at < end:
            match = _TOKEN.match(text, self._at)
            if match is None:
                self._fail("this is not understood", self._at)
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind], match.start(kind)))
            self._at = match.end()
        self._tokens.append(("end", "", end))
        self._at = 0

    def whole(self) -> Node:
        """Return the node of the whole text."""
        node = self._expression(0)
        if self._tokens[self._at][0] != "end":
            self._fail("an operator is missing")
        return node

    def _fail(self, problem: str, place: int | None = None) -> NoReturn:
        place = self._tokens[self._at][2] if place is None else place
        raise SpecError(f"{self._text!r}: {problem} at character {place + 1}")

    def _take(self, *wanted: str) -> str | None:
        """Return the next word or sign if it is one of the wanted ones, and step over it."""
        kind, text, _ = self._tokens[self._at]
        if kind in ("word", "sign") and text in wanted:
            self._at += 1
            return text
        return None

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(f"{sign!r} is missing")

    def _expression(self, least: int) -> Node:
        """Return an expression whose operators bind at least as strongly as `least`."""
        self._depth += 1
        if self._depth > _DEPTH:
            self._fail(f"it is nested more than {_DEPTH} deep")
        node, last = self._operand(), 0
        while True:
            kind, word, _ = self._tokens[self._at]
            strength = _BINDING.get(word, -1) if kind in ("word", "sign") else -1
            if strength < max(least, 0) or strength < 0:
                break
            if strength == last == _COMPARED:
                self._fail("write 'a < b and b < c' for two comparisons")
            self._at += 1
            node, last = self._joined(node, word, strength), strength
        self._depth -= 1
        return node

    def _joined(self, left: Node, word: str, strength: int) -> Node:
        if word == "not":
            if not self._take("in"):
                self._fail("'in' is missing")
            return ("not", ("in", left, self._list()))
        if word == "in":
            return ("in", left, self._list())
        right = self._expression(_MINUS if word == "**" else strength + 1)
        return (word, left, right)

    def _operand(self) -> Node:
        if self._take("not"):
            return ("not", self._expression(_NOT))
        if self._take("-"):
            return ("minus", self._expression(_MINUS))
        if self._take("("):
            node = self._expression(0)
            self._expect(")")
            return node
        kind, text, _ = self._tokens[self._at]
        if kind in ("end", "sign") or (text in _WORDS and kind == "word"):
            self._fail("a value is missing")
        self._at += 1
        if kind == "word" and self._take("("):
            return self._call(text)
        if kind == "number":
            return ("number", float(text))
        return ("text", text[1:-1]) if kind == "text" else ("name", text)

    def _call(self, name: str) -> Node:
        if name not in _FUNCTIONS:
            self._at -= 2
            self._fail(f"there is no function {name!r} (there are {', '.join(sorted(_FUNCTIONS))}),")
        arguments = [self._expression(0)]
        while self._take(","):
            arguments.append(self._expression(0))
        self._expect(")")
        wanted = 2 if name in ("min", "max") else 1
        if len(arguments) != wanted:
            self._fail(f"{name} takes {wanted} value(s)")
        return ("call", name, *arguments)

    def _list(self) -> tuple[str, ...]:
        """Return the members of a list as texts; words in it need no quotes."""
        self._expect("[")
        members: list[str] = ["members"]
        while True:
            minus = "-" if self._take("-") else ""
            kind, text, _ = self._tokens[self._at]
            if kind in ("end", "sign"):
                self._fail("a value is missing")
            self._at += 1
            members.append(minus + (text[1:-1] if kind == "text" else text))
            if not self._take(","):
                break
        self._expect("]")
        return tuple(members)


def _kept(value: Any, *, where: Any) -> Any:
    """Return `value`, missing where it is not defined."""
    return np.where(where, value, np.nan)


def _truth(value: Numbers) -> Numbers:
    return np.where(np.isnan(value), np.nan, value != 0)


def _and(a: Numbers, b: Numbers) -> Any:
    a, b = _truth(a), _truth(b)
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _or(a: Numbers, b: Numbers) -> Any:
    return 1.0 - _and(1.0 - _truth(a), 1.0 - _truth(b))


def _compared(how: Callable[[Any, Any], Any]) -> Callable[[Numbers, Numbers], Any]:
    return lambda a, b: _kept(how(a, b).astype(np.float64), where=~(np.isnan(a) | np.isnan(b)))


_OPERATIONS: dict[str, Callable[[Numbers, Numbers], Any]] = {
    "or": _or,
    "and": _and,
    "==": _compared(np.equal),
    "!=": _compared(np.not_equal),
    "<": _compared(np.less),
    "<=": _compared(np.less_equal),
    ">": _compared(np.greater),
    ">=": _compared(np.greater_equal),
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": lambda a, b: _kept(np.divide(a, b), where=b != 0),
    "//": lambda a, b: _kept(np.floor_divide(a, b), where=b != 0),
    "%": lambda a, b: _kept(np.mod(a, b), where=b != 0),
    # C says that 1 ** missing and missing ** 0 are 1.
    "**": lambda a, b: _kept(np.power(a, b), where=~(np.isnan(a) | np.isnan(b)) & ((a != 0) | (b >= 0))),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "log": lambda x: _kept(np.log(x), where=x > 0),
    "log1p": lambda x: _kept(np.log1p(x), where=x > -1),
    "max": np.maximum,
    "min": np.minimum,
    "missing": lambda x: np.isnan(x).astype(np.float64),
    "round": np.round,
    "sign": np.sign,
    "sqrt": np.sqrt,
}


class _Rows:
    """Evaluates nodes over the rows of this rank; each row by itself."""

    def __init__(self, text: str, columns: Mapping[str, Column]) -> None:
        self._text, self._columns = text, columns

    def value(self, node: Node) -> Value:
        """Return the value of a node: numbers, a text column, or a text."""
        head, *parts = node
        if head == "number":
            return np.array(parts[0], np.float64)
        if head == "text":
            return str(parts[0])
        if head == "name":
            return self._column(parts[0])
        if head in ("==", "!=") and (found := self._same_text(*map(self.value, parts))) is not None:
            return found if head == "==" else 1.0 - found
        return np.asarray(self._computed(head, parts), np.float64)

    def _computed(self, head: str, parts: list[Any]) -> Any:
        if head == "in":
            return self._member(self.value(parts[0]), parts[1][1:])
        if head == "call":
            name, *arguments = parts
            if name == "missing" and isinstance(column := self.value(arguments[0]), Column):
                return column.missing
            return _FUNCTIONS[name](*map(self._number, arguments))
        if head == "not":
            return 1.0 - _truth(self._number(parts[0]))
        if head == "minus":
            return -self._number(parts[0])
        return _OPERATIONS[head](*map(self._number, parts))

    def _column(self, name: str) -> Value:
        if name not in self._columns:
            raise SpecError(f"{self._text!r}: {near(name, self._columns)} (texts are written in quotes)")
        column = self._columns[name]
        return column.values if column.texts is None else column

    def _number(self, node: Node) -> Numbers:
        value = self.value(node)
        if isinstance(value, np.ndarray):
            return value
        what = f"column {value.name!r}" if isinstance(value, Column) else f"{value!r}"
        raise SpecError(f"{self._text!r}: {what} is text; text can be compared with ==, != and in [...]")

    def _same_text(self, left: Value, right: Value) -> Numbers | None:
        """Return where a text column has a text, or None where numbers are compared."""
        if isinstance(left, str):
            left, right = right, left
        if isinstance(left, Column) and isinstance(right, str):
            return self._member(left, [right])
        if isinstance(left, Column) and isinstance(right, Column):
            raise SpecError(f"{self._text!r}: two text columns cannot be compared; compare each with a text")
        return None

    def _member(self, value: Value, members: list[str]) -> Numbers:
        if isinstance(value, Column):
            found = [float(text in members) for text in value.texts or []]
            return np.asarray(np.array([*found, np.nan])[value.values])
        if isinstance(value, str):
            raise SpecError(f"{self._text!r}: {value!r} is a text; write a column before 'in'")
        try:
            numbers = np.array([float(member) for member in members])
        except ValueError:
            raise SpecError(f"{self._text!r}: numbers are compared with texts") from None
        return np.asarray(_kept(np.isin(value, numbers).astype(np.float64), where=~np.isnan(value)))
