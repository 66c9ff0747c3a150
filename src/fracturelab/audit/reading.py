"""Read every file of a data set once: checksum, size, thumbnail, or the reason why it cannot be read.

Files are read in chunks through joblib, so that `joblib.parallel_config(backend="dask")` moves the reading to a cluster
whose workers see the same paths. What is kept of an image is a thumbnail of 4 KB: 40,000 images take 164 MB.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from PIL import Image

from fracturelab.audit.duplicates import SIDE
from fracturelab.audit.keypoints import LONG_SIDE, Keypoints, find_keypoints
from fracturelab.audit.turned import changed, open_network
from fracturelab.errors import UnreadableImageError
from fracturelab.images import image_facts, letterbox, read_image
from fracturelab.images.letterbox import picture_area
from fracturelab.images.opening import MAX_FILE_BYTES, open_regular
from fracturelab.system.progress import tqdm

CHUNK = 64
"""Files a task."""

SAMPLES = 12
"""The first files of a chunk, which are turned and cropped to learn what this changes in the features."""

_SAMPLED = 50  # chunks of which samples are taken
_FEW = 256  # fewer files than this are read in this process, without starting workers
_FACTS = ["reason", "sha256", "bytes", "width", "height", "several"]


@dataclass(frozen=True)
class Readings:
    """Facts about each file after it was read.

    Attributes:
        files: One row a file, in the order of the paths. `path`; `reason` why the file cannot be read, or None;
            `sha256` of its bytes, None where they cannot be read; its length in `bytes`; `width` and `height` in pixels
            the right way up, 0 where unreadable; `several`, whether the file holds more pictures than the one read.
        thumbnails: uint8 (n, 64, 64), the whole picture squeezed into a square; 0 where unreadable.
        keypoints: Of each file, empty where unreadable; None where nobody asked for a closer look.
        features: float16 (n, k), what `turned.open_network` gives for each file; None as for keypoints.
        changes: float32 (m, k), what turns and crops change in the features of some files; None as for keypoints.
    """

    files: pd.DataFrame
    thumbnails: np.ndarray
    keypoints: list[Keypoints] | None = None
    features: np.ndarray | None = None
    changes: np.ndarray | None = None

    @property
    def readable(self) -> np.ndarray:
        """Return which files could be decoded whole: bool (n,)."""
        return self.files["reason"].isna().to_numpy()

    @property
    def unreadable(self) -> pd.DataFrame:
        """Return the files that could not be decoded, as `path` and `reason`."""
        return self.files.loc[~self.readable, ["path", "reason"]].reset_index(drop=True)


def read_files(
    paths: Sequence[str | Path], *, closer: bool = False, progress: bool = False, workers: int | None = None
) -> Readings:
    """Read files once each, several at a time.

    Args:
        paths: Image files.
        closer: Find keypoints and features too, which the search for turned and cropped copies needs.
        progress: Show a progress bar.
        workers: Processes; by default the number that `joblib.parallel_config` was given, or else one for each core.

    Returns:
        The readings, in the order of the paths.
    """
    names = [str(path) for path in paths]
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    if workers is None and joblib.effective_n_jobs(None) == 1:  # no parallel_config decides
        workers = 1 if len(names) < _FEW else os.cpu_count()
    thumbnails = np.zeros((len(names), SIDE, SIDE), np.uint8)
    facts: list[tuple[Any, ...]] = []
    keypoints: list[Keypoints] = []
    features: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    generator = np.random.default_rng(0)
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator", batch_size=1)
    with tqdm(total=len(names), desc="reading", unit="file", disable=not progress) as bar:
        for some_facts, some_thumbnails, *more in parallel(
            joblib.delayed(_read_chunk)(part, closer) for part in chunks
        ):
            if closer:
                some_keypoints, pictures = more
                network = open_network()
                exact = network(pictures)
                keypoints += some_keypoints
                features.append(exact.astype(np.float16))
                if len(features) % (len(chunks) // _SAMPLED + 1) == 0:
                    samples = changed(pictures[:SAMPLES], [each.shape for each in some_keypoints[:SAMPLES]], generator)
                    changes.append(network(samples) - exact[:SAMPLES])
            thumbnails[len(facts) : len(facts) + len(some_facts)] = some_thumbnails
            facts.extend(some_facts)
            bar.update(len(some_facts))
    files = pd.DataFrame(facts, columns=_FACTS, dtype=object)  # a path need not be UTF-8, as Arrow's strings are
    files.insert(0, "path", pd.Series(names, dtype=object))
    files = files.astype({"bytes": "int64", "width": "int64", "height": "int64", "several": bool})
    closer_look = (keypoints, np.concatenate(features), np.concatenate(changes)) if features else ()
    return Readings(files, thumbnails, *closer_look)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Squeeze an image into a square of 64 x 64 pixels by averaging areas.

    Unlike letterboxing this leaves no padding, which would make any two images of one shape look alike.

    Args:
        image: uint8, (height, width) or (height, width, 1).

    Returns:
        uint8, (64, 64).
    """
    pixels = Image.fromarray(image.reshape(image.shape[:2]))
    return np.asarray(pixels.resize((SIDE, SIDE), Image.Resampling.BOX))


def _read_chunk(paths: list[str], closer: bool) -> tuple[Any, ...]:
    facts: list[tuple[Any, ...]] = []
    thumbnails = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    pictures = np.zeros((len(paths) if closer else 0, LONG_SIDE, LONG_SIDE, 1), np.uint8)
    areas = [(slice(1), slice(1))] * len(pictures)
    for number, path in enumerate(paths):
        data, checksum = b"", None
        try:
            with open_regular(path) as file:
                data = file.read(MAX_FILE_BYTES + 1)
            checksum = hashlib.sha256(data).hexdigest() if len(data) <= MAX_FILE_BYTES else None
            header = image_facts(data)
            pixels = read_image(data, min_side=2 * SIDE)
            thumbnails[number] = thumbnail(pixels)
            if closer:
                pictures[number] = letterbox(pixels, LONG_SIDE)
                areas[number] = picture_area(pixels.shape[:2], LONG_SIDE)
            facts.append((None, checksum, len(data), header.width, header.height, header.several))
        except UnreadableImageError as error:
            facts.append((error.reason, checksum, len(data), 0, 0, False))
    keypoints = [find_keypoints(picture[..., 0][area]) for picture, area in zip(pictures, areas, strict=True)]
    return facts, thumbnails, keypoints, pictures
