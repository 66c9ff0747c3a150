import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fracturelab.errors import FracturelabError
from fracturelab.pipeline import Augmentation, augment, batches, epoch_order, image_seeds

STILL = Augmentation(flip=0, vertical_flip=0, rotation=0, shift=0, zoom=0, contrast=0, brightness=0)
IMAGES = np.random.default_rng(0).integers(1, 256, (20, 24, 24, 1)).astype(np.uint8)
LABELS = np.array([1] * 4 + [0] * 16)


def collected(data):
    parts = list(data.as_numpy_iterator())
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def test_a_view_follows_from_its_seed_alone():
    seeds = image_seeds(seed=3, epoch=1, images=np.arange(20))
    whole = np.asarray(augment(IMAGES, seeds=seeds))
    np.testing.assert_array_equal(whole, augment(IMAGES, seeds=seeds))
    np.testing.assert_allclose(whole[7:9], augment(IMAGES[7:9], seeds=seeds[7:9]), atol=1e-4)
    other = np.asarray(augment(IMAGES, seeds=image_seeds(seed=3, epoch=2, images=np.arange(20))))
    assert all(np.abs(a - b).max() > 1 for a, b in zip(whole, other, strict=True))


def test_still_is_the_identity():
    seeds = image_seeds(seed=0, epoch=0, images=np.arange(20))
    np.testing.assert_allclose(augment(IMAGES, seeds=seeds, augmentation=STILL), IMAGES, atol=1e-3)


def test_flip_and_vertical_flip_mirror_exactly():
    seeds = image_seeds(seed=0, epoch=0, images=np.arange(20))
    flip = Augmentation(**{**vars(STILL), "flip": 1.0})
    np.testing.assert_allclose(augment(IMAGES, seeds=seeds, augmentation=flip), IMAGES[:, :, ::-1], atol=1e-3)
    vertical = Augmentation(**{**vars(STILL), "vertical_flip": 1.0})
    np.testing.assert_allclose(augment(IMAGES, seeds=seeds, augmentation=vertical), IMAGES[:, ::-1], atol=1e-3)


def test_half_of_the_views_are_mirrored():
    ramp = np.tile(np.arange(1, 25, dtype=np.uint8)[None, None, :, None], (400, 24, 1, 1))
    flip = Augmentation(**{**vars(STILL), "flip": 0.5})
    views = np.asarray(augment(ramp, seeds=image_seeds(seed=0, epoch=0, images=np.arange(400)), augmentation=flip))
    mirrored = (views[:, 0, 0, 0] > views[:, 0, -1, 0]).mean()
    assert 0.42 < mirrored < 0.58


def test_padding_stays_black_and_values_stay_in_range():
    padded = np.zeros((50, 32, 32, 1), np.uint8)
    padded[:, 12:20] = 250
    bright = Augmentation(brightness=0.3, rotation=0, shift=0, zoom=0)
    views = np.asarray(augment(padded, seeds=image_seeds(seed=0, epoch=0, images=np.arange(50)), augmentation=bright))
    assert (views[:, :10] == 0).all()
    assert views.min() >= 0
    assert views.max() <= 255


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=3, max_size=60).filter(lambda found: set(found) == {0, 1, 2}),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 50),
)
def test_balanced_epochs_show_each_class_equally(labels, seed, epoch):
    labels = np.array(labels)
    order, repeats = epoch_order(labels, seed=seed, epoch=epoch, balanced=True)
    counts = np.bincount(labels[order], minlength=3)
    assert len(order) == len(labels)
    assert counts.max() - counts.min() <= 1
    assert len({(i, r) for i, r in zip(order, repeats, strict=True)}) == len(order)


def test_plain_epochs_show_each_image_once():
    assert epoch_order(LABELS, seed=0, epoch=0)[0].tolist() == list(range(20))


def test_batches_are_balanced_and_repeatable():
    arguments = {"batch_size": 6, "balanced": True, "augmentation": Augmentation(), "seed": 4, "epoch": 2}
    data = batches(IMAGES, LABELS, **arguments)
    assert len(data) == 4
    images, labels = collected(data)
    assert images.shape == (20, 24, 24, 1)
    assert images.dtype == np.float32
    assert labels.sum() == 10
    assert all(2 <= part[1].numpy().sum() <= 4 for part in list(data)[:3])
    again, _ = collected(batches(IMAGES, LABELS, **arguments))
    np.testing.assert_array_equal(images, again)


def test_repeated_images_are_different_views():
    images, labels = collected(batches(IMAGES, LABELS, balanced=True, augmentation=Augmentation(), batch_size=20))
    fractured = images[labels == 1].reshape(10, -1)
    assert len(np.unique(fractured.round(2), axis=0)) == 10


def test_rows_choose_images_and_seeds_follow_the_image():
    rows = np.array([3, 11, 17])
    some, labels = collected(batches(IMAGES, LABELS, rows=rows, augmentation=Augmentation(), seed=1, epoch=5))
    assert labels.tolist() == [1, 0, 0]
    whole, _ = collected(batches(IMAGES, LABELS, augmentation=Augmentation(), seed=1, epoch=5))
    np.testing.assert_allclose(some, whole[rows], atol=1e-4)


def test_images_without_labels_come_alone_and_unchanged():
    data = batches(IMAGES, batch_size=7)
    found = np.concatenate(list(data.as_numpy_iterator()))
    np.testing.assert_array_equal(found, IMAGES.astype(np.float32))


def test_a_memory_map_serves_as_well(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    images, _ = collected(batches(np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS))
    np.testing.assert_array_equal(images, IMAGES.astype(np.float32))


def test_refusals():
    with pytest.raises(FracturelabError, match="label for each of 20"):
        batches(IMAGES, LABELS[:5])
    with pytest.raises(FracturelabError, match="at least one image"):
        batches(IMAGES, LABELS, rows=[])
