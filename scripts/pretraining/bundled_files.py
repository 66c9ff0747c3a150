"""Bundled weights as files: arrays in half precision, with the description that `models.weights` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import check_scaling
from fracturelab.models.weight_files import FORMAT
from fracturelab.models.weights import SUFFIX, WeightsInfo
from fracturelab.system.files import sha256_of, whole_file, write_json

if TYPE_CHECKING:
    import keras


def save_bundled(model: keras.Model, folder: str | Path, info: WeightsInfo, **further: Any) -> WeightsInfo:
    """Write a backbone's weights in half precision with their description, each whole or not at all.

    Arrays of one dimension (batch norm's moments, biases) keep single precision: they are small, and a variance may
    lie outside the range of half precision.

    Args:
        model: A backbone from `backbones.build_backbone`.
        folder: Usually `models/weights` of the checkout.
        info: Name, backbone, options, scaling, input size, origin and licence; the rest is not used.
        further: Further keys of the description, such as how to make them again and what they were measured to do.

    Returns:
        What `resolve` gives for the written file.

    Raises:
        FracturelabError: A weight is not finite, or too large for half precision, or the folder cannot be written.
    """
    import h5py
    import numpy as np

    path = Path(folder) / (info.name + SUFFIX)
    with whole_file(path) as part, h5py.File(part, "w") as file:
        file.attrs["format"] = FORMAT
        for index, variable in enumerate(model.weights):
            array = np.asarray(variable, dtype="float32")
            stored = array.astype("float16" if array.ndim > 1 else "float32")
            if not np.isfinite(stored).all():
                raise FracturelabError(f"{variable.path}: expected finite weights within half precision")
            file.create_dataset(f"{index:04d}", data=stored).attrs["name"] = variable.path.split("/")[-1]
    kept = {key: getattr(info, key) for key in ("name", "backbone", "options", "input_size", "licence", "origin")}
    scaling = check_scaling(info.scaling, info.backbone)
    description = {**kept, "scaling": scaling, "file": path.name, "sha256": sha256_of(path), **further}
    write_json(path.with_name(info.name + ".json"), description)
    return replace(info, kind="bundled", sha256=description["sha256"], path=str(path), scaling=scaling)
