"""A small hybrid network: convolutions extract local features, attention relates them over the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import INPUT_NAME
from fracturelab.models.cnn import NORM_MOMENTUM, output_layer
from fracturelab.models.norms import fuse_norms

if TYPE_CHECKING:
    import keras

STRIDE = 8
"""Stride of the stem: a token of attention stands for 8 x 8 pixels and holds features of its surroundings as well."""


def build_hybrid(
    *, input_size: int = 96, classes: int = 2, width: int = 64, blocks: int = 2, heads: int = 4, dropout: float = 0.2
) -> keras.Model:
    """Build a convolutional stem, a few attention blocks over its feature map, and a linear head.

    The stem makes the training of so small a network steady: three convolutions that halve the sides (Xiao et al.,
    "Early Convolutions Help Transformers See Better", 2021). Before each block the output of a depthwise convolution is
    added to the map. It encodes the position of a token for any image size (Chu et al., "Conditional Positional
    Encodings for Vision Transformers", 2023). Blocks are pre-norm transformer blocks (Vaswani et al. 2017).

    Args:
        input_size: Side of the square input in pixels, a multiple of 8, at least 32.
        classes: 2 for one output P(fractured), more for one probability a class.
        width: Channels of the map and of its tokens, a multiple of `heads` and of 4.
        blocks: Number of attention blocks.
        heads: Attention heads of a block.
        dropout: Share of the averaged features that training leaves out.

    Returns:
        An uncompiled, flat `keras.Model` from float32 (n, input_size, input_size, 1), grey levels 0..255, to
        "p_fracture" (n, 1), or to "p_class" (n, classes). The layer "map" gives the last feature map
        (n, input_size / 8, input_size / 8, width).

    Raises:
        FracturelabError: A size, a width, or a number of blocks or heads that cannot be built.
    """
    import keras
    from keras import layers

    for name, value in {"input_size": input_size, "width": width, "blocks": blocks, "heads": heads}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FracturelabError(f"expected {name} to be a positive whole number. Received: {value!r}")
    if input_size % STRIDE or not 32 <= input_size <= 512:
        raise FracturelabError(f"expected input_size to be a multiple of {STRIDE}, 32 to 512. Received: {input_size}")
    if width % heads or width % 4:
        raise FracturelabError(f"expected width to be a multiple of heads and of 4. Received: {width}, {heads} heads")
    side = input_size // STRIDE
    inputs = keras.Input((input_size, input_size, 1), name=INPUT_NAME)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(inputs)
    for number, filters in enumerate((width // 4, width // 2, width), start=1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"stem{number}_conv")(x)
        x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"stem{number}_norm")(x)
        x = layers.Activation("relu", name=f"stem{number}_relu")(x)
    for number in range(1, blocks + 1):
        place = layers.DepthwiseConv2D(3, padding="same", name=f"block{number}_place")(x)
        x = layers.Add(name=f"block{number}_placed")([x, place])
        x = layers.Reshape((side * side, width), name=f"block{number}_tokens")(x)
        x = _attention(x, number=number, width=width, heads=heads)
        x = layers.Reshape((side, side, width), name=f"block{number}_map")(x)
    x = layers.Activation("linear", name="map")(x)  # a name for the last map, where Grad-CAM looks for it
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return fuse_norms(keras.Model(inputs, output_layer(classes)(x), name="hybrid"))


def _attention(x: keras.KerasTensor, *, number: int, width: int, heads: int) -> keras.KerasTensor:
    """One block: attention among all tokens, then two dense layers on each token alone; both are added to it."""
    from keras import layers

    y = layers.LayerNormalization(epsilon=1e-6, name=f"block{number}_norm1")(x)
    y = layers.MultiHeadAttention(heads, width // heads, name=f"block{number}_attention")(y, y)
    x = layers.Add(name=f"block{number}_attended")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"block{number}_norm2")(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"block{number}_dense1")(y)
    y = layers.Dense(width, name=f"block{number}_dense2")(y)
    return layers.Add(name=f"block{number}_out")([x, y])
