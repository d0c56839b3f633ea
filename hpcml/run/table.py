"""The table at the end of a run."""

from __future__ import annotations

from typing import Any

from hpcml.io.sizes import human_bytes

__all__ = ["render_table"]

_WHERE = {"memory": "kept in memory", "scratch": "mapped from scratch", "none": "nothing kept"}
_KINDS = {
    "duality_gap": "relative duality gap",
    "kkt": "scaled KKT residual",
    "stationary": "scaled gradient of a loss that is not convex, no proof of a minimum",
    "squared_shift": "squared distance that the centres moved at last",
    "residual": "residual of the components over the largest variance",
}
_WITHOUT_TOL = ("squared_shift",)
"""Certificates that `solver.tol` does not bound as they are."""


def _seconds(seconds: dict[str, float]) -> str:
    parts = [f"{name} {value:.2f}" for name, value in seconds.items() if name != "total"]
    return f"{seconds['total']:.2f} ({', '.join(parts)})"


def _number(value: float | None, form: str) -> str:
    return "not a number" if value is None else format(value, form)


def _reading(result: dict[str, Any]) -> str:
    reading = result["reading"]
    passes = f"{reading['passes']} pass{'es' * (reading['passes'] != 1)}"
    hidden = f", {reading['hidden']:.0%} of reading hidden" if reading["hidden"] else ""
    return f"{human_bytes(reading['bytes'])} in {passes}, {_WHERE[result['cache']]}{hidden}"


def _certificate(result: dict[str, Any]) -> str:
    kind = result["certificate_kind"]
    tol = "" if kind in _WITHOUT_TOL else f"; tol {result['tol']:g}"
    return f"{_number(result['certificate'], '.2e')} ({_KINDS[kind]}{tol})"


def _why_no_digest(result: dict[str, Any]) -> str:
    return "asynchronous" if result.get("asynchronous") else "cut by max_time"


def _updates(found: dict[str, Any]) -> str:
    updates = found["updates"]
    stale = ", ".join(f"{lag}: {n / updates['all']:.0%}" for lag, n in found["staleness"].items())
    each = f"{updates['least']} to {updates['most']} of each of {found['subproblems']} subproblems"
    return f"{updates['all']:,}, {each}; staleness {stale or 'none'}"


def render_table(result: dict[str, Any]) -> str:
    """Return the result of a run as lines of name and value. Local."""
    nodes = f" on {result['n_nodes']} node{'s' * (result['n_nodes'] > 1)}"
    state = "converged" if result["converged"] else "NOT CONVERGED"
    on = "training rows" if "rows" in result["notes"] else "test rows"
    rows = [
        ("run", f"{result['name']}: {state}, {result['reason']}"),
        ("rows", f"{result['n_rows']:,} training, {result['n_test_rows']:,} measured"),
        ("features", f"{result['n_features']:,}"),
        ("read", _reading(result)),
        ("ranks", f"{result['n_ranks']}{nodes}, {result['n_shards']} shards"),
        ("memory", f"{human_bytes(result['peak_bytes'])} at most a rank"),
        ("iterations", f"{result['n_iter']} of {result['solver']} ({result['solver_reason']})"),
        *((("updates", _updates(found)),) if (found := result.get("asynchronous")) else ()),
        ("objective", _number(result["objective"], ".10g")),
        ("certificate", _certificate(result)),
        *((name, f"{_number(value, '.6f')} ({on})") for name, value in result["metrics"].items()),
        *(("note", f"{name}: {note}") for name, note in result["notes"].items()),
        ("seconds", _seconds(result["seconds"])),
        ("model", result["model_digest"] or f"{_why_no_digest(result)}: no digest is promised"),
        ("directory", result["run"]),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}   {value}" for name, value in rows)
