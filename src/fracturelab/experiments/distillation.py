"""Knowledge distillation: a small student is trained on labels and on the probabilities of a large teacher.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). A model here has one sigmoid output. A
loss that compares the softmax over the outputs, such as `keras.distillation.LogitsDistillation`, is always 0 for such
a model: the softmax of one number is 1. So the loss here compares the probabilities of both classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.training.epochs import set_seed

if TYPE_CHECKING:
    import keras

ARCHITECTURES = ("cnn", "hybrid")
SMALLEST = 6e-6
"""Probabilities are clipped here before their logit is taken."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a student.

    Attributes:
        architecture: One of `ARCHITECTURES`.
        width: Filters of the first block of the CNN, a quarter of the channels of the hybrid's map.
        epochs: Each shows every X-ray in four orientations.
        learning_rate: The first learning rate of AdamW; it falls along a half cosine to 0.
        weight_decay: Weight decay of AdamW.
        dropout: Share of the pooled values that training leaves out.
        teacher_weight: The teacher's share of the loss; 0 for labels alone, 1 for the teacher alone.
        temperature: Both logits are divided by it before they are compared.
        batch_size: Images in a batch.
    """

    architecture: str = "cnn"
    width: int = 16
    epochs: int = 5
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    teacher_weight: float = 0.0
    temperature: float = 2.0
    batch_size: int = 32


def build_student(recipe: Recipe, *, input_size: int) -> keras.Model:
    """Build an untrained student: `build_cnn` with four blocks, or `build_hybrid`.

    Raises:
        FracturelabError: There is no such architecture, or it cannot be built so.
    """
    from fracturelab.models.cnn import build_cnn
    from fracturelab.models.hybrid import build_hybrid

    if recipe.architecture not in ARCHITECTURES:
        raise FracturelabError(
            f"expected architecture to be one of {', '.join(ARCHITECTURES)}. Received: {recipe.architecture!r}"
        )
    if recipe.architecture == "hybrid":
        return build_hybrid(input_size=input_size, width=4 * recipe.width, dropout=recipe.dropout)
    filters = [recipe.width * times for times in (1, 2, 4, 8)]
    return build_cnn(input_size=input_size, filters=filters, dropout=recipe.dropout)


def distillation_loss(teacher_weight: float, temperature: float) -> Callable:
    """The loss of a student with one sigmoid output.

    It is `(1 - teacher_weight)` times the cross-entropy with the label, plus `teacher_weight` times the squared
    temperature times the cross-entropy with the teacher's answer, with both logits divided by the temperature.

    Args:
        teacher_weight: 0 for labels alone, 1 for the teacher alone.
        temperature: Above 1 it keeps differences between probabilities near 0 or 1.

    Returns:
        A Keras loss of targets (n, 2), label and P(fractured) of the teacher, and of answers (n, 1).

    Raises:
        FracturelabError: A weight outside 0 to 1, or a temperature that is not positive.
    """
    from keras import ops

    if not 0 <= teacher_weight <= 1 or not temperature > 0:
        raise FracturelabError(
            "expected teacher_weight from 0 to 1 and a positive temperature. "
            f"Received: {teacher_weight} and {temperature}"
        )

    def logit(p):
        p = ops.clip(p, SMALLEST, 1 - SMALLEST)
        return ops.log(p) - ops.log(1 - p)

    def loss(targets, p):
        label, taught = targets[:, :1], ops.sigmoid(logit(targets[:, 1:]) / temperature)
        softened = ops.sigmoid(logit(p) / temperature)
        hard, soft = (ops.mean(ops.binary_crossentropy(*pair)) for pair in ((label, p), (taught, softened)))
        return (1 - teacher_weight) * hard + teacher_weight * temperature**2 * soft

    return loss


def orientations(images: NDArray) -> NDArray:
    """Four copies of images (n, h, w, c), one after the other: as they are, and mirrored along each side and both."""
    return np.concatenate([images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]])


def train_student(
    recipe: Recipe,
    images: NDArray[np.uint8],
    labels: ArrayLike,
    answers: ArrayLike,
    *,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Train a student; the mirror images of an X-ray have its label and its answer of the teacher.

    Args:
        recipe: The settings.
        images: uint8 (n, size, size, 1).
        labels: (n,) 0 normal, 1 fractured.
        answers: (n,) the teacher's P(fractured); without effect where its weight is 0.
        seed: Initial weights, order and dropout follow from it, for every weight of the teacher.
        callbacks: Of Keras, called while it trains.

    Returns:
        The student with the weights of its last epoch.

    Raises:
        FracturelabError: Settings that are not possible.
    """
    import keras

    loss = distillation_loss(recipe.teacher_weight, recipe.temperature)
    pixels = orientations(images).astype(np.float32)
    targets = np.tile(np.stack([labels, answers], axis=1).astype(np.float32), (4, 1))
    set_seed(seed)
    student = build_student(recipe, input_size=images.shape[1])
    steps = recipe.epochs * -(-len(pixels) // recipe.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    student.compile(keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay), loss=loss)
    student.optimizer.build(student.trainable_variables)  # else the first step is traced twice
    options = {"batch_size": recipe.batch_size, "epochs": recipe.epochs, "verbose": 0}
    student.fit(pixels, targets, callbacks=list(callbacks), **options)
    return student
