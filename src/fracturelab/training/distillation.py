"""Knowledge distillation: a small student learns from labels and from what a large teacher answers.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). The teacher's answer to each view of
each training image is computed once and kept; `keras.distillation.Distiller` then trains the student on labels and
answers. Its teacher here is a lookup: it passes on the answers that come with the batch.

`LogitsDistillation` takes a softmax over the outputs. Of a single sigmoid output that is always 1, and such a student
would learn nothing from its teacher, without a warning. So teacher and student are shown as two logits, [0, z]: their
softmax is the sigmoid of z. Its loss is given as an object: by its default name, "kl_divergence", Keras 3.15 finds a
function, leaves the softmax out, and compares raw logits as if they were probabilities.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.files import write_json
from fracturelab.models.transfer import FEATURES, split_at
from fracturelab.pipeline import Augmentation, epoch_order
from fracturelab.training import features
from fracturelab.training.fitting import (
    Fit,
    check_parts,
    predict,
    reloaded,
    reseed_dropout,
    run_epochs,
    set_seed,
    validation_scores,
)
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import finished_fit
from fracturelab.training.v2 import VIEWS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

ARCHITECTURES = ("cnn", "hybrid")
SMALL_FILTERS = (16, 32, 48, 64)
"""Of the small plain student; v1 has 32 to 256."""
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
    if not np.array_equal(theirs.hashes, prepared.hashes) or not np.array_equal(theirs.rows("train"),
                                                                                 prepared.rows("train")):  # fmt: skip
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
        {cut or "answer": trunk}, theirs, rows=train, views=views, seed=seed, augmentation=how, folder=store_dir,
        progress=progress,
    )[cut or "answer"]  # fmt: skip
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
    import json

    folder = Path(folder)
    try:
        teacher = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise FracturelabError(f"{folder}: holds no lessons ({error}); run again what saved them") from error
    return Lessons(**arrays, teacher=teacher)


def build_student(
    architecture: str, *, input_size: int, dropout: float = 0.2, options: Mapping[str, Any] | None = None
) -> keras.Model:
    """Build an untrained student.

    Args:
        architecture: "cnn" (`build_cnn` with few filters) or "hybrid".
        input_size: Side of the input in pixels.
        dropout: Of the student.
        options: Further arguments of its builder.

    Raises:
        FracturelabError: There is no such architecture, or it cannot be built so.
    """
    from fracturelab.models.cnn import build_cnn
    from fracturelab.models.hybrid import build_hybrid

    if architecture not in ARCHITECTURES:
        raise FracturelabError(
            f"expected architecture to be one of {', '.join(ARCHITECTURES)}. Received: {architecture!r}"
        )
    settings: dict[str, Any] = {"input_size": input_size, "dropout": dropout, **(options or {})}
    if architecture == "hybrid":
        return build_hybrid(**settings)
    return build_cnn(**{"filters": SMALL_FILTERS, **settings})


def build_distiller(
    student: keras.Model, *, teacher_weight: float = 0.5, temperature: float = 2.0, learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> keras.Model:  # fmt: skip
    """Wrap a student for training on ((images, the teacher's two logits), labels), and compile it.

    The loss is `(1 - teacher_weight)` times the cross-entropy with the labels plus `teacher_weight` times the
    divergence from the teacher's answer at this temperature, times its square.

    Args:
        student: A model with one output P(fractured); it is trained in place.
        teacher_weight: 0 for labels alone, 1 for the teacher alone.
        temperature: What both logits are divided by before they are compared; above 1 it shows how sure the teacher is.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.

    Returns:
        A compiled `keras.distillation.Distiller`.

    Raises:
        FracturelabError: A weight outside 0 to 1, or a temperature that is not positive.
    """
    import keras

    if not 0 <= teacher_weight <= 1 or not temperature > 0:
        raise FracturelabError(
            "expected teacher_weight from 0 to 1 and a positive temperature. "
            f"Received: {teacher_weight} and {temperature}"
        )
    answers = keras.Input((2,), name="teacher_logits")
    smallest = float(1 / (1 + np.exp(LARGEST_LOGIT)))
    p = keras.ops.clip(student.output, smallest, 1 - smallest)
    z = keras.ops.log(p) - keras.ops.log(1 - p)
    two = keras.ops.concatenate([keras.ops.zeros_like(z), z], axis=-1)
    inputs = [student.input, answers]
    distiller = keras.distillation.Distiller(
        teacher=keras.Model(inputs, keras.layers.Identity(name="lookup")(answers), name="teacher_lookup"),
        student=keras.Model(inputs, two, name="student_logits"),
        distillation_losses=keras.distillation.LogitsDistillation(float(temperature), keras.losses.KLDivergence()),
        student_loss_weight=1.0 - float(teacher_weight),
    )
    distiller.compile(
        optimizer=keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return distiller


def lesson_batches(lessons: Lessons, *, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """One balanced epoch; which view of an image comes follows from (seed, epoch, image).

    Args:
        lessons: The lessons.
        batch_size: Images a batch.
        seed: Seed of the run.
        epoch: Number of the epoch.

    Returns:
        Batches of ((float32 (b, size, size, 1), float32 (b, 2) logits of the teacher), int64 (b,) labels).
    """
    import tensorflow as tf

    order, repeats = epoch_order(lessons.labels, seed=seed, epoch=epoch, balanced=True)
    first = np.random.default_rng([seed, epoch, 1]).integers(0, len(lessons.views), len(lessons.labels))
    view = (first[order] + repeats) % len(lessons.views)

    def produce():
        for start in range(0, len(order), batch_size):
            index, views = order[start : start + batch_size], view[start : start + batch_size]
            z = lessons.logits[views, index]
            pairs = np.stack([np.zeros_like(z), z], axis=1)
            yield (lessons.views[views, index].astype(np.float32), pairs), lessons.labels[index]

    size = lessons.size
    images, logits = tf.TensorSpec((None, size, size, 1), tf.float32), tf.TensorSpec((None, 2), tf.float32)
    signature = (images, logits), tf.TensorSpec((None,), tf.int64)
    data = tf.data.Dataset.from_generator(produce, output_signature=signature)
    return data.apply(tf.data.experimental.assert_cardinality(-(-len(order) // batch_size))).prefetch(2)


def fit_student(
    lessons: Lessons,
    *,
    architecture: str = "cnn",
    options: Mapping[str, Any] | None = None,
    teacher_weight: float = 0.5,
    temperature: float = 2.0,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    dropout: float = 0.2,
    batch_size: int = 32,
    epochs: int = 20,
    patience: int | None = None,
    seed: int = 0,
    each_epoch: Callable[[int, float, float | None], None] | None = None,
    progress: bool = False,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Train a student on lessons; with `teacher_weight=0` the same student sees the same images without the teacher.

    Args:
        lessons: From `prepare_lessons`.
        architecture: One of `ARCHITECTURES`.
        options: Further arguments of its builder.
        teacher_weight: Share of the loss that is the teacher's.
        temperature: Of the comparison with the teacher.
        learning_rate: AdamW's first; lowered on a plateau of the validation loss.
        weight_decay: Of AdamW.
        dropout: Of the student.
        batch_size: Images a batch.
        epochs: Most epochs.
        patience: Epochs without a better validation loss before training stops; None never stops early.
        seed: Weights, order, views and dropout follow from it, whatever the teacher's weight.
        each_epoch: Called with the number of the epoch, validation loss and AUC; what it raises ends the training.
        progress: Show a progress bar.

    Returns:
        The student with the weights of its best epoch by validation loss (of labels, never of the teacher), and the
        history.

    Raises:
        FracturelabError: Settings that cannot be, or a loss that is not finite from the start.
    """
    set_seed(seed)
    student = build_student(architecture, input_size=lessons.size, dropout=dropout, options=options)
    distiller = build_distiller(
        student, teacher_weight=teacher_weight, temperature=temperature, learning_rate=learning_rate,
        weight_decay=weight_decay,
    )  # fmt: skip
    seen = 0

    def epoch_data(epoch: int) -> tf.data.Dataset:
        reseed_dropout(student, seed=seed, epoch=epoch)
        return lesson_batches(lessons, batch_size=batch_size, seed=seed, epoch=epoch)

    def validate() -> tuple[float, float | None]:
        nonlocal seen
        scores = validation_scores(lessons.val_labels, predict(student, lessons.val_images))
        if each_epoch is not None:
            each_epoch(seen, *scores)
        seen += 1
        return scores

    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        history = run_epochs(
            distiller, epoch_data, validate, stage=architecture, epochs=epochs, seed=seed,
            patience=epochs if patience is None else patience, plateau=4, folder=Path(folder), progress=progress,
        )  # fmt: skip
    return student, history


def train_student(prepared: Prepared, lessons: Lessons, *, seed: int = 0, **settings: Any) -> Fit:
    """Train a student and gather it as every other fit.

    Args:
        prepared: What the lessons were made of, at the student's size.
        lessons: From `prepare_lessons`.
        seed: Of the student.
        settings: As of `fit_student`.

    Returns:
        The fit; its model is the reloaded student, with a threshold chosen on the validation images.

    Raises:
        FracturelabError: As `fit_student`, or the lessons are of other images.
    """
    started = time.perf_counter()
    if prepared.size != lessons.size or not np.array_equal(prepared.labels[prepared.rows("train")], lessons.labels):
        raise FracturelabError("expected the images that the lessons were made of, at the student's size")
    student, history = fit_student(lessons, seed=seed, **settings)
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        student = reloaded(student, Path(folder) / "student.keras")
    kept = {name: value for name, value in settings.items() if name not in ("each_epoch", "progress")}
    taught = settings.get("teacher_weight", 0.5) > 0
    return finished_fit(
        student, prepared, history=history, candidates={}, chosen=settings.get("architecture", "cnn"), weights=None,
        seed=seed, started=started,
        recipe={
            "recipe": "student", "views": len(lessons.views), **kept,
            "teacher": dict(lessons.teacher) if taught else None,
        },
    )  # fmt: skip
