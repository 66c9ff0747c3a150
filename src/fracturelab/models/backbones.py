"""Backbones of `keras.applications` and EfficientNet-Lites as one flat graph from raw grey pixels to feature maps.

A backbone here takes what `fracturelab.images` gives (grey levels 0 to 255, bone bright) and does the rest inside:
grey is repeated to three channels, then scaled as the weights expect it. Only built-in layers are used, so that a
saved model opens with `safe_mode` and exports to other runtimes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.models.efficientnet_lite import BUILDERS
from fracturelab.models.norms import fuse_norms
from fracturelab.models.weight_files import load_into
from fracturelab.system.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

INPUT_NAME = "xray"

# How the ImageNet weights expect RGB in 0..255, each as `x * scale + offset` a channel
# (keras.applications.imagenet_utils). "caffe" also swaps RGB to BGR, which changes nothing for three equal channels
# except the order of the means.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
SCALINGS: dict[str, dict[str, list[float]]] = {
    "caffe": {"scale": [1.0, 1.0, 1.0], "offset": [-103.939, -116.779, -123.68]},
    "tf": {"scale": [1 / 127.5] * 3, "offset": [-1.0] * 3},
    "torch": {
        "scale": [1 / (255 * std) for std in _IMAGENET_STD],
        "offset": [-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)],
    },
    # MEAN_RGB and STDDEV_RGB of efficientnet_lite_builder
    "lite": {"scale": [1 / 128] * 3, "offset": [-127 / 128] * 3},
    "none": {"scale": [1.0] * 3, "offset": [0.0] * 3},
}

# First match wins. "none": the network scales 0..255 itself.
_MODES: tuple[tuple[str, str], ...] = (
    (r"ResNet\d+V2|MobileNet(V2)?$|Inception|Xception|NASNet", "tf"),
    (r"ResNet\d+$|VGG", "caffe"),
    (r"DenseNet", "torch"),
    (r"EfficientNetLite", "lite"),
    (r"EfficientNet|MobileNetV3|ConvNeXt", "none"),
)


def default_scaling(name: str) -> dict[str, list[float]]:
    """Look up how grey levels are scaled for the ImageNet weights of a backbone.

    Args:
        name: A name of `keras.applications`, such as "ResNet50".

    Returns:
        `{"scale": [r, g, b], "offset": [r, g, b]}`; the network gets `grey * scale + offset`, grey in 0..255.

    Raises:
        FracturelabError: The scaling of this backbone is not known.
    """
    for pattern, mode in _MODES:
        if re.match(pattern, name):
            return SCALINGS[mode]
    raise FracturelabError(f"expected a backbone whose scaling is known. Received: {name}; pass `scaling`")


def check_input_size(input_size: int) -> None:
    """Refuse a side that is no whole number from 32 to 2048."""
    if isinstance(input_size, bool) or not isinstance(input_size, int) or not 32 <= input_size <= 2048:
        raise FracturelabError(f"expected input_size from 32 to 2048 pixels. Received: {input_size!r}")


def check_scaling(scaling: str | Mapping[str, Any] | None, name: str) -> dict[str, list[float]]:
    """Turn a scaling into three scales and three offsets.

    Args:
        scaling: A name such as "torch", `{"scale": ..., "offset": ...}` with a number or three each, or None for that
            of the backbone's ImageNet weights.
        name: Name of the backbone.

    Raises:
        FracturelabError: It is no such scaling.
    """
    if scaling is None:
        return default_scaling(name)
    if isinstance(scaling, str):
        if scaling not in SCALINGS:
            raise FracturelabError(f"expected scaling to be one of {sorted(SCALINGS)}. Received: {scaling!r}")
        return SCALINGS[scaling]
    result = {}
    for key in ("scale", "offset"):
        value: Any = scaling.get(key)
        values = value if isinstance(value, list | tuple) else [value] * 3
        if len(values) != 3 or not all(isinstance(v, int | float) and abs(v) < 1e6 for v in values):
            raise FracturelabError(f"expected scaling[{key!r}] to be a number or three. Received: {value!r}")
        result[key] = [float(v) for v in values]
    return result


def find_builder(name: str) -> Callable[..., Any]:
    """Find the function that builds a backbone.

    Raises:
        FracturelabError: The name is not known; the message lists the nearest known names.
    """
    load_tensorflow()
    import keras

    keras_names = [name for name in dir(keras.applications) if name[0].isupper()]
    known = {name: getattr(keras.applications, name) for name in keras_names} | BUILDERS
    if name not in known:
        near = [other for other in known if other.casefold() == name.casefold()] or get_close_matches(name, known)
        listed = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        raise FracturelabError(f"expected a backbone that is known. Received: {name!r}; {listed}")
    return known[name]


def build_backbone(
    name: str = "ResNet50",
    *,
    input_size: int = 224,
    options: Mapping[str, Any] | None = None,
    weights_path: str | Path | None = None,
    scaling: str | Mapping[str, Any] | None = None,
    trainable: bool = True,
) -> keras.Model:
    """Build a backbone without its classification top.

    Args:
        name: A name of `keras.applications`, such as "ResNet50" or "MobileNetV2".
        input_size: Side of the square input in pixels, at least 32 (Inception and NASNet need about 75).
        options: Further arguments of the builder, such as `{"alpha": 0.75}` for MobileNet.
        weights_path: A weights file (read by h5py; Keras `.weights.h5`, older Keras `.h5`, or a bundled file in half
            precision), "imagenet" for Keras's own download, or None for random weights. `weights.resolve` chooses.
        scaling: "caffe", "tf", "torch", "none", or `{"scale": ..., "offset": ...}` with a number or three each; None
            takes what the ImageNet weights of this backbone expect.
        trainable: Whether the layers start trainable.

    Returns:
        A flat functional `keras.Model` from float32 (n, input_size, input_size, 1), grey levels 0..255, to float32
        feature maps (n, h, w, channels).

    Raises:
        FracturelabError: Unknown backbone or option, a size too small, weights that do not fit.
    """
    import keras

    builder = find_builder(name)
    check_input_size(input_size)
    options = dict(options or {})
    reserved = {"include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "name"} & set(options)
    if reserved:
        raise FracturelabError(f"expected options of {name} other than {sorted(reserved)}, which are set here")
    scale = check_scaling(scaling, name)

    inputs = keras.Input((input_size, input_size, 1), name=INPUT_NAME)
    tensor = keras.layers.Concatenate(name="grey_to_three")([inputs, inputs, inputs])
    if scale != SCALINGS["none"]:
        tensor = keras.layers.Rescaling(scale["scale"], scale["offset"], name="scaling")(tensor)
    weights = "imagenet" if weights_path == "imagenet" else None
    try:
        model = builder(include_top=False, weights=weights, input_tensor=tensor, **options)
    except (TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise FracturelabError(f"{name} cannot be built at {input_size} px with options {options}: {first}") from error
    if weights_path is not None and weights is None:
        load_into(model, weights_path)
    model = keras.Model(inputs, model.output, name=model.name)  # one input, where the builder made a list of one
    model.trainable = trainable
    return fuse_norms(model)


def feature_layers(model: keras.Model) -> tuple[str, str]:
    """Names of the last activation at half the final stride, and of the last layer.

    For the usual backbones these are the last activations at stride 16 and at stride 32. A head on the global averages
    of both scores higher on X-rays than one on those of the last alone.

    Args:
        model: A backbone from `build_backbone`.

    Returns:
        The names of two layers of `model` whose outputs are feature maps (n, h, w, channels).
    """
    last = model.layers[-1]
    final = int(model.output.shape[1])
    maps = _maps(model)
    active = [(layer, side) for layer, side in maps if _is_activation(layer) and side > final]
    larger = active or [(layer, side) for layer, side in maps if side > final]
    nearest = min(side for _, side in larger)
    return [layer.name for layer, side in larger if side == nearest][-1], last.name


def stride_layers(model: keras.Model) -> dict[int, str]:
    """Names of the last activation at each stride from 4 on.

    Args:
        model: A backbone from `build_backbone` whose input size is a multiple of 32.

    Returns:
        For strides 4, 8, 16 and 32, as far as the backbone has them, the name of a layer whose output is a map
        (n, size / stride, size / stride, channels).
    """
    size = int(model.input.shape[1])
    last = {size / side: layer.name for layer, side in _maps(model) if _is_activation(layer)}
    return {stride: last[stride] for stride in (4, 8, 16, 32) if stride in last}


def _maps(model: keras.Model) -> list[tuple[keras.Layer, int]]:
    """The layers whose outputs are maps, in order, with the side of each map."""
    return [(layer, int(layer.output.shape[1])) for layer in model.layers if len(layer.output.shape) == 4]


def _is_activation(layer: keras.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.Activation | keras.layers.ReLU | keras.layers.LeakyReLU)
