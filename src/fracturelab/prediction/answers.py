"""Answers to uploads: P(fractured), a heat map, and a remark where an answer is not to be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.prediction.predictor import Predictor
from fracturelab.prediction.uploads import Upload


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one picture.

    Attributes:
        probability: P(fractured).
        label: "fractured" from the model's threshold on, else "normal".
        heat: float32 (size, size) in 0..1, the letterboxed square; all 0 where nothing speaks for a fracture; None
            for a model without feature maps.
        remark: Why the answer should not be taken as it is (the picture is unlike the training images, or was one of
            them), else "".
    """

    probability: float
    label: str
    heat: NDArray[np.float32] | None
    remark: str = ""


def answer_uploads(predictor: Predictor, uploads: Sequence[Upload]) -> list[Answer | None]:
    """Answers for uploads, in order; None for those that cannot be read.

    Args:
        predictor: A model; one batch at a time goes through it, however many threads ask.
        uploads: Read with this model's `input_size`.
    """
    readable = [upload for upload in uploads if upload.pixels is not None]
    if not readable:
        return [None] * len(uploads)
    images = np.stack([upload.pixels for upload in readable if upload.pixels is not None])
    with predictor.lock:
        probabilities, heats = predictor.explain(images)
    remarks = predictor.remarks_on_files(images, [u.key for u in readable], [u.name for u in readable])
    maps = [None] * len(readable) if heats is None else list(heats)
    answers = iter(
        Answer(float(p), predictor.label(p), heat, remark)
        for p, heat, remark in zip(probabilities, maps, remarks, strict=True)
    )
    return [None if upload.pixels is None else next(answers) for upload in uploads]


def available_models(folder: str | Path) -> list[Path]:
    """Models with a card in a folder and in its `local/`, the shipped ones first; those with a threshold only.

    Args:
        folder: Usually `system.folders.models_folder()`.
    """
    from fracturelab.models.files import read_card

    models = []
    for path in [*sorted(Path(folder).glob("*.keras")), *sorted(Path(folder).glob("local/*.keras"))]:
        try:
            card = read_card(path)
        except FracturelabError:
            continue
        if card.get("threshold") is not None and ".tmp" not in path.name:
            models.append(path)
    return models
