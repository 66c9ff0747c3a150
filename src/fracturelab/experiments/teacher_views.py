"""What a student learns from: views of the training images, their labels, and the teacher's answer to each view.

The teacher is asked once about each view, before any student is trained; the answers are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.transfer import FEATURES, split_at
from fracturelab.pipeline import Augmentation
from fracturelab.system.files import write_json
from fracturelab.training import features
from fracturelab.training.fitting import check_parts, predict
from fracturelab.training.prepare import Prepared
from fracturelab.training.v2 import VIEWS

if TYPE_CHECKING:
    import keras

LARGEST_LOGIT = 12.0
"""Probabilities nearer to 0 or 1 than 6 in a million are taken as that far."""
_ARRAYS = ("views", "logits", "labels", "val_images", "val_labels")


@dataclass(frozen=True)
class Lessons:
    """What a student learns from, and is validated on.

    Attributes:
        views: uint8 (views, n, size, size, 1), each view of each training image at the student's size.
        logits: float32 (views, n), the teacher's answer to the same view at its own size.
        labels: (n,) 0 normal, 1 fractured.
        val_images: uint8 (m, size, size, 1).
        val_labels: (m,).
        teacher: Who the teacher is, for records.
    """

    views: NDArray[np.uint8]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    val_images: NDArray[np.uint8]
    val_labels: NDArray[np.int64]
    teacher: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of the student's images in pixels."""
        return int(self.views.shape[2])

    @property
    def answers(self) -> NDArray[np.float32]:
        """float32 (views, n), the teacher's P(fractured)."""
        return (1 / (1 + np.exp(-self.logits))).astype(np.float32)


def prepare_lessons(
    teacher: keras.Model,
    prepared: Prepared,
    *,
    teacher_prepared: Prepared | None = None,
    views: int = 4,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    store_dir: str | Path | None = None,
    named: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Lessons:
    """Ask the teacher about every view of every training image, once.

    A view is a function of (seed, view, image), so teacher and student see the same view, each at its own size.

    Args:
        teacher: A model with one output P(fractured).
        prepared: The images at the student's size.
        teacher_prepared: The same images and split at the teacher's size; None where it is the student's.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        seed: Seed of the augmented views.
        augmentation: How far they may be; None for those of v2.
        store_dir: Where answers are kept; None for `features.default_store_dir()`.
        named: Who the teacher is, for records.
        progress: Show a progress bar.

    Returns:
        The lessons.

    Raises:
        FracturelabError: The teacher does not fit, or a class is missing in training or validation.
    """
    theirs = prepared if teacher_prepared is None else teacher_prepared
    if teacher.output_shape[1:] != (1,) or teacher.input_shape[1] != theirs.size:
        raise FracturelabError(
            f"expected a teacher from images of {theirs.size} pixels to one P(fractured). Received: one from "
            f"{teacher.input_shape[1]} pixels to {teacher.output_shape[1:]} outputs"
        )
    if not np.array_equal(theirs.hashes, prepared.hashes) or not np.array_equal(
        theirs.rows("train"), prepared.rows("train")
    ):
        raise FracturelabError("expected the teacher's images to be the student's, in the same order and split")
    if views < 1:
        raise FracturelabError(f"expected at least one view of each image. Received: {views}")
    train, val = prepared.rows("train"), prepared.rows("val")
    check_parts(prepared.labels, train, val, 2)
    how = augmentation or VIEWS
    # A transfer model's features may be there already, from its own training: then only its head is asked.
    cut = FEATURES if any(layer.name == FEATURES for layer in teacher.layers) else None
    trunk, head = split_at(teacher, cut) if cut else (teacher, None)
    stores = features.compute(
        {cut or "answer": trunk},
        theirs,
        rows=train,
        views=views,
        seed=seed,
        augmentation=how,
        folder=store_dir,
        progress=progress,
    )[cut or "answer"]
    said = [predict(head, one) if head is not None else np.asarray(one)[:, 0] for one in stores]
    answers = np.clip(np.stack(said).astype(np.float64), 1e-12, 1 - 1e-12)
    logits = np.clip(np.log(answers) - np.log1p(-answers), -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float32)
    shown = [
        np.rint(features.view_of(prepared.images[train], view=view, rows=train, seed=seed, augmentation=how))
        for view in range(views)
    ]
    return Lessons(
        views=np.stack(shown).astype(np.uint8),
        logits=logits,
        labels=prepared.labels[train],
        val_images=np.asarray(prepared.images[val]),
        val_labels=prepared.labels[val],
        teacher=dict(named or {}),
    )


def save_lessons(lessons: Lessons, folder: str | Path) -> Path:
    """Write lessons to a folder, for other processes to learn from.

    Raises:
        FracturelabError: The folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(lessons, name), allow_pickle=False)
    except OSError as error:
        raise FracturelabError(f"{folder}: lessons cannot be written ({error.strerror or error})") from error
    write_json(folder / "teacher.json", lessons.teacher)  # last: where it is, the arrays are whole
    return folder


def load_lessons(folder: str | Path) -> Lessons:
    """Read what `save_lessons` wrote.

    Raises:
        FracturelabError: There is nothing of the kind.
    """
    folder = Path(folder)
    try:
        teacher = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise FracturelabError(f"{folder}: holds no lessons ({error}); run again what saved them") from error
    return Lessons(**arrays, teacher=teacher)
