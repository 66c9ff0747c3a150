"""Distillation: the teacher's answers, what a student learns from them, and the same student without them."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.experiments.distillation import (
    STUDENT,
    TransferSet,
    build_distiller,
    fit_student,
    load_transfer_set,
    make_transfer_set,
    save_transfer_set,
    train_student,
    transfer_batches,
)
from fracturelab.models.cnn import build_cnn
from fracturelab.training import features
from fracturelab.training.epochs import predict, set_seed
from fracturelab.training.features import FeatureStore
from fracturelab.training.prepare import prepare_arrays
from fracturelab.training.v2 import VIEW_AUGMENTATION

OPTIONS = {"filters": (8, 16)}


def tiny(**changes):
    """Settings of a small student."""
    settings = {"epochs": 1, "dropout": 0.0, "batch_size": 16, "learning_rate": 3e-3}
    return {"options": OPTIONS, "schedule": replace(STUDENT, **{**settings, **changes})}


def pictures(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise; a bright bar across the middle of every second one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 120, (n, size, size, 1))
    images[labels == 1, size // 2 - 2 : size // 2 + 2] += 100
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def prepared():
    images, labels = pictures(60, 32)
    return prepare_arrays(images, labels, np.arange(60), source="bars", val=0.3)


@pytest.fixture(scope="module")
def transfer_set(prepared) -> TransferSet:
    """Lessons of a teacher who knows the labels of the training images, and says them of both views."""
    rows = prepared.rows("train")
    images = prepared.images[rows]
    logits = np.where(prepared.labels[rows] == 1, 4.0, -4.0).astype(np.float32)
    val = prepared.rows("val")
    return TransferSet(
        np.stack([images, images[:, :, ::-1]]),
        np.stack([logits] * 2),
        prepared.labels[rows],
        np.asarray(prepared.images[val]),
        prepared.labels[val],
        {"name": "oracle"},
    )


def test_the_teacher_is_asked_once_about_the_very_views_of_the_student(prepared, tmp_path, monkeypatch):
    set_seed(0)
    teacher = build_cnn(input_size=32, filters=(8, 16))
    made = make_transfer_set(teacher, prepared, views=3, seed=5, store=FeatureStore(tmp_path))
    rows = prepared.rows("train")
    for view in range(3):
        seen = features.view_of(prepared.images[rows], view=view, rows=rows, seed=5, augmentation=VIEW_AUGMENTATION)
        np.testing.assert_allclose(made.probabilities[view], predict(teacher, seen), atol=1e-5)
        np.testing.assert_allclose(made.views[view], seen, atol=0.5)
    assert made.logits.shape == (3, len(rows)) and len(made.val_labels) == len(prepared.rows("val"))
    answered = []
    monkeypatch.setattr(
        features, "view_of", lambda *a, view_of=features.view_of, **k: answered.append(0) or view_of(*a, **k)
    )
    again = make_transfer_set(teacher, prepared, views=3, seed=5, store=FeatureStore(tmp_path))
    assert len(answered) == 3  # the student's three views; the teacher's answers were found
    np.testing.assert_array_equal(again.logits, made.logits)


def test_a_teacher_may_be_larger_than_its_student(prepared, tmp_path):
    images, labels = pictures(60, 48)
    larger = prepare_arrays(images, labels, np.arange(60), source="bars", val=0.3)
    larger = type(larger)(larger.table, larger.images, prepared.hashes, larger.unreadable)
    teacher = build_cnn(input_size=48, filters=(8,))
    made = make_transfer_set(teacher, prepared, teacher_prepared=larger, views=1, store=FeatureStore(tmp_path))
    assert made.size == 32
    np.testing.assert_allclose(
        made.probabilities[0], predict(teacher, larger.images, rows=larger.rows("train")), atol=1e-5
    )
    with pytest.raises(FracturelabError, match="expected a teacher from images of 32 pixels"):
        make_transfer_set(teacher, prepared, store=FeatureStore(tmp_path))
    with pytest.raises(FracturelabError, match="same order and split"):
        make_transfer_set(
            teacher,
            prepared,
            teacher_prepared=prepare_arrays(images, labels, np.arange(60), source="x"),
            store=FeatureStore(tmp_path),
        )


def test_the_loss_is_cross_entropy_and_tempered_divergence(transfer_set):
    """Against the closed form with a single sigmoid, where Keras's softmax over one output would say 0."""
    student = build_cnn(input_size=32, filters=(8,), dropout=0.0)
    z = np.array([-3.0, 0.5, 2.0, 5.0])
    x = transfer_set.views[0][:4].astype(np.float32)
    y = np.array([0, 1, 0, 1])
    p = predict(student, x).astype(float)
    s, t = np.log(p / (1 - p)), 2.5

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    hard = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    q, r = sigmoid(z / t), sigmoid(s / t)
    soft = t**2 * np.mean(q * np.log(q / r) + (1 - q) * np.log((1 - q) / (1 - r)))
    for weight in (0.0, 0.3, 1.0):
        distiller = build_distiller(student, teacher_weight=weight, temperature=t)
        pair = [x, np.stack([0 * z, z], 1).astype(np.float32)]
        found = float(distiller.compute_loss(x=pair, y=y, y_pred=distiller(pair, training=False)))
        assert found == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-4)
    assert soft > 0.1


def test_a_student_learns_from_answers_alone_where_labels_are_noise(transfer_set):
    rng = np.random.default_rng(0)
    noise = replace(transfer_set, labels=rng.permutation(transfer_set.labels))
    _, taught = fit_student(noise, teacher_weight=1.0, **tiny(epochs=12))
    _, alone = fit_student(noise, teacher_weight=0.0, **tiny(epochs=12))
    assert min(row["val_loss"] for row in taught) < min(row["val_loss"] for row in alone)


def test_the_same_student_begins_and_sees_the_same_with_and_without_a_teacher(transfer_set):
    with_teacher, _ = fit_student(transfer_set, teacher_weight=0.5, **tiny(learning_rate=1e-12))
    without, _ = fit_student(transfer_set, teacher_weight=0.0, **tiny(learning_rate=1e-12))
    for one, other in zip(with_teacher.trainable_weights, without.trainable_weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)
    [((images, pairs), labels), *_] = list(transfer_batches(transfer_set, batch_size=8, seed=3, epoch=2))
    again = next(iter(transfer_batches(transfer_set, batch_size=8, seed=3, epoch=2)))
    np.testing.assert_array_equal(images, again[0][0])
    np.testing.assert_array_equal(np.asarray(pairs)[:, 1] > 0, np.asarray(labels) == 1)  # answers go with their images
    repeat, rows = fit_student(transfer_set, **tiny(dropout=0.3))
    once_more, others = fit_student(transfer_set, **tiny(dropout=0.3))
    assert rows == others
    np.testing.assert_array_equal(predict(repeat, transfer_set.val_images), predict(once_more, transfer_set.val_images))


def test_a_fit_says_who_taught_it(prepared, transfer_set):
    taught = train_student(
        prepared,
        transfer_set,
        architecture="hybrid",
        options={"width": 16, "heads": 2, "blocks": 1},
        schedule=replace(STUDENT, epochs=1),
        seed=2,
    )
    assert taught.recipe["teacher"] == {"name": "oracle"} and taught.recipe["architecture"] == "hybrid"
    assert taught.chosen == "hybrid" and len(taught.history) == 1
    assert isinstance(taught.model, keras.Model) and taught.model.name == "hybrid"
    assert taught.model.input_shape == (None, 32, 32, 1)  # the student alone, not the distiller
    alone = train_student(prepared, transfer_set, teacher_weight=0.0, **tiny())
    assert alone.recipe["teacher"] is None


def test_transfer_set_are_kept_and_found_again(transfer_set, tmp_path):
    save_transfer_set(transfer_set, tmp_path / "kept")
    found = load_transfer_set(tmp_path / "kept")
    for name in ("views", "logits", "labels", "val_images", "val_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(transfer_set, name))
    assert found.teacher == {"name": "oracle"}
    with pytest.raises(FracturelabError, match="holds no transfer set"):
        load_transfer_set(tmp_path)


def test_what_cannot_be_is_refused(transfer_set, prepared):
    for wrong in ({"teacher_weight": 1.5}, {"temperature": 0.0}, {"architecture": "giant"}):
        with pytest.raises(FracturelabError, match="expected"):
            fit_student(transfer_set, **{**tiny(), **wrong})
    short = replace(transfer_set, labels=transfer_set.labels[1:])
    with pytest.raises(FracturelabError, match="that the transfer set was made of"):
        train_student(prepared, short)
