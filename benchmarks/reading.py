"""Speed from files to batches: the first pass over large JPEGs, and every later pass."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

from benchmarks import data, theirs
from benchmarks.machine import copy_speed
from benchmarks.running import Comparison, Outcome, alternate, timed, two_sides

SIZE = 224
LEAST_SECONDS = 0.5  # a pass that is sooner over is repeated until it has taken this long


def first_pass(*, paths: list[str]) -> dict[str, Any]:
    """Decode all files into a new cache, and read every batch of it."""
    from fracturelab.images import load_images
    from fracturelab.pipeline import batches

    def work(folder: str) -> int:
        images = load_images(paths, SIZE, cache_dir=folder)
        return sum(len(batch) for batch in batches(images).as_numpy_iterator())

    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as folder:
        seconds, count = timed(lambda: work(folder))
        size = sum(entry.stat().st_size for entry in os.scandir(folder))
    return {"rate": count / seconds, "bytes_an_image": size / count, "images": count}


def later_pass(*, paths: list[str], cache: str) -> dict[str, Any]:
    """Open the cache and read every batch, over several passes, because a single pass is short."""
    from fracturelab.images import load_images
    from fracturelab.pipeline import batches

    load_images(paths, SIZE, cache_dir=cache)
    seconds, count = 0.0, 0
    while seconds < LEAST_SECONDS:
        took, read = timed(
            lambda: sum(len(b) for b in batches(load_images(paths, SIZE, cache_dir=cache)).as_numpy_iterator())
        )
        seconds, count = seconds + took, count + read
    return {"rate": count / seconds, "images": count}


def their_pass(*, folder: str) -> float:
    """Images a second of the usual recipe, in any epoch."""
    measured = theirs.one_pass(folder=folder, size=SIZE)
    return measured["images"] / measured["seconds"]


def likeness(*, paths: list[str]) -> float:
    """The lowest correlation between the pixels of both sides, over images that both resize to one shape."""
    import keras
    from PIL import Image

    from fracturelab.images import read_image

    least = 1.0
    for path in paths[:8]:
        own = Image.fromarray(read_image(path, min_side=2 * SIZE)[..., 0]).resize((SIZE, SIZE), Image.Resampling.BOX)
        other = keras.utils.load_img(path, color_mode="grayscale", target_size=(SIZE, SIZE), interpolation="box")
        least = min(least, np.corrcoef(np.ravel(own), np.ravel(other))[0, 1])
    return float(least)


def decoding_rate(paths: list[str]) -> float:
    """Images a second that the JPEG library alone decodes at the reduced scale, on all cores."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=os.cpu_count(), prefer="threads") as parallel:
        parallel(delayed(_only_decode)(path) for path in paths)
        seconds, _ = timed(lambda: parallel(delayed(_only_decode)(path) for path in paths))
    return len(paths) / seconds


def _only_decode(path: str) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.draft("L", (2 * SIZE, 2 * SIZE))
        image.load()


def run_first(*, images: int, repetitions: int) -> Outcome:
    """Compare passes that begin with files alone."""
    folder = data.large_jpegs(images)
    paths = data.picture_files(folder)
    with two_sides() as (ours, other):
        other(their_pass, folder=str(folder))  # both have TensorFlow loaded and the files in the system's cache
        ours(first_pass, paths=paths[:4])
        alike = ours(likeness, paths=paths)
        measured, rates = alternate(
            lambda: ours(first_pass, paths=paths),
            lambda: other(their_pass, folder=str(folder)),
            repetitions=repetitions,
        )
    cost = max(each["bytes_an_image"] for each in measured)
    return Outcome(
        [each["rate"] for each in measured],
        rates,
        decoding_rate(paths),
        checks={
            "the same pictures (correlation above 0.99)": alike > 0.99,
            "all images on both sides": all(each["images"] == len(paths) for each in measured),
            "the cache costs at most 60 KB an image": cost <= 60_000,
        },
        details={
            "jpegs": len(paths),
            "pixels": "2304 x 2880",
            "size": SIZE,
            "cache_bytes_an_image": cost,
            "least_correlation": alike,
        },
    )


def run_later(*, images: int, repetitions: int) -> Outcome:
    """Compare passes of every later epoch."""
    folder = data.large_jpegs(images)
    paths = data.picture_files(folder)
    with two_sides() as (ours, other), tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as cache:
        other(their_pass, folder=str(folder))
        ours(later_pass, paths=paths, cache=cache)
        measured, rates = alternate(
            lambda: ours(later_pass, paths=paths, cache=cache),
            lambda: other(their_pass, folder=str(folder)),
            repetitions=repetitions,
        )
    touched = SIZE * SIZE * (1 + 4)  # bytes: a grey level read, a float32 written
    return Outcome(
        [each["rate"] for each in measured],
        rates,
        copy_speed() * 1e9 / touched,
        checks={"all images on both sides": all(each["images"] % len(paths) == 0 for each in measured)},
        details={"jpegs": len(paths), "pixels": "2304 x 2880", "size": SIZE},
    )


_SIZES = {
    "tiny": {"images": 4, "repetitions": 1},
    "default": {"images": 160, "repetitions": 3},
    "full": {"images": 200, "repetitions": 5},
}

COMPARISONS = (
    Comparison(
        "input_first_pass",
        "images/s",
        True,
        "JPEGs of 2304 x 2880 pixels to batches at 224 px, from the files. Ours decodes at a reduced scale, "
        "letterboxes and writes the cache; theirs is `image_dataset_from_directory`.",
        "the JPEG library's decoding at the reduced scale alone, on all cores.",
        _SIZES,
        run_first,
    ),
    Comparison(
        "input_later_epochs",
        "images/s",
        True,
        "The same images once more, as every epoch after the first reads them.",
        "copying the grey levels to single precision at the speed of memory.",
        _SIZES,
        run_later,
    ),
)
