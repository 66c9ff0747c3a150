"""v1: a classic convolutional network that is trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import INPUT_NAME, check_input_size
from fracturelab.models.norms import fuse_norms

if TYPE_CHECKING:
    import keras

FILTERS = (32, 64, 128, 256)
NORM_MOMENTUM = 0.9
"""Momentum of batch norm's moving averages. A few hundred X-rays make some ten steps an epoch. At Keras's 0.99 the
averages lag behind the weights for hundreds of steps, and validation runs with moments that do not fit the weights."""


def build_cnn(
    *, input_size: int = 128, classes: int = 2, dropout: float = 0.4, filters: Sequence[int] = FILTERS
) -> keras.Model:
    """Build blocks of convolution, batch norm and ReLU with max pooling between them, then one linear unit.

    The first convolution has stride 2, which needs a quarter of the work. The last maps are pooled twice. The maximum
    keeps a small thing such as a fracture line, which a mean would dilute. The mean describes the whole image.

    Args:
        input_size: Side of the square input in pixels, at least 32.
        classes: 2 for one output P(fractured), more for one probability a class.
        dropout: Share of the pooled values that training leaves out.
        filters: Number of filters of each block. A block halves the sides, so there may be five at 32 pixels.

    Returns:
        An uncompiled, flat `keras.Model` from float32 (n, input_size, input_size, 1), grey levels 0..255, to
        "p_fracture" (n, 1), or to "p_class" (n, classes).

    Raises:
        FracturelabError: A size or filters that cannot be built.

    Examples:
        >>> model = build_cnn(input_size=64, filters=(8, 16))
        >>> model.output_shape
        (None, 1)
    """
    import keras
    from keras import layers

    check_input_size(input_size)
    if not filters or 2 ** len(filters) > input_size or any(not isinstance(n, int) or n < 1 for n in filters):
        raise FracturelabError(f"expected filters of blocks that each halve {input_size} pixels. Received: {filters!r}")
    inputs = keras.Input((input_size, input_size, 1), name=INPUT_NAME)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(inputs)
    for number, count in enumerate(filters, start=1):
        if number > 1:
            x = layers.MaxPooling2D(name=f"block{number}_pool")(x)
        strides = 2 if number == 1 else 1
        x = layers.Conv2D(count, 3, strides, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"block{number}_norm")(x)
        x = layers.Activation("relu", name=f"block{number}_relu")(x)
    pooled = [layers.GlobalMaxPooling2D(name="maximum")(x), layers.GlobalAveragePooling2D(name="average")(x)]
    x = layers.Concatenate(name="pooled")(pooled)
    x = layers.Dropout(dropout, name="dropout")(x)
    return fuse_norms(keras.Model(inputs, output_layer(classes)(x), name="cnn"))


def output_layer(classes: int) -> keras.layers.Dense:
    """Make the last layer: one sigmoid "p_fracture" for two classes, a softmax "p_class" for more.

    Raises:
        FracturelabError: Fewer than two classes.
    """
    import keras

    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise FracturelabError(f"expected at least 2 classes. Received: {classes!r}")
    if classes == 2:
        return keras.layers.Dense(1, activation="sigmoid", name="p_fracture")
    return keras.layers.Dense(classes, activation="softmax", name="p_class")
