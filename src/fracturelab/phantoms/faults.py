"""A folder with planted faults that an audit must find."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fracturelab.images import read_image

_LABELS = ("normal", "fractured")


def plant_faults(table: pd.DataFrame, folder: str | Path, *, seed: int = 0) -> dict[str, int]:
    """Copy X-rays into a train and a test part, and damage some of them.

    Normal X-rays are made smaller, as if they came from another machine. The test part gets copies of training images,
    one file that is cut off, and the training part one image under both labels.

    Args:
        table: Readable X-rays of both classes; up to 32 of each are used, and at least 8 are needed.
        folder: A new folder.
        seed: Decides which X-rays are used.

    Returns:
        Name of each fault and how often it was planted.
    """
    folder = Path(folder)
    each = min(32, int(table["label"].value_counts().min()))
    train: list[Path] = []
    test: list[Path] = []
    for number, row in enumerate(table.groupby("label").sample(each, random_state=seed).itertuples()):
        part = "test" if number % 4 == 0 else "train"
        path = folder / part / _LABELS[int(row.label)] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(read_image(row.path)[:, :, 0])
        if row.label == 0:
            picture = picture.resize((picture.width * 4 // 5, picture.height * 4 // 5))
        picture.save(path)
        (test if part == "test" else train).append(path)
    first = test[0].parent
    shutil.copy(train[0], first / "identical.png")
    Image.open(train[1]).save(first / "recompressed.jpg", quality=60)
    pixels = np.asarray(Image.open(train[2]))
    for number in range(1, 8):  # the other seven of the eight orientations
        turned = np.rot90(pixels[:, ::-1] if number > 3 else pixels, number % 4)
        Image.fromarray(np.ascontiguousarray(turned)).save(first / f"turned-{number}.png")
    shutil.copy(train[3], folder / "train" / "fractured" / "conflict.png")
    whole = test[1].read_bytes()
    test[1].write_bytes(whole[: min(3000, len(whole) // 2)])
    (folder / "notes.txt").write_text("not an image")
    return {
        "file that cannot be read": 1,
        "file that is no image": 1,
        "byte-identical copy across the split": 1,
        "recompressed copy across the split": 1,
        "mirrored or turned copies across the split": 7,
        "image under both labels": 1,
    }
