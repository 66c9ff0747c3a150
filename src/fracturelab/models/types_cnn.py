"""A small CNN that tells fracture types apart, in Keras; `types_torch` builds the very same one in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import INPUT_NAME
from fracturelab.models.cnn import NORM_MOMENTUM, output_layer
from fracturelab.models.norms import fuse_norms

if TYPE_CHECKING:
    import keras

FILTERS = (32, 64, 128)
UNITS = 128
SLOPE = 0.1
"""Of LeakyReLU below 0."""
NORM_EPSILON = 1e-3
CELLS = 4
"""Of the last maps the maximum in each cell of a grid of 4 x 4 is kept: a break is a small thing, which an average
would dilute, and where in the image it lies says something of its type."""


def check_types_cnn(input_size: int, classes: int) -> None:
    """Refuse a size that the blocks do not divide, and fewer than three classes.

    Raises:
        FracturelabError: Another size, or fewer classes.
    """
    step = CELLS * 2 ** len(FILTERS)
    if isinstance(input_size, bool) or not isinstance(input_size, int) or input_size < step or input_size % step:
        raise FracturelabError(f"expected input_size to be a multiple of {step} pixels. Received: {input_size!r}")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 3:
        raise FracturelabError(f"expected at least 3 fracture types. Received: {classes!r}")


def build_types_cnn(
    *, input_size: int = 128, classes: int = 10, block_dropout: float = 0.1, dropout: float = 0.4
) -> keras.Model:
    """Build three blocks of convolution, batch norm, LeakyReLU and dropout, then a dense layer and a softmax.

    Each convolution halves the sides (stride 2); after the blocks the maximum of each of 4 x 4 cells is
    kept.

    Args:
        input_size: Side of the square input in pixels, a multiple of 32.
        classes: Number of fracture types.
        block_dropout: Share of each block's outputs that training leaves out.
        dropout: Share of the dense layer's outputs that training leaves out.

    Returns:
        An uncompiled, flat `keras.Model` from float32 (n, input_size, input_size, 1), grey levels 0..255, to "p_class"
        (n, classes).

    Raises:
        FracturelabError: A size that the blocks do not divide, or fewer than three classes.
    """
    import keras
    from keras import layers

    check_types_cnn(input_size, classes)
    inputs = keras.Input((input_size, input_size, 1), name=INPUT_NAME)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(inputs)
    for number, filters in enumerate(FILTERS, start=1):
        x = layers.ZeroPadding2D(1, name=f"block{number}_pad")(x)
        x = layers.Conv2D(filters, 3, strides=2, use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=f"block{number}_norm")(x)
        x = layers.LeakyReLU(SLOPE, name=f"block{number}_relu")(x)
        x = layers.Dropout(block_dropout, name=f"block{number}_dropout")(x)
    x = layers.MaxPooling2D(input_size // 2 ** len(FILTERS) // CELLS, name="cells")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(UNITS, name="dense")(x)
    x = layers.LeakyReLU(SLOPE, name="dense_relu")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return fuse_norms(keras.Model(inputs, output_layer(classes)(x), name="types_cnn"))
