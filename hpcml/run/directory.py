"""The run directory: one run, every file complete or absent."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcml.errors import OutputError, SpecError
from hpcml.io.files import file_digest, output_error, write_bytes
from hpcml.spec import Spec

__all__ = ["RunDirectory", "json_bytes", "plain", "run_path"]

_MANIFESTED = (
    "spec.yaml",
    "resolved.yaml",
    "provenance.json",
    "metrics.jsonl",
    "model.h5",
    "predictions.h5",
    "result.json",
)


def run_path(spec: Spec) -> Path:
    """Return the run directory of a spec. Local."""
    return Path(spec.output.dir, spec.output.id or "")


def plain(value: Any) -> Any:
    """Return `value` with NaN and Inf, which JSON cannot say, as None. Local."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_bytes(value: Any) -> bytes:
    """Return indented JSON with a newline at its end. Local."""
    return (json.dumps(plain(value), indent=2) + "\n").encode()


@dataclass(frozen=True)
class RunDirectory:
    """Paths and files of one run; one process writes. All Local."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The directory of checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file with a line an iteration."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / "model.h5"

    @property
    def predictions(self) -> Path:
        """The file of predictions."""
        return self.path / "predictions.h5"

    @property
    def error(self) -> Path:
        """The first error of the last attempt."""
        return self.path / "error.json"

    @property
    def lock(self) -> Path:
        """The file, beside the directory, that one job at a time has locked."""
        return self._beside("{}.lock")

    @property
    def watch(self) -> Path:
        """The directory, beside it, where ranks speak while one waits for long."""
        return self._beside(".{}.watchdog")

    def _beside(self, name: str) -> Path:
        """Return a path beside the directory; `.` and `..` have no name of their own."""
        whole = Path(os.path.abspath(self.path))
        return whole.with_name(name.format(whole.name))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file, or None where it is missing or broken."""
        try:
            return dict(json.loads((self.path / name).read_text()))
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, complete or not at all."""
        write_bytes(self.path / name, json_bytes(value))

    @property
    def state(self) -> dict[str, Any]:
        """The content of state.json, empty for a new directory."""
        return self.read_json("state.json") or {}

    @property
    def finished(self) -> dict[str, Any] | None:
        """The result of a finished run, checked by its manifest."""
        manifest = self.read_json("manifest.json")
        if manifest is None or self.state.get("state") != "done":
            return None
        files = manifest["files"]
        wanted = [name for name in ("result.json", "model.h5") if name in files]
        whole = all(self._is_whole(name, files[name]) for name in wanted)
        return self.read_json("result.json") if whole else None

    def _is_whole(self, name: str, digest: str) -> bool:
        path = self.path / name
        return path.exists() and file_digest(path) == digest

    def refuse_foreign(self, spec_hash: str, overwrite: str) -> None:
        """Refuse a directory that holds something else.

        Raises
        ------
        SpecError
            Another run, or files that no run wrote.
        OutputError
            The path cannot be a directory.
        """
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise output_error(self.path, error) from error
        state = self.state
        if not names:
            return
        if not state:
            raise SpecError(
                f"output.dir: {self.path} holds files that are no run's; choose another directory"
            )
        if overwrite == "always":
            return
        left_nothing = state.get("state") == "failed" and not any(self.path.glob("checkpoints/*.ckpt"))
        if state.get("spec") != spec_hash and not left_nothing:
            raise SpecError(
                f"output.dir: {self.path} holds another run ({state.get('name')}, {state.get('state')}); "
                "choose another output.dir, or set output.overwrite=always"
            )

    def begin(self, texts: dict[str, str], state: dict[str, Any]) -> int:
        """Create the directory, write its first files and return the attempt's number.

        Raises
        ------
        OutputError
            For want of space or permission.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for old in (self.error, self.path / "manifest.json", *self.watch.glob("*")):
                old.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error
        attempt = int(state.get("attempt", 0)) + 1
        for name, text in texts.items():
            write_bytes(self.path / name, text.encode())
        self.write_json("state.json", {**state, "state": "running", "attempt": attempt})
        return attempt

    def clear(self) -> None:
        """Remove what an earlier run left, so that nothing of it can be taken for this one's.

        Raises
        ------
        OutputError
            A file cannot be removed.
        """
        from hpcml.io.write.predictions import remove_parts  # it brings h5py, which other verbs do without

        try:
            for name in (*_MANIFESTED, "manifest.json", "error.json", "state.json"):
                (self.path / name).unlink(missing_ok=True)
            for checkpoint in self.path.glob("checkpoints/*.ckpt"):
                checkpoint.unlink()
            remove_parts(self.predictions)
        except OSError as error:
            raise output_error(self.path, error) from error

    def set_state(self, **changes: Any) -> None:
        """Change entries of state.json."""
        self.write_json("state.json", {**self.state, **changes})

    def finish(self) -> None:
        """Write the digests of all files; the run is complete with this file, not before."""
        files = {name: file_digest(self.path / name) for name in _MANIFESTED if (self.path / name).exists()}
        self.set_state(state="done")
        self.write_json("manifest.json", {"format": 1, "files": files})

    def record_failure(self, report: dict[str, Any]) -> bool:
        """Write error.json if no rank has done so; tell whether this was the first error."""
        try:
            handle = os.open(self.error, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        except OSError:
            return True
        with os.fdopen(handle, "wb") as file:
            file.write(json_bytes(report))
        with suppress(OutputError):
            self.set_state(state="failed")
        return True
