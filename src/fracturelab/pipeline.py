"""Batches for training: order, balance and augmentation follow from (seed, epoch, image).

No random state passes from one batch to the next. So epoch 7 of seed 3 is the same whether or not epochs 0 to 6 ran in
this process, for every number of threads. Images may be a memory map; only a batch is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes that augmentation makes to a radiograph.

    Attributes:
        flip: Probability of mirroring left and right.
        vertical_flip: Probability of mirroring top and bottom.
        rotation: Largest rotation in both directions, in degrees.
        shift: Largest shift in both directions along each side, as a share of the side.
        zoom: Largest change of scale, as a share; 0.1 is from 1/1.1 to 1.1.
        contrast: Largest change of contrast around mid grey, as a share.
        brightness: Largest change of brightness, as a share of 255.
    """

    flip: float = 0.5
    vertical_flip: float = 0.0
    rotation: float = 15.0
    shift: float = 0.06
    zoom: float = 0.12
    contrast: float = 0.2
    brightness: float = 0.08


DEFAULT_AUGMENTATION = Augmentation()


def image_seeds(*, seed: int, epoch: int, images: ArrayLike, repeats: ArrayLike = 0) -> NDArray[np.int64]:
    """Rows of (seed, epoch, image, repeat), a row for each view, for `augment`.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        images: (n,) index of each image in its data set.
        repeats: (n,) how often the image was drawn before in this epoch; balanced epochs repeat the rarer class.
    """
    index = np.asarray(images, np.int64)
    rows = np.broadcast_arrays(np.int64(seed), np.int64(epoch), index, np.asarray(repeats, np.int64))
    return np.stack(rows, axis=-1)


def augment(
    images: NDArray[np.uint8] | tf.Tensor, *, seeds: ArrayLike, augmentation: Augmentation | None = None
) -> tf.Tensor:
    """Rotate, shift, zoom and mirror images and change their exposure; the changes to an image follow from its seed.

    Args:
        images: (n, h, w, 1), grey levels 0..255, any number type.
        seeds: (n, k) non-negative integers, a row for each image, as from `image_seeds`. Equal rows give equal views.
        augmentation: Limits of the changes; None for the defaults.

    Returns:
        float32 (n, h, w, 1), 0..255; pixels beyond the border of the image are 0, as in `images.letterbox`. Padding
        and background that are 0 stay 0.
    """
    seeds = np.atleast_2d(np.asarray(seeds, np.int64))
    transforms, contrast, brightness = _draw(seeds, augmentation or Augmentation(), images.shape[1], images.shape[2])
    return _apply(images, transforms, contrast, brightness)


def _draw(
    seeds: NDArray[np.int64], limits: Augmentation, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Projective transforms (n, 8) from output to input pixels, contrasts (n,) and brightnesses (n,)."""
    transforms = np.zeros((len(seeds), 8), np.float32)
    contrast = np.empty(len(seeds), np.float32)
    brightness = np.empty(len(seeds), np.float32)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    for row, seed in enumerate(seeds):
        flip, vertical, turn, move_x, move_y, zoom, sharp, light = np.random.default_rng(seed).random(8)
        angle = math.radians(limits.rotation) * (2 * turn - 1)
        scale = (1 + limits.zoom) ** (2 * zoom - 1)
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        mirror_x = -1.0 if flip < limits.flip else 1.0
        mirror_y = -1.0 if vertical < limits.vertical_flip else 1.0
        a, b, d, e = cos * mirror_x, -sin * mirror_x, sin * mirror_y, cos * mirror_y
        x = centre_x - a * centre_x - b * centre_y + limits.shift * width * (2 * move_x - 1)
        y = centre_y - d * centre_x - e * centre_y + limits.shift * height * (2 * move_y - 1)
        transforms[row, :6] = a, b, x, d, e, y
        contrast[row] = 1 + limits.contrast * (2 * sharp - 1)
        brightness[row] = 255 * limits.brightness * (2 * light - 1)
    return transforms, contrast, brightness


def _apply(images: tf.Tensor, transforms: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    images = tf.cast(images, tf.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    contrast, brightness = (tf.reshape(value, (-1, 1, 1, 1)) for value in (contrast, brightness))
    exposed = (moved - 127.5) * contrast + 127.5 + brightness
    return tf.where(moved > 0, tf.clip_by_value(exposed, 0.0, 255.0), 0.0)


def epoch_order(
    labels: ArrayLike, *, seed: int, epoch: int, balanced: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images of an epoch, in order.

    Args:
        labels: (n,) class of each image.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        balanced: As many draws of each class, n in all, in random order; else each image once, in the order of the
            labels. Images of the rarer class are drawn several times; of the commoner class each epoch has a different
            part. Class weights teach a network less, since they give single rare images a large weight.

    Returns:
        The indices and, for each, how often the image was drawn before in this epoch.
    """
    labels = np.asarray(labels).reshape(-1)
    n = len(labels)
    if n == 0:
        raise FracturelabError("expected at least one image to train on. Received: none")
    if not balanced:
        return np.arange(n), np.zeros(n, np.int64)
    rng = np.random.default_rng([seed, epoch])
    drawn, repeats = balanced_draws(labels, n, rng)
    # Classes are spread evenly, so that each batch, too, is balanced to within one image of a class.
    place = np.concatenate([(np.arange(len(part)) + rng.random()) / len(part) for part in drawn])
    order = np.argsort(place, kind="stable")
    return np.concatenate(drawn)[order], np.concatenate(repeats)[order]


def balanced_draws(
    labels: NDArray, n: int, rng: np.random.Generator
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Draw images, as many of each class and evenly from its images.

    Returns:
        For each class the indices that were drawn, n in all, and how often each was drawn before.
    """
    classes = np.unique(labels)
    shares = np.full(len(classes), n // len(classes))
    shares[: n % len(classes)] += 1
    drawn, repeats = [], []
    for value, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == value)
        rounds = -(-int(share) // len(members))
        drawn.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:share])
        repeats.append(np.repeat(np.arange(rounds), len(members))[:share])
    return drawn, repeats


def batches(
    images: NDArray[np.uint8],
    labels: ArrayLike | None = None,
    *,
    rows: ArrayLike | None = None,
    batch_size: int = 32,
    balanced: bool = False,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> tf.data.Dataset:
    """One epoch of batches.

    Args:
        images: uint8 (n, size, size, 1); may be a memory map.
        labels: (n,) class of each image; None for images alone.
        rows: Indices of the images to use; None for all. Random states follow from these indices, not from places in
            the epoch.
        batch_size: Images in a batch.
        balanced: See `epoch_order`.
        augmentation: Limits of the changes, which follow from (seed, epoch, image); None shows the images unchanged.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        A `tf.data.Dataset` of float32 (b, size, size, 1), 0..255, with float32 (b,) labels where there are any. Its
        cardinality is known.
    """
    import tensorflow as tf

    rows = np.arange(len(images)) if rows is None else np.asarray(rows, np.int64)
    values = np.zeros(len(images), np.float32) if labels is None else np.asarray(labels, np.float32).reshape(-1)
    if len(values) != len(images):
        raise FracturelabError(f"expected a label for each of {len(images)} images. Received: {len(values)}")
    order, repeats = epoch_order(values[rows], seed=seed, epoch=epoch, balanced=balanced)
    height, width = images.shape[1:3]

    def read(places: slice) -> tuple[np.ndarray, ...]:
        index = rows[order[places]]
        drawn: tuple[np.ndarray, ...] = ()
        if augmentation is not None:
            seeds = image_seeds(seed=seed, epoch=epoch, images=index, repeats=repeats[places])
            drawn = _draw(seeds, augmentation, height, width)
        return images[index], values[index], *drawn

    def finish(pixels: tf.Tensor, label: tf.Tensor, *drawn: tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        pixels = _apply(pixels, *drawn) if drawn else tf.cast(pixels, tf.float32)
        return pixels if labels is None else (pixels, label)

    return read_batches(read, n=len(order), batch_size=batch_size, finish=finish)


def read_batches(
    read: Callable[[slice], Sequence[np.ndarray]], *, n: int, batch_size: int, finish: Callable[..., Any]
) -> tf.data.Dataset:
    """A data set whose batches a NumPy function reads.

    Args:
        read: Returns the arrays of a batch, by its places in the epoch.
        n: Images in an epoch.
        batch_size: Images in a batch.
        finish: Turns the tensors of a batch into an element of the data set, within TensorFlow's graph.

    Returns:
        The batches, in order. Their number is known.
    """
    import tensorflow as tf

    sample = read(slice(0, 1))

    def batch(start: tf.Tensor) -> Any:
        kinds = [array.dtype for array in sample]
        arrays = tf.numpy_function(lambda first: read(slice(first, first + batch_size)), [start], kinds)
        pairs = zip(arrays, sample, strict=True)
        return finish(*[tf.ensure_shape(array, (None, *example.shape[1:])) for array, example in pairs])

    # A generator would do the same, and costs three times as long to set up, in every epoch.
    starts = tf.data.Dataset.range(0, n, batch_size)
    return starts.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2)


def epoch_views(labels: ArrayLike, *, views: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images of a balanced epoch, in order, and the stored view that is used of each.

    Args:
        labels: (n,) class of each image.
        views: Number of stored views of an image; a repeated image is used in its next view.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        The indices and, for each, the number of the view.
    """
    order, repeats = epoch_order(labels, seed=seed, epoch=epoch, balanced=True)
    first = np.random.default_rng([seed, epoch, 1]).integers(0, views, np.size(labels))
    return order, (first[order] + repeats) % views


def view_batches(
    stores: Sequence[Sequence[NDArray]],
    labels: NDArray[np.int64],
    *,
    rows: NDArray[np.int64],
    batch_size: int,
    seed: int,
    epoch: int,
    finish: Callable[..., Any] = lambda *arrays: arrays,
) -> tf.data.Dataset:
    """One balanced epoch of stored views; which view of an image is used follows from (seed, epoch, image).

    Args:
        stores: For each kind of array its views; a view is (m, ...), usually a memory map.
        labels: (n,) class of each image.
        rows: (n,) row of each image in the stores.
        batch_size: Images in a batch.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        finish: Turns the tensors of a batch into an element of the data set, within TensorFlow's graph.

    Returns:
        Batches of a float32 (b, ...) for each kind of array, and of float32 (b,) labels.
    """
    order, view = epoch_views(labels, views=len(stores[0]), seed=seed, epoch=epoch)

    def read(part: slice) -> list[NDArray[np.float32]]:
        index, views = order[part], view[part]
        arrays = [np.empty((len(index), *store[0].shape[1:]), np.float32) for store in stores]
        for number in np.unique(views):
            drawn = views == number
            for array, store in zip(arrays, stores, strict=True):
                array[drawn] = store[number][rows[index[drawn]]]
        return [*arrays, labels[index].astype(np.float32)]

    return read_batches(read, n=len(order), batch_size=batch_size, finish=finish)
