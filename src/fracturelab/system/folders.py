"""Where things lie in a checkout: reports, models, real images.

The environment can say otherwise: `FRACTURELAB_REPORTS` and `FRACTURELAB_MODELS` send what a run writes elsewhere, so
that a run over somebody's own X-rays leaves the tracked results alone.
"""

from __future__ import annotations

import os
from pathlib import Path

REPORTS = "FRACTURELAB_REPORTS"
MODELS = "FRACTURELAB_MODELS"


def project_folder() -> Path:
    """The checkout that holds the working folder, else the working folder itself."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        project = folder / "pyproject.toml"
        if project.is_file() and 'name = "fracturelab"' in project.read_text(encoding="utf-8", errors="replace"):
            return folder
    return here


def reports_folder() -> Path:
    """Where figures and results are written: `reports/` of the project, or what `FRACTURELAB_REPORTS` says."""
    return _from_environment(REPORTS) or project_folder() / "reports"


def figures_folder() -> Path:
    """Where figures are written: `figures/` of the reports."""
    return reports_folder() / "figures"


def models_folder() -> Path:
    """Where models are saved and looked for: `models/` of the project, or what `FRACTURELAB_MODELS` says."""
    return _from_environment(MODELS) or project_folder() / "models"


def realimages_folder() -> Path:
    """Where people drop X-rays of their own: `realimages/` of the project."""
    return project_folder() / "realimages"


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name, "").strip()
    return Path(value).expanduser().absolute() if value else None
