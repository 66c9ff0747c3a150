"""A model as one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def compiled(model: keras.Model) -> Callable[..., Any]:
    """The model in inference mode as a graph, traced once for its lifetime, whatever the batches' lengths.

    Keras's own `predict_on_batch` is traced anew for a batch of another length.

    Args:
        model: A model of one input.

    Returns:
        From float32 (n, ...), the input, to the model's outputs as tensors.
    """
    import tensorflow as tf

    function = getattr(model, "_compiled_inference", None)
    if function is None:
        signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
        function = tf.function(lambda batch: model(batch, training=False), input_signature=signature)
        model._compiled_inference = function
    return function
