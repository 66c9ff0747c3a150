"""The recipe that most projects of this field use, in plain Keras and without code of fracturelab.

`image_dataset_from_directory` decodes every file in every epoch, augmentation is part of the model, the whole network
runs in every epoch with its lower part frozen, and `model.predict` answers. (The one thing that is ours is the file of
weights that both sides start from: ImageNet's cannot be had offline.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

_kept: dict[str, Any] = {}  # a model from one call of this process to the next


def data(folder: str, size: int, *, shuffle: bool, batch_size: int = 32) -> Any:
    """Read a folder of class folders as batches of float32 RGB."""
    import keras

    return keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary",
        class_names=["normal", "fractured"],
        image_size=(size, size),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=0,
        verbose=False,
    )


def build(size: int, backbone: str, options: Mapping[str, Any], weights: str | None, scaling: Mapping) -> Any:
    """Build augmentation, a frozen backbone without its top, and a dense layer; return the model and the backbone."""
    import keras
    from keras import layers

    base = getattr(keras.applications, backbone)(
        include_top=False, weights=None, input_shape=(size, size, 3), **options
    )
    if weights:
        from fracturelab.models.weight_files import load_into

        load_into(base, weights)
    base.trainable = False
    inputs = keras.Input((size, size, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(10 / 360)(x)
    x = layers.RandomZoom(0.08)(x)
    x = layers.RandomContrast(0.15)(x)
    x = layers.Rescaling(scaling["scale"], scaling["offset"])(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), base


def _fit(model: Any, folder: str, size: int, epochs: int) -> float:
    """Train, and return the ROC AUC on the validation images."""
    from sklearn.metrics import roc_auc_score

    train, val = data(f"{folder}/train", size, shuffle=True), data(f"{folder}/val", size, shuffle=False)
    model.fit(train, validation_data=val, epochs=epochs, verbose=0, shuffle=False)
    answers = model.predict(val, verbose=0)[:, 0]
    labels = np.concatenate([labels[:, 0] for _, labels in val.as_numpy_iterator()])
    return float(roc_auc_score(labels, answers))


def train_head(*, folder: str, size: int, epochs: int, seed: int, **network: Any) -> dict[str, Any]:
    """Train the head."""
    import keras

    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model, base = build(size, **network)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    auc = _fit(model, folder, size, epochs)
    _kept["head"] = model, base, model.get_weights()
    return {"val_auc": auc, "seconds": time.perf_counter() - began}


def fine_tune(*, folder: str, size: int, epochs: int, line: str) -> dict[str, Any]:
    """Train the backbone's last stage further, from the head that `train_head` left."""
    import keras

    model, base, weights = _kept["head"]
    began = time.perf_counter()
    model.set_weights(weights)
    base.trainable = True
    names = [layer.name for layer in base.layers]
    for layer in base.layers[: names.index(line) + 1]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", metrics=["accuracy"])
    auc = _fit(model, folder, size, epochs)
    return {"val_auc": auc, "seconds": time.perf_counter() - began}


def one_pass(*, folder: str, size: int) -> dict[str, Any]:
    """Read every image of a folder once, in batches."""
    began = time.perf_counter()
    count = sum(len(images) for images, _ in data(folder, size, shuffle=True).as_numpy_iterator())
    return {"seconds": time.perf_counter() - began, "images": count}


def predict(*, model: str, images: np.ndarray, batch_size: int = 32) -> dict[str, Any]:
    """Time `model.predict` of a saved model, without its opening and its first answer."""
    import keras

    if model not in _kept:
        _kept[model] = keras.saving.load_model(model, compile=False)
        _kept[model].predict(images[:batch_size].astype(np.float32), batch_size=batch_size, verbose=0)
    began = time.perf_counter()
    answers = _kept[model].predict(images.astype(np.float32), batch_size=batch_size, verbose=0)
    return {"seconds": time.perf_counter() - began, "answers": answers[:, 0]}


COLD = """
import sys
import keras
import numpy as np
model = keras.saving.load_model(sys.argv[1])
size = model.input_shape[1]
image = keras.utils.load_img(sys.argv[2], color_mode="grayscale", target_size=(size, size))
print(float(model.predict(np.asarray(image, "float32")[None, :, :, None], verbose=0)[0, 0]))
"""
"""A script that answers one image with a model from a cold start."""


def find_copies(*, paths: list[str], distance: int = 10) -> dict[str, Any]:
    """Find near-duplicates by a perceptual hash of each file in each orientation, over all pairs.

    The hash is pHash as the usual packages compute it: 32 x 32 pixels, cosine transform, the 8 x 8 lowest frequencies
    against their median. Two images are called copies up to `distance` of 64 bits, the usual threshold.
    """
    from PIL import Image
    from scipy.fft import dct

    began = time.perf_counter()
    turns = [None, *Image.Transpose]
    hashes = np.zeros((len(turns), len(paths)), np.uint64)
    for row, path in enumerate(paths):
        with Image.open(path) as file:
            image = file.convert("L")
        for column, turn in enumerate(turns):
            turned = image if turn is None else image.transpose(turn)
            pixels = np.asarray(turned.resize((32, 32), Image.Resampling.LANCZOS), float)
            low = dct(dct(pixels, axis=0), axis=1)[:8, :8]
            hashes[column, row] = np.packbits(low > np.median(low)).view(np.uint64)[0]
    hashed = time.perf_counter()
    first, second = [], []
    for row, own in enumerate(hashes[0][:-1]):
        near = np.flatnonzero((np.bitwise_count(hashes[:, row + 1 :] ^ own) <= distance).any(axis=0))
        first.append(np.full(len(near), row, np.int32))
        second.append((row + 1 + near).astype(np.int32))
    ended = time.perf_counter()
    pairs = np.stack([np.concatenate(first), np.concatenate(second)])
    return {"seconds": ended - began, "search_seconds": ended - hashed, "pairs": pairs}
