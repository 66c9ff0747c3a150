"""A backbone of five layers: what the recipes do, they do with any backbone, and a real one takes seconds to build."""

from __future__ import annotations

from typing import Any

TINY = "EfficientNetLiteTiny"
"""Its name, where the fixture `tiny` is in use; so named, it gets the scaling of its family."""


def build_tiny(*, include_top: bool, weights: None, input_tensor: Any) -> Any:
    """Convolution, batch norm and ReLU at strides 2, 4, 8, 16 and 32, with 16 channels at stride 16."""
    import keras
    from keras import layers

    x = input_tensor
    for stride, width in ((2, 8), (4, 8), (8, 16), (16, 16), (32, 24)):
        x = layers.Conv2D(width, 3, 2, "same", use_bias=False, name=f"tiny_convolution_{stride}")(x)
        x = layers.BatchNormalization(name=f"tiny_norm_{stride}")(x)
        x = layers.ReLU(name=f"tiny_relu_{stride}")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="tiny")
