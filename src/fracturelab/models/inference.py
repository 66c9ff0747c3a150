"""A model as one compiled function, in TensorFlow or OpenVINO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.models.weights import digest_of

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


def in_openvino(model: keras.Model) -> Callable[..., list[np.ndarray]]:
    """The model in OpenVINO, in single precision, converted once for its weights; two threads may call it at once.

    Args:
        model: A flat model of one input.

    Returns:
        From float32 (n, ...), the input, to the model's outputs in their order.
    """
    digest = digest_of(model)
    known = getattr(model, "_openvino_inference", None)
    if known is not None and known[0] == digest:
        return known[1]
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        model.export(f"{folder}/model.xml", format="openvino", verbose=False)
        network = core.read_model(f"{folder}/model.xml")
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": 2}
        function = core.compile_model(network, "CPU", {**hints, "INFERENCE_PRECISION_HINT": "f32"})

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        return list(function.create_infer_request().infer(np.ascontiguousarray(batch)).values())

    model._openvino_inference = digest, infer
    return infer
