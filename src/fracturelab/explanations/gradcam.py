"""Grad-CAM (Selvaraju et al. 2017) on any of this project's models, in logits, in one forward and one short backward.

Which layers. A transfer model's answer is a linear function of the averages of two feature maps, so both are taken,
each with the gradient of its own average alone. For such a head Grad-CAM is the class activation map (Zhou et al.
2016), and the two maps together are not an approximation: summed over all positions they are the logit, up to a
constant. The coarse map alone would miss what the fine one adds; the fine one alone with all of the gradient would
average over what lies between the two. v1 has one feature map: the last activation before its last pooling, which is
twice as fine as what comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import keras


def cam_layers(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers whose feature maps Grad-CAM takes: both of a transfer model, the last activation of others.

    Args:
        model: A flat model from images to "p_fracture" or "p_class".

    Raises:
        FracturelabError: The model has no feature map.
    """
    import keras

    names = {layer.name for layer in model.layers}
    if {"average_fine", "average_coarse"} <= names:
        from fracturelab.models.transfer import feature_layers_of

        return feature_layers_of(model)
    maps = [
        layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4 and layer.output.shape[1] > 1
    ]
    kinds = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU)
    chosen = [layer for layer in maps if isinstance(layer, kinds)] or maps[1:]
    if not chosen:
        raise FracturelabError(f"expected a model with feature maps for Grad-CAM. Received: {model.name}, without any")
    return (chosen[-1].name,)


class GradCam:
    """A model prepared for Grad-CAM once, for many calls; `grad_cam` is the short way.

    Args:
        model: A flat model with a dense output layer.
        layers: Names of feature layers; None for `cam_layers`.
        target: Class whose logit is explained; with one output 1 is fractured and 0 normal.
    """

    def __init__(self, model: keras.Model, *, layers: Sequence[str] | None = None, target: int = 1) -> None:
        import keras
        import tensorflow as tf

        names = tuple(layers) if layers is not None else cam_layers(model)
        missing = [name for name in names if name not in {operation.name for operation in model.operations}]
        if missing or not names:
            raise FracturelabError(
                f"expected names of layers of {model.name}. Received: {', '.join(missing) or 'none'}"
            )
        last = model.layers[-1]
        outputs = int(model.outputs[0].shape[-1])
        if not isinstance(last, keras.layers.Dense) or not 0 <= target < max(outputs, 2):
            raise FracturelabError(
                f"expected a model that ends in a dense layer, and one of its classes. "
                f"Received: {type(last).__name__} of {outputs}, class {target}"
            )
        tensors = [model.get_layer(name).output for name in names]
        # Keras cuts a graph at the tensors it is given as inputs: what leads from one to the other stays outside.
        trunk, head = keras.Model(model.inputs[0], tensors), keras.Model(tensors, last.input)
        self.size = int(model.inputs[0].shape[1])
        side = max(int(tensor.shape[1]) for tensor in tensors)

        def explain(batch: Any) -> tuple[Any, Any]:
            maps = trunk(batch, training=False)
            maps = list(maps) if isinstance(maps, list | tuple) else [maps]
            with tf.GradientTape() as tape:
                tape.watch(maps)
                features = head(maps if len(maps) > 1 else maps[0], training=False)
                logits = tf.linalg.matmul(features, last.kernel) + (last.bias if last.use_bias else 0.0)
                chosen = (1.0 if target else -1.0) * logits[:, 0] if outputs == 1 else logits[:, target]
            heat: Any = 0.0
            for activation, gradient in zip(maps, tape.gradient(chosen, maps), strict=True):
                weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
                # A pixel of a coarse map stands for several of the finest: its share is spread over them.
                spread = float(activation.shape[1] * activation.shape[2]) / side**2
                found = tf.reduce_sum(weights * activation, axis=-1, keepdims=True) * spread
                heat += tf.image.resize(found, (side, side), method="bilinear")
            answers = tf.sigmoid(logits[:, 0]) if outputs == 1 else tf.nn.softmax(logits)[:, target]
            return answers, heat[..., 0]

        self._explain = tf.function(
            explain, input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)]
        )

    def __call__(self, images: NDArray, *, batch_size: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers and signed evidence.

        Args:
            images: uint8 or float (n, size, size, 1), grey levels 0..255.
            batch_size: Images in memory at a time.

        Returns:
            (n,) P(fractured), or of the target class; and (n, side, side) signed evidence on the finest layer's grid.
        """
        if images.ndim != 4 or images.shape[1:] != (self.size, self.size, 1):
            raise FracturelabError(
                f"expected images of shape (n, {self.size}, {self.size}, 1). Received: {images.shape}"
            )
        parts = [
            [part.numpy() for part in self._explain(np.asarray(images[start : start + batch_size], np.float32))]
            for start in range(0, len(images), batch_size)
        ]
        if not parts:
            return np.zeros(0, np.float32), np.zeros((0, 1, 1), np.float32)
        return np.concatenate([p for p, _ in parts]), np.concatenate([heat for _, heat in parts])


def grad_cam(
    model: keras.Model | GradCam,
    images: NDArray,
    *,
    layers: Sequence[str] | None = None,
    target: int = 1,
    signed: bool = False,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Grad-CAM maps of images.

    Args:
        model: A flat model of this project, or a `GradCam` of one, which then says layers and target.
        images: uint8 or float (n, size, size, 1), grey levels 0..255.
        layers: Names of feature layers; None for `cam_layers`.
        target: Class that is explained: 1 fractured, 0 normal; of a model of several types, its number.
        signed: Keep evidence against the class as negative values. By default it is cut off, as Grad-CAM does.
        batch_size: Images in memory at a time.

    Returns:
        float32 (n, size, size): evidence in logits a pixel of the feature map.

    Raises:
        FracturelabError: Images of another size, or a model without feature maps or a dense output.
    """
    prepared = model if isinstance(model, GradCam) else GradCam(model, layers=layers, target=target)
    heat = prepared(images, batch_size=batch_size)[1]
    from fracturelab.explanations.overlay import stretch

    if not signed:
        heat = np.maximum(heat, 0)
    return (
        np.stack([stretch(one, (prepared.size, prepared.size)) for one in heat])
        if len(heat)
        else np.zeros((0, prepared.size, prepared.size), np.float32)
    )
