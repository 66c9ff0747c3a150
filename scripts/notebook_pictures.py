"""The pictures in the outputs of the executed notebooks."""

from __future__ import annotations

import base64
import json
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHOSEN = {"01": 0, "02": 0, "03": 0, "04": 0, "05": 0, "06": 0, "07": 0, "08": 0, "09": 0}
"""Which picture stands for a notebook, counted from 0: README's thumbnail and the slide."""


def pictures_of(notebook: Path) -> list[bytes]:
    """The pictures of a notebook, PNG or JPEG, in order."""
    outputs = [out for cell in json.loads(notebook.read_text("utf-8"))["cells"] for out in cell.get("outputs", [])]
    data = [out.get("data", {}) for out in outputs]
    texts = [one.get("image/png") or one.get("image/jpeg") for one in data]
    return [base64.b64decode("".join(text)) for text in texts if text]


def chosen_picture(notebook: Path) -> bytes | None:
    """The picture that stands for a notebook; None where it has no picture."""
    pictures = pictures_of(notebook)
    return pictures[min(CHOSEN.get(notebook.name[:2], 0), len(pictures) - 1)] if pictures else None
