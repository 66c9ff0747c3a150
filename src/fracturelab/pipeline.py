"""Batches for training: order, balance and augmentation, all of it a function of (seed, epoch, image).

Nothing here carries a random state from one batch to the next: epoch 7 of seed 3 is the same whether or not epochs 0
to 6 ran in this process, and whatever the number of threads. Images may be a memory map; only a batch is in memory.
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
    """How far a view of a radiograph may be from the radiograph.

    Attributes:
        flip: Chance of mirroring left and right.
        vertical_flip: Chance of mirroring top and bottom.
        rotation: Largest turn either way, in degrees.
        shift: Largest shift either way along each side, as a share of the side.
        zoom: Largest change of scale either way, as a share; 0.1 is from 1/1.1 to 1.1.
        contrast: Largest change of contrast either way around mid grey, as a share.
        brightness: Largest change of brightness either way, as a share of 255.
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
    """Rows of (seed, epoch, image, repeat), one a view, for `augment`.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        images: (n,) index of each image in its data set.
        repeats: (n,) how often the image came before in this epoch; balanced epochs repeat the rarer class.
    """
    index = np.asarray(images, np.int64)
    rows = np.broadcast_arrays(np.int64(seed), np.int64(epoch), index, np.asarray(repeats, np.int64))
    return np.stack(rows, axis=-1)


def augment(
    images: NDArray[np.uint8] | tf.Tensor, *, seeds: ArrayLike, augmentation: Augmentation | None = None
) -> tf.Tensor:
    """Turn, shift, zoom, mirror and re-expose images, each as its own seed says.

    Args:
        images: (n, h, w, 1), grey levels 0..255, any number type.
        seeds: (n, k) non-negative integers, a row an image, as from `image_seeds`. Equal rows give equal views.
        augmentation: How far; None for the defaults.

    Returns:
        float32 (n, h, w, 1), 0..255; what lies outside the image is 0, as in `images.letterbox`. Padding and
        background that are 0 stay 0.
    """
    seeds = np.atleast_2d(np.asarray(seeds, np.int64))
    transforms, contrast, brightness = _draw(seeds, augmentation or Augmentation(), images.shape[1], images.shape[2])
    return _apply(images, transforms, contrast, brightness)


def _draw(
    seeds: NDArray[np.int64], how: Augmentation, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Projective transforms (n, 8) from output to input pixels, contrasts (n,) and brightnesses (n,)."""
    transforms = np.zeros((len(seeds), 8), np.float32)
    contrast = np.empty(len(seeds), np.float32)
    brightness = np.empty(len(seeds), np.float32)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    for row, seed in enumerate(seeds):
        flip, vertical, turn, move_x, move_y, zoom, sharp, light = np.random.default_rng(seed).random(8)
        angle = math.radians(how.rotation) * (2 * turn - 1)
        scale = (1 + how.zoom) ** (2 * zoom - 1)
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        mirror_x = -1.0 if flip < how.flip else 1.0
        mirror_y = -1.0 if vertical < how.vertical_flip else 1.0
        a, b, d, e = cos * mirror_x, -sin * mirror_x, sin * mirror_y, cos * mirror_y
        x = centre_x - a * centre_x - b * centre_y + how.shift * width * (2 * move_x - 1)
        y = centre_y - d * centre_x - e * centre_y + how.shift * height * (2 * move_y - 1)
        transforms[row, :6] = a, b, x, d, e, y
        contrast[row] = 1 + how.contrast * (2 * sharp - 1)
        brightness[row] = 255 * how.brightness * (2 * light - 1)
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
    labels: ArrayLike, *, seed: int, epoch: int, shuffle: bool = True, balanced: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images an epoch shows, in which order.

    Args:
        labels: (n,) class of each image.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        shuffle: In random order; always so where balanced.
        balanced: As many draws of each class as of any other, n together: the rarer class comes several times, of the
            commoner one a different part in each epoch. A network learns from such epochs what class weights, which
            make rare images shout, teach it badly.

    Returns:
        The indices and, for each, how often the image came before in this epoch.
    """
    labels = np.asarray(labels).reshape(-1)
    n = len(labels)
    if n == 0:
        raise FracturelabError("expected at least one image to train on. Received: none")
    rng = np.random.default_rng([seed, epoch])
    if not balanced:
        order = rng.permutation(n) if shuffle else np.arange(n)
        return order, np.zeros(n, np.int64)
    classes = np.unique(labels)
    shares = np.full(len(classes), n // len(classes))
    shares[: n % len(classes)] += 1
    drawn, repeats = [], []
    for value, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == value)
        rounds = -(-int(share) // len(members))
        drawn.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:share])
        repeats.append(np.repeat(np.arange(rounds), len(members))[:share])
    # Classes are dealt out evenly, so that a batch, too, is balanced to within one image a class.
    place = np.concatenate([(np.arange(len(part)) + rng.random()) / len(part) for part in drawn])
    order = np.argsort(place, kind="stable")
    return np.concatenate(drawn)[order], np.concatenate(repeats)[order]


def epoch_views(labels: ArrayLike, *, views: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images a balanced epoch shows, in which order, and which of its stored views each time.

    Args:
        labels: (n,) class of each image.
        views: Views that are stored of an image; one that comes again comes in the next one.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        The indices and, for each, the number of the view.
    """
    order, repeats = epoch_order(labels, seed=seed, epoch=epoch, balanced=True)
    first = np.random.default_rng([seed, epoch, 1]).integers(0, views, np.size(labels))
    return order, (first[order] + repeats) % views


def batches(
    images: NDArray[np.uint8],
    labels: ArrayLike | None = None,
    *,
    rows: ArrayLike | None = None,
    batch_size: int = 32,
    shuffle: bool = False,
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
        batch_size: Images a batch.
        shuffle: In random order.
        balanced: See `epoch_order`.
        augmentation: Augment each image as (seed, epoch, image) says; None shows the images as they are.
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
    order, repeats = epoch_order(values[rows], seed=seed, epoch=epoch, shuffle=shuffle, balanced=balanced)
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

    one = tf.TensorSpec((None,), tf.float32)
    specs = [tf.TensorSpec((None, height, width, 1), tf.uint8), one]
    drawn_specs = [] if augmentation is None else [tf.TensorSpec((None, 8), tf.float32), one, one]
    return read_batches(read, specs + drawn_specs, n=len(order), batch_size=batch_size, finish=finish)


def read_batches(
    read: Callable[[slice], Sequence[np.ndarray]],
    specs: Sequence[tf.TensorSpec],
    *,
    n: int,
    batch_size: int,
    finish: Callable[..., Any],
) -> tf.data.Dataset:
    """A data set whose batches a NumPy function reads.

    Args:
        read: From the places of a batch in the epoch to its arrays.
        specs: Shape and type of each array.
        n: Images an epoch.
        batch_size: Images a batch.
        finish: From the tensors of a batch to what the data set yields; part of TensorFlow's graph.

    Returns:
        The batches, in order. Their number is known.
    """
    import tensorflow as tf

    def batch(start: tf.Tensor) -> Any:
        kinds = [spec.dtype for spec in specs]
        arrays = tf.numpy_function(lambda first: read(slice(first, first + batch_size)), [start], kinds)
        return finish(*[tf.ensure_shape(array, spec.shape) for array, spec in zip(arrays, specs, strict=True)])

    # A generator would do the same, and costs three times as long to set up, in every epoch.
    starts = tf.data.Dataset.range(0, n, batch_size)
    return starts.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2)
