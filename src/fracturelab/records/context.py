"""What a run ran on: code version, package versions, the machine in general words."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from fracturelab import __version__

PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scipy", "pandas", "scikit-learn", "Pillow")
"""Packages whose versions can change a result."""


def code_version() -> dict[str, Any]:
    """The package version and, in a git checkout, the commit and whether tracked code has changed since.

    Returns:
        `version`, `commit` and `dirty`; the last two are None outside a checkout or without git.
    """
    found: dict[str, Any] = {"version": __version__, "commit": None, "dirty": None}
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file() or not (root / ".git").exists():
        return found
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src", "pyproject.toml")
    if commit and changes is not None:
        found.update(commit=commit, dirty=bool(changes))
    return found


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages of `PACKAGES`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """The machine in general words: system, processor family and number of usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "processor": platform.machine(), "cores": cores}
