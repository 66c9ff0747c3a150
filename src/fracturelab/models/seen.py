"""Whether a file was used to train a model, to choose it, or to train its starting weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fracturelab.splits import fracatlas_parts

TRAINING, VALIDATION, WEIGHTS = "training", "validation", "starting weights"
REMARKS = {
    TRAINING: "The model was trained on this very file.",
    VALIDATION: "This very file was among the validation images that chose the model and its threshold.",
    WEIGHTS: "The weights that the model started from were trained on this very X-ray.",
}


def seen_files(card: Mapping[str, Any], hashes: Sequence[str], names: Sequence[str]) -> list[str]:
    """What each file was used for before: by its checksum, and by its name for weights that were trained on FracAtlas.

    Args:
        card: The model's card, with `train_hashes`, `val_hashes` and `weights`.
        hashes: (n,) sha256 of each file, in hexadecimal.
        names: (n,) name or path of each file.

    Returns:
        (n,) "training", "validation", "starting weights", or "" where no use is known: a copy that was saved anew under
        another name is not recognised.
    """
    train, validation = (set(card.get(key) or ()) for key in ("train_hashes", "val_hashes"))
    origin = str((card.get("weights") or {}).get("origin"))
    uses = []
    for sha256, name in zip(hashes, names, strict=True):
        use = TRAINING if sha256 in train else VALIDATION if sha256 in validation else ""
        uses.append(use or (WEIGHTS if "FracAtlas" in origin and _trains(name, origin) else ""))
    return uses


def seen_warnings(uses: Sequence[str]) -> list[str]:
    """Sentences on a set of which some files were used before, from the uses that `seen_files` gives."""
    causes = {TRAINING: "The model was trained on", VALIDATION: "The model was chosen with"}
    causes[WEIGHTS] = "The weights that the model started from were trained on"
    images = f"{len(uses)} image{'s' if len(uses) != 1 else ''}"
    return [
        f"{cause} {uses.count(use)} of these {images}: these scores are too good. --split unseen leaves them out."
        for use, cause in causes.items()
        if use in uses
    ]


def _trains(name: str, origin: str) -> bool:
    """Whether an X-ray of FracAtlas by this name lies outside the parts that weights of this origin never saw."""
    image = re.match(r"IMG\d{7}(?!\d)", os.path.basename(name))
    if image is None:
        return False
    parts = fracatlas_parts()
    part = parts.loc[parts["image"] == image.group(), "part"]
    return part.empty or (part.iloc[0] == "val" and "training part" not in origin)
