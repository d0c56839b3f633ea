"""Advice in words on how a file is stored, from what `describe_file` found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any

from hpcml.io.sizes import human_bytes

__all__ = ["advice", "pieces"]

_MATTERS = 4 << 20  # bytes of an array below which any layout will do
_SMALL_CHUNK = 128 << 10
_LARGE_CHUNK = 64 << 20
_GOOD_CHUNK = 4 << 20
_SLOW = ("gzip", "bzip2", "szip")
_GIB = 1 << 30
_STRIPES = ((100 * _GIB, 72), (10 * _GIB, 24), (_GIB, 8))  # from this many bytes on, so many servers


def pieces(storage: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and storage of each data set, also of those that make a CSR group. Local, pure."""
    for name, each in storage.items():
        if "parts" in each:
            yield from ((f"{name}/{part}", one) for part, one in each["parts"].items())
        else:
            yield name, each


def advice(told: dict[str, Any]) -> list[dict[str, str]]:
    """Return sentences, some with a command to type; none where nothing is amiss. Local, pure.

    Parameters
    ----------
    told : dict
        path, bytes, storage, shares, index and striping as `describe_file` has them.

    Returns
    -------
    list of dict
        text, and command where there is one.
    """
    return [*_to_install(told["storage"]), *_layouts(told), *_index(told), *_striping(told)]


def _said(text: str, *words: str) -> dict[str, str]:
    return {"text": text, "command": shlex.join(words)} if words else {"text": text}


def _to_install(stored: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    needs: dict[tuple[str, str], list[str]] = {}
    for name, each in pieces(stored):
        for one in each.get("filters", []):
            if one["install"]:
                needs.setdefault((one["name"], one["install"]), []).append(name)
    return [
        _said(f"{', '.join(names)}: cannot be read here, for want of the filter {missing}; needs: {install}")
        for (missing, install), names in needs.items()
    ]


def _layouts(told: dict[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong with chunks and compression, and the one command that mends it."""
    reasons: list[str] = []
    options: dict[str, str] = {}
    matter = {name: each for name, each in pieces(told["storage"]) if _matters(each)}
    for name, each in sorted(matter.items(), key=lambda pair: pair[1]["bytes"]):  # the largest decides
        if reason := _bad_chunks(each):
            reasons.append(f"{name}: {reason}")
            options["--chunk-rows"] = str(_good_rows(each))
        if slow := [one["name"] for one in each["filters"] if one["name"] in _SLOW]:
            reasons.append(f"{name}: {slow[0]} is slow to undo; blosc-lz4 is read several times faster")
            options["--compression"] = "blosc-lz4"
    if not reasons:
        return []
    path = Path(told["path"])
    target = str(path.with_name(f"{path.stem}-rechunked.h5"))
    words = [word for option in options.items() for word in option]
    *first, last = reversed(reasons)
    return [*map(_said, first), _said(last, "hpcml", "rechunk", str(path), target, *words)]


def _matters(each: dict[str, Any]) -> bool:
    return each["layout"] == "chunked" and each["bytes"] >= _MATTERS and "problem" not in each


def _index(told: dict[str, Any]) -> list[dict[str, str]]:
    if told["index"] == "present" or not told["shares"]:
        return []
    if told["index"] == "none":
        return [
            _said("no index; with one, jobs notice damage and know the data", "hpcml", "index", told["path"])
        ]
    return [_said(f"the index is {told['index']}; write it again", "hpcml", "index", told["path"])]


def _row_bytes(each: dict[str, Any]) -> int:
    return max(1, int(each["bytes"] // each["shape"][0]))


def _good_rows(each: dict[str, Any]) -> int:
    """Return the power of two of rows with at most 4 MiB."""
    return 1 << (max(_GOOD_CHUNK // _row_bytes(each), 1).bit_length() - 1)


def _bad_chunks(each: dict[str, Any]) -> str | None:
    chunks, shape = each["chunks"], each["shape"]
    pieces = prod(ceil(n / c) for n, c in zip(shape[1:], chunks[1:], strict=True))
    chunk_bytes = prod(chunks) * each["bytes"] // prod(shape)
    if pieces > 1:
        return f"chunks hold {chunks[0]} rows of a part of the columns, so a row lies in {pieces} of them"
    if chunk_bytes > _LARGE_CHUNK:
        return f"chunks of {human_bytes(chunk_bytes)} are large: one is read and held whole for any row in it"
    if chunk_bytes < _SMALL_CHUNK:
        rows = "1 row" if chunks[0] == 1 else f"{chunks[0]} rows"
        return (
            f"{each['n chunks']} chunks of {rows}, {human_bytes(chunk_bytes)} each, are small: each is a call"
        )
    return None


def _striping(told: dict[str, Any]) -> list[dict[str, str]]:
    wanted = next((count for least, count in _STRIPES if told["bytes"] >= least), 1)
    parts = told.get("striping") or []
    if not parts or wanted == 1:
        return []
    size = told["bytes"]
    here = max(parts, key=lambda part: min(part["stop"] or size, size) - part["start"])
    if here["stripe_count"] < 0 or here["stripe_count"] >= wanted // 2:
        return []
    servers = "1 server" if here["stripe_count"] == 1 else f"{here['stripe_count']} servers"
    text = f"{human_bytes(size)} lie on {servers} of Lustre, for which all ranks wait; while no job reads it"
    return [_said(text, "lfs", "migrate", "-c", str(wanted), "-S", "4M", told["path"])]
