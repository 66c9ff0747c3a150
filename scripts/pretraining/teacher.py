"""A teacher: a frozen network whose maps, at several depths, a student learns to reproduce on the same pixels.

Both see the same small image, so the student learns what the teacher does with pixels and not how it would see a larger
image; like the teacher, it then does better on larger ones. Maps at several depths teach the early layers directly
(hints: Romero et al., *FitNets*, 2015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fracturelab.models.backbones import build_backbone, feature_layers, stride_layers

if TYPE_CHECKING:
    import keras


def build_teacher(weights_path: str | Path, *, backbone: str, options: Mapping, size: int) -> keras.Model:
    """A frozen backbone that gives its maps at strides 4, 8, 16 and 32, and the global averages of the last two.

    Args:
        weights_path: Its weights.
        backbone: Its name in `keras.applications`.
        options: Options of its builder, such as `{"alpha": 0.75}`.
        size: Side of the images it looks at, in pixels; a multiple of 32.

    Returns:
        A model from float32 (n, size, size, 1), 0..255, to a dict: maps by names such as "teacher_16", and
        "teacher_pool" (n, channels), what a frozen probe would see.
    """
    import keras

    base = build_backbone(backbone, input_size=size, options=options, weights_path=weights_path, trainable=False)
    maps = {f"teacher_{stride}": base.get_layer(name).output for stride, name in stride_layers(base).items()}
    averages = [keras.layers.GlobalAveragePooling2D()(base.get_layer(name).output) for name in feature_layers(base)]
    pool = {"teacher_pool": keras.layers.Concatenate()(averages)}
    return keras.Model(base.inputs[0], maps | pool, name="teacher")


def teacher_digest(teacher: keras.Model) -> str:
    """sha256 over a teacher's network and its weights, in hexadecimal."""
    from fracturelab.models.structure import structure_digest
    from fracturelab.models.weights import digest_of

    return hashlib.sha256(f"{structure_digest(teacher)} {digest_of(teacher)}".encode()).hexdigest()


def channel_statistics(teacher: keras.Model, batches: Iterable[np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each channel of each output of a teacher.

    Args:
        teacher: From `build_teacher`.
        batches: Images, float32 (n, size, size, 1), 0..255.
    """
    seen: dict[str, list[np.ndarray]] = {}
    for images in batches:
        for name, maps in teacher.predict_on_batch(images).items():
            seen.setdefault(name, []).append(np.asarray(maps).reshape(-1, maps.shape[-1]))
    values = {name: np.concatenate(parts) for name, parts in seen.items()}
    return {name: (value.mean(0), value.std(0) + 1e-3) for name, value in values.items()}
