"""Knowledge distillation: a small student learns from labels and from what a large teacher answers.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). The teacher's answer to each view of
each training image is computed once and kept; `keras.distillation.Distiller` then trains the student on labels and
answers. Its teacher here is a lookup: it passes on the answers that come with the batch.

`LogitsDistillation` takes a softmax over the outputs. Of a single sigmoid output that is always 1, and such a student
would learn nothing from its teacher. So teacher and student are shown as two logits, [0, z]: their softmax is the
sigmoid of z. Its loss is given as an object: by its default name, "kl_divergence", Keras 3.15 finds a function, leaves
the softmax out, and compares raw logits as if they were probabilities.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.experiments.teacher_views import LARGEST_LOGIT, Lessons
from fracturelab.pipeline import epoch_views, read_batches
from fracturelab.training.fitting import Fit, predict, reloaded, reseed_dropout, run_epochs, set_seed, validation_scores
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import finished_fit

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

ARCHITECTURES = ("cnn", "hybrid")
SMALL_FILTERS = (16, 32, 48, 64)
"""Of the small plain student; v1 has 32 to 256."""


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
    student: keras.Model,
    *,
    teacher_weight: float = 0.5,
    temperature: float = 2.0,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> keras.Model:
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

    order, view = epoch_views(lessons.labels, views=len(lessons.views), seed=seed, epoch=epoch)

    def read(part: slice) -> tuple[np.ndarray, ...]:
        index, views = order[part], view[part]
        z = lessons.logits[views, index]
        pairs = np.stack([np.zeros_like(z), z], axis=1)
        return lessons.views[views, index].astype(np.float32), pairs, lessons.labels[index]

    size = lessons.size
    specs = [
        tf.TensorSpec((None, size, size, 1), tf.float32),
        tf.TensorSpec((None, 2), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    ]
    return read_batches(
        read, specs, n=len(order), batch_size=batch_size, finish=lambda image, z, label: ((image, z), label)
    )


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
        student,
        teacher_weight=teacher_weight,
        temperature=temperature,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
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
            distiller,
            epoch_data,
            validate,
            stage=architecture,
            epochs=epochs,
            seed=seed,
            patience=epochs if patience is None else patience,
            plateau=4,
            folder=Path(folder),
            progress=progress,
        )
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
        student,
        prepared,
        history=history,
        candidates={},
        chosen=settings.get("architecture", "cnn"),
        weights=None,
        seed=seed,
        started=started,
        recipe={
            "recipe": "student",
            "views": len(lessons.views),
            **kept,
            "teacher": dict(lessons.teacher) if taught else None,
        },
    )
