"""Distillation: the loss, what a student learns from answers alone, and the same student without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.experiments.distillation import Recipe, build_student, distillation_loss, orientations, train_student
from fracturelab.training.epochs import predict, validation_scores

TINY = Recipe(width=4, epochs=1, dropout=0.0, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def bars() -> tuple[np.ndarray, np.ndarray]:
    """Noise; a bright bar across the middle of every second image."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.integers(0, 120, (40, 32, 32, 1))
    images[labels == 1, 14:18] += 100
    return images.astype(np.uint8), labels


def test_the_loss_is_cross_entropy_with_labels_and_softened_answers():
    y, p, t = np.array([0, 1, 0, 1]), np.array([0.1, 0.6, 0.5, 0.97]), np.array([0.05, 0.7, 0.9, 0.999])
    targets = np.stack([y, t], axis=1).astype(np.float32)

    def soften(p):
        return 1 / (1 + ((1 - p) / p) ** (1 / 2.5))

    def cross_entropy(q, p):
        return -np.mean(q * np.log(p) + (1 - q) * np.log(1 - p))

    hard, soft = cross_entropy(y, p), 2.5**2 * cross_entropy(soften(t), soften(p))
    for weight in (0.0, 0.3, 1.0):
        found = float(distillation_loss(weight, 2.5)(targets, p[:, None].astype(np.float32)))
        assert found == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-4)


def test_orientations_are_mirror_images():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    four = orientations(images)
    np.testing.assert_array_equal(four[1, 0, :, 0], [3, 2, 1, 0])
    np.testing.assert_array_equal(four[2, 0], images[0, 2])
    np.testing.assert_array_equal(four[3], np.rot90(images[0], 2))


def test_a_student_learns_from_answers_alone_where_labels_are_noise(bars):
    images, labels = bars
    noise = np.random.default_rng(0).permutation(labels)
    losses = {}
    for weight in (0.0, 1.0):
        recipe = replace(TINY, epochs=6, teacher_weight=weight)
        student = train_student(recipe, images, noise, np.where(labels == 1, 0.98, 0.02))
        losses[weight], _ = validation_scores(labels, predict(student, images))
    assert losses[1.0] < losses[0.0]


@pytest.mark.usefixtures("eager")
def test_one_seed_gives_one_student_and_answers_that_do_not_count_change_nothing(bars):
    images, labels = bars
    recipe = replace(TINY, dropout=0.3)
    first, again = (
        predict(train_student(recipe, images, labels, answers, seed=3), images) for answers in (labels, 1 - labels)
    )
    np.testing.assert_array_equal(first, again)
    other = predict(train_student(recipe, images, labels, labels, seed=4), images)
    assert not np.allclose(first, other, atol=1e-3)


def test_students_have_the_width_of_their_recipe():
    cnn, hybrid = (build_student(replace(TINY, architecture=name), input_size=32) for name in ("cnn", "hybrid"))
    assert [layer.filters for layer in cnn.layers if layer.name.endswith("_conv")] == [4, 8, 16, 32]
    assert hybrid.get_layer("map").output.shape[-1] == 16


def test_what_cannot_be_is_refused(bars):
    images, labels = bars
    for wrong in ({"teacher_weight": 1.5}, {"temperature": 0.0}, {"architecture": "giant"}):
        with pytest.raises(FracturelabError, match="expected"):
            train_student(replace(TINY, **wrong), images, labels, labels)
