"""Knowledge distillation: a small student is trained on labels and on the probabilities of a large teacher.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). The teacher's probability for each view
of each training image is computed once and kept. `keras.distillation.Distiller` then trains the student on labels and
on these probabilities; its teacher here is a lookup that returns the values that come with the batch.

`LogitsDistillation` takes a softmax over the outputs. Of a single sigmoid output it is always 1, so the student would
learn nothing from the teacher. For this reason teacher and student have two logits, [0, z]: their softmax is the
sigmoid of z. The loss is given as an object: by its default name, "kl_divergence", Keras 3.15 finds a function, omits
the softmax, and compares raw logits as if they were probabilities.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fracturelab.errors import FracturelabError
from fracturelab.models.transfer import FEATURES, split_at
from fracturelab.pipeline import Augmentation, epoch_views, read_batches
from fracturelab.system.files import write_json
from fracturelab.training import features
from fracturelab.training.epochs import (
    Schedule,
    predict,
    reloaded,
    reseed_dropout,
    run_epochs,
    set_seed,
    validation_scores,
)
from fracturelab.training.features import DEFAULT_STORE, FeatureStore
from fracturelab.training.fitting import Fit, finished_fit
from fracturelab.training.prepare import Prepared, check_parts
from fracturelab.training.v2 import VIEW_AUGMENTATION

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

ARCHITECTURES = ("cnn", "hybrid")
SMALL_FILTERS = (16, 32, 48, 64)
"""Filters of the small CNN; v1 has 32 to 256."""
STUDENT = Schedule(epochs=20, learning_rate=1e-3, dropout=0.2, patience=None, plateau=4)
LARGEST_LOGIT = 12.0
"""Logits are clipped here; it is a probability of 6 in a million."""
_ARRAYS = ("views", "logits", "labels", "val_images", "val_labels")


@dataclass(frozen=True)
class TransferSet:
    """The images that a student is trained on, with the teacher's logits, and those that it is validated on.

    Attributes:
        views: uint8 (views, n, size, size, 1), each view of each training image at the student's size.
        logits: float32 (views, n), the teacher's logit for the same view at the teacher's size.
        labels: (n,) 0 normal, 1 fractured.
        val_images: uint8 (m, size, size, 1).
        val_labels: (m,).
        teacher: Description of the teacher, for records.
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
    def probabilities(self) -> NDArray[np.float32]:
        """float32 (views, n), the teacher's P(fractured)."""
        return expit(self.logits)


def make_transfer_set(
    teacher: keras.Model,
    prepared: Prepared,
    *,
    teacher_prepared: Prepared | None = None,
    views: int = 4,
    seed: int = 0,
    augmentation: Augmentation = VIEW_AUGMENTATION,
    store: FeatureStore = DEFAULT_STORE,
    description: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> TransferSet:
    """Compute the teacher's logits for every view of every training image.

    A view follows from (seed, view, image), so teacher and student get the same view, each at its own size.

    Args:
        teacher: A model with one output P(fractured).
        prepared: The images at the student's size.
        teacher_prepared: The same images and split at the teacher's size; None if the sizes are equal.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        seed: Seed of the augmented views.
        augmentation: Limits of the augmented views.
        store: Where the teacher's features are kept.
        description: Description of the teacher, for records.
        progress: Show a progress bar.

    Raises:
        FracturelabError: The teacher does not fit, or a class is missing in training or validation.
    """
    theirs = prepared if teacher_prepared is None else teacher_prepared
    if teacher.output_shape[1:] != (1,) or teacher.input_shape[1] != theirs.size:
        raise FracturelabError(
            f"expected a teacher from images of {theirs.size} pixels to one P(fractured). Received: one from "
            f"{teacher.input_shape[1]} pixels to {teacher.output_shape[1:]} outputs"
        )
    train, val = check_parts(prepared)
    if not np.array_equal(theirs.hashes, prepared.hashes) or not np.array_equal(theirs.rows("train"), train):
        raise FracturelabError("expected the teacher's images to be the student's, in the same order and split")
    if views < 1:
        raise FracturelabError(f"expected at least one view of each image. Received: {views}")
    # The features of a transfer model may be stored since its own training: then only its head has to run.
    cut = FEATURES if any(layer.name == FEATURES for layer in teacher.layers) else None
    trunk, head = split_at(teacher, cut) if cut else (teacher, None)
    name = cut or "p_fracture"
    settings: dict[str, Any] = {"seed": seed, "augmentation": augmentation}
    stores = features.compute(
        {name: trunk}, theirs, rows=train, views=views, **settings, store=store, progress=progress
    )[name]
    probabilities = [np.asarray(array)[:, 0] if head is None else predict(head, array) for array in stores]
    clipped = np.clip(np.stack(probabilities).astype(np.float64), 1e-12, 1 - 1e-12)
    shown = [
        np.rint(features.view_of(prepared.images[train], view=view, rows=train, **settings)) for view in range(views)
    ]
    return TransferSet(
        views=np.stack(shown).astype(np.uint8),
        logits=np.clip(logit(clipped), -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float32),
        labels=prepared.labels[train],
        val_images=np.asarray(prepared.images[val]),
        val_labels=prepared.labels[val],
        teacher=dict(description or {}),
    )


def save_transfer_set(transfer_set: TransferSet, folder: Path) -> None:
    """Write a transfer set to a folder, for other processes.

    Raises:
        FracturelabError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(transfer_set, name), allow_pickle=False)
    except OSError as error:
        raise FracturelabError(f"{folder}: a transfer set cannot be written ({error.strerror or error})") from error
    write_json(folder / "teacher.json", transfer_set.teacher)  # last, as a sign that the arrays are complete


def load_transfer_set(folder: Path) -> TransferSet:
    """Read a transfer set from a folder.

    Raises:
        FracturelabError: There is none.
    """
    try:
        teacher = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise FracturelabError(f"{folder}: holds no transfer set ({error}); run again what saved it") from error
    return TransferSet(**arrays, teacher=teacher)


def build_student(
    architecture: str, *, input_size: int, dropout: float = 0.2, options: Mapping[str, Any] | None = None
) -> keras.Model:
    """Build an untrained student.

    Args:
        architecture: "cnn" (`build_cnn` with few filters) or "hybrid".
        input_size: Side of the input in pixels.
        dropout: Share of the last features that training leaves out.
        options: Further arguments of the builder.

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
    student: keras.Model,
    *,
    teacher_weight: float = 0.5,
    temperature: float = 2.0,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> keras.Model:
    """Wrap a student for training on ((images, the teacher's two logits), labels), and compile it.

    The loss is `(1 - teacher_weight)` times the cross-entropy with the labels, plus `teacher_weight` times the squared
    temperature times the divergence from the teacher's probabilities at this temperature.

    Args:
        student: A model with one output P(fractured); it is trained in place.
        teacher_weight: 0 for labels alone, 1 for the teacher alone.
        temperature: Both logits are divided by it before they are compared; above 1 it keeps differences between
            probabilities near 0 or 1.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.

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
    teacher_logits = keras.Input((2,), name="teacher_logits")
    smallest = float(expit(-LARGEST_LOGIT))
    p = keras.ops.clip(student.output, smallest, 1 - smallest)
    z = keras.ops.log(p) - keras.ops.log(1 - p)
    two = keras.ops.concatenate([keras.ops.zeros_like(z), z], axis=-1)
    inputs = [student.input, teacher_logits]
    distiller = keras.distillation.Distiller(
        teacher=keras.Model(inputs, keras.layers.Identity(name="lookup")(teacher_logits), name="teacher_lookup"),
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


def transfer_batches(transfer_set: TransferSet, *, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """One balanced epoch; which view of an image is used follows from (seed, epoch, image).

    Returns:
        Batches of ((float32 (b, size, size, 1), float32 (b, 2) logits of the teacher), int64 (b,) labels).
    """
    order, view = epoch_views(transfer_set.labels, views=len(transfer_set.views), seed=seed, epoch=epoch)

    def read(part: slice) -> tuple[np.ndarray, ...]:
        index, views = order[part], view[part]
        z = transfer_set.logits[views, index]
        pairs = np.stack([np.zeros_like(z), z], axis=1)
        return transfer_set.views[views, index].astype(np.float32), pairs, transfer_set.labels[index]

    return read_batches(read, n=len(order), batch_size=batch_size, finish=lambda image, z, label: ((image, z), label))


def fit_student(
    transfer_set: TransferSet,
    *,
    architecture: str = "cnn",
    options: Mapping[str, Any] | None = None,
    teacher_weight: float = 0.5,
    temperature: float = 2.0,
    schedule: Schedule = STUDENT,
    seed: int = 0,
    each_epoch: Callable[[int, float, float | None], None] | None = None,
    progress: bool = False,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Train a student; with `teacher_weight=0` the same student is trained on the same images without the teacher.

    Args:
        transfer_set: From `make_transfer_set`.
        architecture: One of `ARCHITECTURES`.
        options: Further arguments of its builder.
        teacher_weight: The teacher's share of the loss.
        temperature: Temperature of the comparison with the teacher.
        schedule: Settings of the training.
        seed: Initial weights, order, views and dropout follow from it, for every weight of the teacher.
        each_epoch: Called with the number of the epoch, validation loss and AUC; an exception of it ends the training.
        progress: Show a progress bar.

    Returns:
        The student with the weights of its epoch with the lowest validation loss (on labels alone), and the history.

    Raises:
        FracturelabError: Settings that are not possible, or a loss that is not finite from the start.
    """
    set_seed(seed)
    student = build_student(architecture, input_size=transfer_set.size, dropout=schedule.dropout, options=options)
    rates = {"learning_rate": schedule.learning_rate, "weight_decay": schedule.weight_decay}
    distiller = build_distiller(student, teacher_weight=teacher_weight, temperature=temperature, **rates)
    finished = 0

    def epoch_data(epoch: int) -> tf.data.Dataset:
        reseed_dropout(student, seed=seed, epoch=epoch)
        return transfer_batches(transfer_set, batch_size=schedule.batch_size, seed=seed, epoch=epoch)

    def validate() -> tuple[float, float | None]:
        nonlocal finished
        scores = validation_scores(transfer_set.val_labels, predict(student, transfer_set.val_images))
        if each_epoch is not None:
            each_epoch(finished, *scores)
        finished += 1
        return scores

    settings: dict[str, Any] = {"stage": architecture, "schedule": schedule, "seed": seed, "progress": progress}
    return student, run_epochs(distiller, epoch_data, validate, **settings)


def train_student(prepared: Prepared, transfer_set: TransferSet, *, seed: int = 0, **settings: Any) -> Fit:
    """Train a student and gather it as every other fit.

    Args:
        prepared: The images of the transfer set, at the student's size.
        transfer_set: From `make_transfer_set`.
        seed: Seed of the student.
        settings: Further arguments of `fit_student`.

    Returns:
        The fit; its model is the reloaded student, with a threshold chosen on the validation images.

    Raises:
        FracturelabError: As `fit_student`, or the transfer set has other images.
    """
    started = time.perf_counter()
    of_these = np.array_equal(prepared.labels[prepared.rows("train")], transfer_set.labels)
    if prepared.size != transfer_set.size or not of_these:
        raise FracturelabError("expected the images that the transfer set was made of, at the student's size")
    student, history = fit_student(transfer_set, seed=seed, **settings)
    recipe = {name: value for name, value in settings.items() if name not in ("schedule", "each_epoch", "progress")}
    recipe |= {"recipe": "student", "views": len(transfer_set.views), **asdict(settings.get("schedule", STUDENT))}
    recipe["teacher"] = dict(transfer_set.teacher) if settings.get("teacher_weight", 0.5) > 0 else None
    return finished_fit(reloaded(student), prepared, history, recipe=recipe, seed=seed, started=started)
