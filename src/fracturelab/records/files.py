"""Records on disk: written whole or not at all, read only as they were written, with what the run ran on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fracturelab import __version__
from fracturelab.errors import FracturelabError
from fracturelab.system.files import write_json
from fracturelab.system.folders import REPORTS, reports_folder
from fracturelab.system.plain import plain as system_plain

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PATH = re.compile(r"(?<![\w.:/~])(?:/|[A-Za-z]:\\)(?:[^\s'\",;/\\]+[/\\])+([^\s'\",;/\\]*)")

PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scipy", "pandas", "scikit-learn", "Pillow")
"""Packages whose versions can change a result."""


def default_folder() -> Path:
    """Return `results/` of the reports: of the project, or of the folder in `FRACTURELAB_REPORTS`."""
    return reports_folder() / "results"


def own_folder() -> Path:
    """Return the folder of the command line's records, which is not in commits.

    `runs/results/` of the project's reports; with `FRACTURELAB_REPORTS`, the `results/` there.
    """
    return default_folder() if os.environ.get(REPORTS) else reports_folder() / "runs" / "results"


def plain(value: Any) -> Any:
    """Turn a value into plain JSON types; absolute paths lose their folders. See `fracturelab.system.plain`."""
    return system_plain(value, text=_without_folders)


def _without_folders(text: str) -> str:
    """Take absolute folders out of a text, which may be a path."""
    if "\n" not in text and Path(text).is_absolute():
        return Path(text).name
    return _PATH.sub(lambda match: match.group(1), text.replace(str(Path.home()) + os.sep, ""))


def checksum_of(record: Mapping[str, Any]) -> str:
    """Compute the sha256 over a record without its own checksum, in hexadecimal."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_name(name: str) -> None:
    """Refuse a name that no record can have.

    Raises:
        FracturelabError: It is no file name.
    """
    if not _NAME.fullmatch(name):
        raise FracturelabError(f"expected a record name of letters, digits, '.', '_' and '-'. Received: {name!r}")


def write_record(
    name: str,
    *,
    kind: str,
    results: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seconds: float | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write the record of one run, whole or not at all; one of the same name is replaced.

    Args:
        name: Stable name of the run, the file's name: letters, digits, `.`, `_` and `-`.
        kind: What was done, such as "training" or "evaluation".
        results: What came out. `score_table` lists `metrics` (as `Evaluation.to_record` gives them), or
            `evaluations`: a mapping from what was tested on to such results.
        data: The data, such as `source`, `fingerprint`, `n`.
        weights: The weights the model began with, such as `name`, `origin`, `licence`, `sha256`.
        seed: The seed of the run.
        seconds: How long it took.
        settings: Parameters that the run was started with.
        folder: Where to write; `default_folder()` if None.

    Returns:
        The file.

    Raises:
        FracturelabError: The name is no file name, or the folder cannot be written.
    """
    check_name(name)
    record = plain(
        {
            "format": _FORMAT,
            "name": name,
            "kind": kind,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "seconds": None if seconds is None else round(float(seconds), 2),
            "data": data,
            "weights": weights,
            "settings": settings,
            "results": results,
            "code": code_version(),
            "packages": package_versions(),
            "machine": machine(),
        }
    )
    record["checksum"] = checksum_of(record)
    place = Path(folder) if folder is not None else default_folder()
    return write_json(place / f"{name}.json", record)


def read_record(path: str | Path) -> dict[str, Any]:
    """Read one record.

    Args:
        path: The JSON file.

    Returns:
        The record.

    Raises:
        FracturelabError: It cannot be read, is no record, or was edited by hand.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FracturelabError(f"cannot read the record {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FracturelabError(f"{path} is not a whole JSON file: remove it, or run again what wrote it") from error
    expected = {"format", "name", "kind", "results", "checksum"}
    if not isinstance(record, dict) or not expected <= record.keys():
        raise FracturelabError(f"{path} is not a record of a run: expected the keys {', '.join(sorted(expected))}")
    with suppress(ValueError):  # NaN or Infinity, which are never written
        if checksum_of(record) == record["checksum"]:
            return record
    raise EditedRecordError(path)


class EditedRecordError(FracturelabError):
    """A record whose content does not fit its checksum.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        super().__init__(f"{path} was changed after the run that wrote it: remove it, or run again what wrote it")


def read_records(folder: str | Path | None = None) -> list[dict[str, Any]]:
    """Read all records of a folder, by name.

    Files that are no whole record are left out with a warning. One that was edited by hand is an error: its numbers
    must not vanish from a table in silence, nor enter it.

    Args:
        folder: Where to look; `default_folder()` if None.

    Returns:
        The records, sorted by name; none if there is no such folder.

    Raises:
        EditedRecordError: A record was edited by hand; the message names it.
    """
    place = Path(folder) if folder is not None else default_folder()
    records = []
    for path in sorted(place.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            records.append(read_record(path))
        except EditedRecordError:
            raise
        except FracturelabError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return sorted(records, key=lambda record: record["name"])


def code_version() -> dict[str, Any]:
    """Return the package version and, in a git checkout, the commit and whether tracked code has changed since.

    Returns:
        `version`, `commit` and `dirty`; the last two are None outside a checkout or without git.
    """
    about: dict[str, Any] = {"version": __version__, "commit": None, "dirty": None}
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file() or not (root / ".git").exists():
        return about
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src", "pyproject.toml")
    if commit and changes is not None:
        about.update(commit=commit, dirty=bool(changes))
    return about


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages of `PACKAGES`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Describe the machine in general: system, processor family and number of usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "processor": platform.machine(), "cores": cores}
