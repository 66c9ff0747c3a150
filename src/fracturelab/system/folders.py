"""The folders of a checkout: reports, models, real images.

The variables `FRACTURELAB_REPORTS` and `FRACTURELAB_MODELS` name other folders for what a run writes. A run over
somebody's own X-rays then leaves the tracked results alone.
"""

from __future__ import annotations

import os
from pathlib import Path

REPORTS = "FRACTURELAB_REPORTS"
MODELS = "FRACTURELAB_MODELS"


def project_folder() -> Path:
    """Return the checkout that holds the working folder, else the working folder itself."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        project = folder / "pyproject.toml"
        if project.is_file() and 'name = "fracturelab"' in project.read_text(encoding="utf-8", errors="replace"):
            return folder
    return here


def reports_folder() -> Path:
    """Return the folder of figures and results: `FRACTURELAB_REPORTS`, or `reports/` of the project."""
    return _from_environment(REPORTS) or project_folder() / "reports"


def models_folder() -> Path:
    """Return the folder of models: `FRACTURELAB_MODELS`, or `models/` of the project."""
    return _from_environment(MODELS) or project_folder() / "models"


def realimages_folder() -> Path:
    """Return the folder for people's own X-rays: `realimages/` of the project."""
    return project_folder() / "realimages"


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name, "").strip()
    return Path(value).expanduser().absolute() if value else None
