"""The CNN of `types_cnn` in PyTorch: layer for layer the same, and weights that move between the two.

PyTorch is an optional extra. Nothing else in this project needs it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from importlib.util import find_spec
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import NORM_MOMENTUM
from fracturelab.models.types_cnn import CELLS, FILTERS, NORM_EPSILON, SLOPE, UNITS, check_types_cnn

if TYPE_CHECKING:
    import keras
    import torch

HOW_TO_GET_IT = "PyTorch is not installed. Get it with: pip install -r requirements/torch.txt"


def torch_is_here() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def need_torch() -> None:
    """Make PyTorch safe to use beside TensorFlow.

    PyTorch for NVIDIA's GPUs, which is what Linux gets, comes with Triton and loads it with the first optimizer; both
    Triton and TensorFlow bring an LLVM of their own, and the second one to come ends the process
    (github.com/tensorflow/tensorflow/issues/124205). Nothing here is compiled by Triton, so it is not found.

    Raises:
        FracturelabError: PyTorch is not installed.
    """
    if not torch_is_here():
        raise FracturelabError(HOW_TO_GET_IT)
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # None: there is no such module


def build_types_torch(
    *, input_size: int = 128, classes: int = 10, block_dropout: float = 0.1, dropout: float = 0.4
) -> torch.nn.Sequential:
    """Build the network of `build_types_cnn`; its weights start the same way (Glorot's uniform distribution).

    Args:
        input_size: Side of the square input in pixels, a multiple of 32.
        classes: Number of fracture types.
        block_dropout: Share of each block's outputs that training leaves out.
        dropout: Share of the dense layer's outputs that training leaves out.

    Returns:
        A `torch.nn.Sequential` from float32 (n, 1, input_size, input_size), grey levels 0..255, to logits (n, classes):
        PyTorch keeps the softmax in its loss. Its layers have the names of the Keras model's.

    Raises:
        FracturelabError: PyTorch is not installed, a size that the blocks do not divide, or fewer than three classes.
    """
    check_types_cnn(input_size, classes)
    need_torch()
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict(scaling=_scaling())
    for number, (below, filters) in enumerate(zip((1, *FILTERS), FILTERS, strict=False), start=1):
        layers[f"block{number}_conv"] = nn.Conv2d(below, filters, 3, stride=2, padding=1, bias=False)
        layers[f"block{number}_norm"] = nn.BatchNorm2d(filters, eps=NORM_EPSILON, momentum=1 - NORM_MOMENTUM)
        layers[f"block{number}_relu"] = nn.LeakyReLU(SLOPE)
        layers[f"block{number}_dropout"] = nn.Dropout(block_dropout)
    layers["cells"] = nn.MaxPool2d(input_size // 2 ** len(FILTERS) // CELLS)
    layers["flat"] = nn.Flatten()
    layers["dense"] = nn.Linear(FILTERS[-1] * CELLS**2, UNITS)
    layers["dense_relu"] = nn.LeakyReLU(SLOPE)
    layers["dropout"] = nn.Dropout(dropout)
    layers["p_class"] = nn.Linear(UNITS, classes)
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)


def _scaling() -> torch.nn.Module:
    from torch import nn

    class Scaling(nn.Module):
        """Grey levels 0..255 to -1..1."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels / 127.5 - 1.0

    return Scaling()


def parameter_counts(model: torch.nn.Sequential) -> dict[str, int]:
    """Name of each layer that has weights to their number, batch norm's moments included, as Keras counts them."""
    counts = {}
    for name, layer in model.named_children():
        arrays = [array for array in layer.state_dict().values() if array.dim() > 0]
        if arrays:
            counts[name] = sum(array.numel() for array in arrays)
    return counts


def output_shapes(model: torch.nn.Sequential, *, input_size: int) -> dict[str, tuple[int, ...]]:
    """Name of each layer to the shape of its output for one image, channels last as in Keras."""
    import torch

    shapes, values = {}, torch.zeros(1, 1, input_size, input_size)
    was = model.training
    model.eval()
    with torch.no_grad():
        for name, layer in model.named_children():
            values = layer(values)
            shape = tuple(values.shape[1:])
            shapes[name] = (*shape[1:], shape[0]) if len(shape) == 3 else shape
    model.train(was)
    return shapes


def to_keras(model: torch.nn.Sequential, twin: keras.Model) -> keras.Model:
    """Copy the weights of the PyTorch network into its Keras twin, which then gives the same probabilities.

    Args:
        model: From `build_types_torch`.
        twin: From `build_types_cnn`, of the same size and classes.

    Returns:
        The twin.
    """
    state = {name: array.detach().cpu().numpy() for name, array in model.state_dict().items()}
    for layer in twin.layers:
        if layer.weights:
            layer.set_weights(_keras_weights(layer.name, state))
    return twin


def _names(layer: str) -> tuple[str, ...]:
    """PyTorch's names of a layer's weights, in the order in which Keras lists them."""
    if layer.endswith("_conv"):
        return ("weight",)
    return ("weight", "bias", "running_mean", "running_var") if layer.endswith("_norm") else ("weight", "bias")


def _keras_weights(layer: str, state: dict[str, NDArray]) -> list[NDArray]:
    arrays = [state[f"{layer}.{name}"] for name in _names(layer)]
    kernel = arrays[0]
    if layer.endswith("_conv"):  # (out, in, height, width) to (height, width, in, out)
        arrays[0] = kernel.transpose(2, 3, 1, 0)
    elif layer == "dense":  # its inputs are flattened maps: (channels, y, x) in PyTorch, (y, x, channels) in Keras
        arrays[0] = kernel.reshape(UNITS, -1, CELLS, CELLS).transpose(2, 3, 1, 0).reshape(-1, UNITS)
    elif kernel.ndim == 2:
        arrays[0] = kernel.T
    return arrays
