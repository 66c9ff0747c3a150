"""Write into a saved model's card what its training images look like, for models saved before cards said so.

    python scripts/describe_training_images.py models/fracturelab-small.keras path/to/fracatlas

The images are found by the sha256 that the card lists. What is measured on images the model never saw goes with it: how
many of them are called unlike the training images, and how many of the same images once they are spoiled.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fracturelab.datasets import file_hashes, read_dataset
from fracturelab.errors import FracturelabError
from fracturelab.images import letterbox, load_readable_images
from fracturelab.models.files import read_card
from fracturelab.prediction.likeness import describe, negative
from fracturelab.splits import with_fracatlas_parts
from fracturelab.system.files import write_json


def narrowed(image: np.ndarray) -> np.ndarray:
    """The left half of a letterboxed image (size, size, 1), letterboxed anew."""
    return letterbox(np.ascontiguousarray(image[:, : image.shape[1] // 2]), image.shape[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    card = read_card(arguments.model)
    table = with_fracatlas_parts(read_dataset(arguments.folder))
    paths = table["path"].tolist()
    hashes = np.array(file_hashes(paths))
    pixels, reasons = load_readable_images(paths, card["input_size"])
    readable = np.isin(np.arange(len(paths)), list(reasons), invert=True)
    train, validation = (
        np.flatnonzero(readable & np.isin(hashes, card[name])) for name in ("train_hashes", "val_hashes")
    )
    unseen = np.flatnonzero(readable & (table["split"] == "test").fillna(False).to_numpy(bool))
    found = describe(pixels, train, validation)
    if found is None:
        raise FracturelabError(f"expected the model's training images in {arguments.folder}. Received: {len(train)}")
    images = np.asarray(pixels[unseen])
    rng = np.random.default_rng(0)
    spoiled = {
        "as they are": images,
        "negatives": negative(images),
        "brighter by 80": np.where(images > 0, np.minimum(images.astype(int) + 80, 255), 0).astype(np.uint8),
        "a quarter of the brightness": images // 4,
        "left half alone": np.stack([narrowed(image) for image in images]),
        "with noise": np.clip(images + rng.normal(0, 25, images.shape), 0, 255).astype(np.uint8),
    }
    measured = {name: round(float((found.scores(part) > found.limit).mean()), 4) for name, part in spoiled.items()}
    said = {**found.to_dict(), "measured": {"images": len(images), "called unlike": measured}}
    write_json(arguments.model.with_suffix(".json"), {**card, "likeness": said})
    print(len(train), len(validation), said["limit"], said["measured"])


if __name__ == "__main__":
    main()
