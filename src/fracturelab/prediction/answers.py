"""A model that answers and points: P(fractured) and a Grad-CAM map in one pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.prediction.likeness import Likeness, of_card
from fracturelab.prediction.uploads import Upload


@dataclass(frozen=True)
class Answer:
    """What a model says about one picture.

    Attributes:
        probability: P(fractured).
        label: "fractured" from the model's threshold on, else "normal".
        heat: float32 (size, size) in 0..1, the letterboxed square; all 0 where nothing speaks for a fracture.
        remark: Says so where the picture is unlike the model's training images, else "".
    """

    probability: float
    label: str
    heat: NDArray[np.float32]
    remark: str = ""


@dataclass(frozen=True)
class Reader:
    """A model ready for the page.

    Attributes:
        path: The model file.
        name: What it is called.
        size: Side of its input in pixels.
        threshold: From this P(fractured) on a picture is called fractured.
        card: What was saved beside it.
        explain: uint8 (n, size, size, 1) to P(fractured) and signed evidence.
        lock: One batch at a time, however many visitors there are.
        likeness: What its training images look like; None where the card does not say.
        sha256: Of the model file.
    """

    path: Path
    name: str
    size: int
    threshold: float
    card: dict[str, Any]
    explain: Any
    lock: threading.Lock
    likeness: Likeness | None = None
    sha256: str = ""

    def mark(self, name: str, data: bytes) -> tuple[str, str, str, str]:
        """What an answer to an upload follows from: another model in the same place makes it another.

        Args:
            name: The upload's file name.
            data: Its bytes.
        """
        return str(self.path), self.sha256, name, str(hash(data))

    def answer(self, uploads: Sequence[Upload], *, batch_size: int = 8) -> list[Answer | None]:
        """Answers for uploads, in order; None for those that cannot be read.

        Args:
            uploads: Read with this model's `size`.
            batch_size: Pictures a pass.
        """
        from fracturelab.explanations.overlay import stretch, to_unit

        readable = [upload.pixels for upload in uploads if upload.pixels is not None]
        if not readable:
            return [None] * len(uploads)
        with self.lock:
            probabilities, evidence = self.explain(np.stack(readable), batch_size=batch_size)
        if not np.isfinite(probabilities).all():
            raise FracturelabError(f"{self.name}: its answers are no probabilities; the file is damaged")
        # One scale for all pictures of a model would hide the faint ones: each map has its own.
        heats = [stretch(heat, (self.size, self.size)) for heat in to_unit(evidence)]
        remarks = self.likeness.remarks(np.stack(readable)) if self.likeness is not None else [""] * len(readable)
        found = iter(
            Answer(float(p), "fractured" if p >= self.threshold else "normal", heat, remark)
            for p, heat, remark in zip(probabilities, heats, remarks, strict=True)
        )
        return [next(found) if upload.pixels is not None else None for upload in uploads]


def available_models(folder: str | Path) -> list[Path]:
    """Models with a card in a folder and in its `local/`, the shipped ones first; two-class ones only.

    Args:
        folder: Usually `places.models_folder()`.
    """
    from fracturelab.models.files import read_card

    found = []
    for path in [*sorted(Path(folder).glob("*.keras")), *sorted(Path(folder).glob("local/*.keras"))]:
        try:
            card = read_card(path)
        except FracturelabError:
            continue
        if isinstance(card.get("threshold"), int | float) and ".tmp" not in path.name:
            found.append(path)
    return found


def open_reader(path: str | Path) -> Reader:
    """Open a model once, with everything checked that `load_predictor` checks.

    Args:
        path: A `.keras` file with its card.

    Raises:
        FracturelabError: It cannot be used; the message says why.
    """
    from fracturelab.explanations.gradcam import GradCam
    from fracturelab.models.files import load_model, read_card
    from fracturelab.system.files import sha256_of

    path = Path(path)
    card = read_card(path)
    if card.get("threshold") is None:
        raise FracturelabError(f"{path.name}: its card has no threshold; train the model again")
    sha256 = sha256_of(path)
    if card.get("sha256") not in (None, sha256):
        raise FracturelabError(f"{path.name}: is not the file its card describes; fetch or train it again")
    model = load_model(path)
    shape, outputs = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 1 or outputs != (None, 1):
        raise FracturelabError(f"{path.name}: expected a model from grey squares to P(fractured). Received: {shape}")
    explain = GradCam(model)
    explain(np.zeros((1, shape[1], shape[1], 1), np.uint8))  # traced now, not while somebody waits
    name = str(card.get("name") or path.stem)
    return Reader(
        path, name, int(shape[1]), float(card["threshold"]), card, explain, threading.Lock(), of_card(card), sha256
    )
