"""What a conversion notes in its file: recipe, sources, columns, and what the report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from hpcml.errors import OutputError
from hpcml.io.convert.recipe import Identity, Recipe

if TYPE_CHECKING:
    from hpcml.io.convert.rows import Encoding

__all__ = ["FORMAT", "attributes_of", "current_summary", "refuse_foreign", "stored_attributes", "summary_of"]

FORMAT = 1


def summary_of(coded: Encoding) -> dict[str, Any]:
    """Return what the report says of an encoding. Local."""
    return {
        "n_read": coded.n_read,
        "n_samples": coded.n_samples,
        "n_features": coded.n_features,
        "layout": coded.layout,
        "density": coded.n_entries / (coded.n_samples * coded.n_features),
        "classes": coded.classes,
    }


def attributes_of(
    coded: Encoding, recipe: Recipe, identity: Identity, summary: dict[str, Any]
) -> dict[str, Any]:
    """Return the attributes of the root group. Local."""
    attributes: dict[str, Any] = {
        "hpcml_format": FORMAT,
        "hpcml_recipe": json.dumps(recipe.describe(), sort_keys=True),
        "hpcml_sources": json.dumps(identity),
        "hpcml_summary": json.dumps(summary),
        "hpcml_columns": json.dumps(coded.columns),
    }
    if coded.classes is not None:
        attributes["classes"] = coded.classes
    return attributes


def current_summary(path: Path, recipe: Recipe, identity: Identity) -> dict[str, Any] | None:
    """Return what the report says of a conversion of this recipe and these sources, or None. Local."""
    stored = stored_attributes(path)
    same = (
        stored.get("hpcml_format") == FORMAT
        and json.loads(stored.get("hpcml_recipe", "null")) == recipe.describe()
        and json.loads(stored.get("hpcml_sources", "null")) == identity
    )
    if not same:
        return None
    summary: dict[str, Any] = json.loads(stored["hpcml_summary"])
    return {**summary, "digest": stored["hpcml_digest"].decode()}


def stored_attributes(path: Path) -> dict[str, Any]:
    """Return what a conversion noted in a file, nothing of any other file. Local."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return {name: value for name, value in file.attrs.items() if name.startswith("hpcml_")}
    except OSError:
        return {}


def refuse_foreign(path: Path) -> None:
    """Raise an OutputError where something other than a conversion would be replaced. Local."""
    if path.exists() and "hpcml_recipe" not in stored_attributes(path):
        raise OutputError(f"{path} is there and is not a conversion of tables: move it, or name another path")
