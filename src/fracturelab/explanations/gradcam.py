"""Grad-CAM (Selvaraju et al. 2017) in logits, in one forward and one short backward pass.

The answer of a transfer model is a linear function of the averages of two feature maps, so both are taken, each with
the gradient of its own average alone. For such a head Grad-CAM is the class activation map (Zhou et al. 2016), and the
two maps together are exact: summed over all positions they are the logit, up to a constant. Of other models the last
activation that is a map is taken; in v1 it lies before the last pooling and is twice as fine as what follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.explanations.overlay import stretch

if TYPE_CHECKING:
    import keras


def cam_layers(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers whose feature maps Grad-CAM takes.

    These are both maps of a transfer model, the joined maps of every head on maps, and the last activation of others.

    Raises:
        FracturelabError: The model has no feature map.
    """
    import keras

    from fracturelab.models.maps import JOINED
    from fracturelab.models.transfer import feature_layers_of

    if {"average_fine", "average_coarse"} <= {layer.name for layer in model.layers}:
        return feature_layers_of(model)
    maps = [
        layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4 and layer.output.shape[1] > 1
    ]
    kinds = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU)
    active = [layer for layer in maps if isinstance(layer, kinds)]
    joined = tuple(layer.name for layer in active if layer.name.startswith(JOINED))
    if joined:
        return joined
    chosen = active or [layer for layer in maps if isinstance(layer, keras.layers.Conv2D)]
    if not chosen:
        raise FracturelabError(f"expected a model with feature maps for Grad-CAM. Received: {model.name}, without any")
    return (chosen[-1].name,)


class GradCam:
    """A model prepared for Grad-CAM once, for many calls; `grad_cam` is the short way.

    Args:
        model: A flat model that ends in a dense layer with one output, P(fractured).
    """

    least = 0.0  # evidence in logits has no scale of its own: see `to_unit`

    def __init__(self, model: keras.Model) -> None:
        import keras
        import tensorflow as tf

        last = model.layers[-1]
        if not isinstance(last, keras.layers.Dense) or model.output_shape != (None, 1):
            raise FracturelabError(
                "expected a model that ends in a dense layer with one output. "
                f"Received: {type(last).__name__} of shape {model.output_shape}"
            )
        tensors = [model.get_layer(name).output for name in cam_layers(model)]
        # Keras cuts a graph at the tensors it is given as inputs: what leads from one to the other is left out.
        trunk, head = keras.Model(model.inputs[0], tensors), keras.Model(tensors, last.input)
        self.size = int(model.inputs[0].shape[1])
        side = max(int(tensor.shape[1]) for tensor in tensors)

        def explain(batch: Any) -> tuple[Any, Any]:
            maps = trunk(batch, training=False)
            maps = list(maps) if isinstance(maps, list | tuple) else [maps]
            with tf.GradientTape() as tape:
                tape.watch(maps)
                features = head(maps if len(maps) > 1 else maps[0], training=False)
                logits = (tf.linalg.matmul(features, last.kernel) + (last.bias if last.use_bias else 0.0))[:, 0]
            heat: Any = 0.0
            for activation, gradient in zip(maps, tape.gradient(logits, maps), strict=True):
                weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
                # A pixel of a coarse map stands for several of the finest: its share is spread over them.
                share = float(activation.shape[1] * activation.shape[2]) / side**2
                evidence = tf.reduce_sum(weights * activation, axis=-1, keepdims=True) * share
                heat += tf.image.resize(evidence, (side, side), method="bilinear")
            return tf.sigmoid(logits), heat[..., 0]

        signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)]
        self._explain = tf.function(explain, input_signature=signature)

    def __call__(self, images: NDArray, *, batch_size: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers and signed evidence.

        Args:
            images: uint8 or float (n, size, size, 1), grey levels 0..255.
            batch_size: Images in memory at a time.

        Returns:
            (n,) P(fractured); and (n, side, side) signed evidence in logits, on the grid of the finest feature map.
        """
        if images.ndim != 4 or images.shape[1:] != (self.size, self.size, 1):
            raise FracturelabError(
                f"expected images of shape (n, {self.size}, {self.size}, 1). Received: {images.shape}"
            )
        answers, heat = _in_batches(self._explain, images, batch_size)
        return answers, heat


class OwnMap:
    """A model with a layer that is a map of the fracture, named in its card.

    Args:
        model: A flat model with one output, P(fractured).
        layer: Name of the layer, (n, h, w, 1): a logit or P(fractured) of each cell.
    """

    least = 0.2  # P(fractured) of a cell that is shown in full colour, where no cell has more

    def __init__(self, model: keras.Model, layer: str) -> None:
        import keras

        from fracturelab.models.inference import compiled

        if layer not in {part.name for part in model.layers}:
            raise FracturelabError(f"expected a layer of {model.name} under `map` in its card. Received: {layer!r}")
        cells = model.get_layer(layer)
        logits = getattr(cells, "activation", None) in (None, keras.activations.linear)
        maps = keras.layers.Activation("sigmoid", name="map_in_probabilities")(cells.output) if logits else cells.output
        self.size = int(model.input_shape[1])
        self._run = compiled(keras.Model(model.inputs[0], [model.output, maps]))

    def __call__(self, images: NDArray, *, batch_size: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers (n,), and P(fractured) of each cell (n, h, w); see `GradCam` for the images."""
        answers, maps = _in_batches(self._run, images, batch_size)
        return answers[:, 0], maps[..., 0]


def _in_batches(run: Any, images: NDArray, batch_size: int) -> list[NDArray]:
    """The two outputs of a function of float32 batches, over all images."""
    starts = range(0, max(len(images), 1), batch_size)
    parts = [run(np.asarray(images[start : start + batch_size], np.float32)) for start in starts]
    return [np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True)]


def explainer(model: keras.Model, layer: str | None = None) -> GradCam | OwnMap | None:
    """Choose the method for a model: its own map where it has one, else Grad-CAM; None where there is neither.

    Args:
        model: A flat model with one output, P(fractured).
        layer: Name of the layer that is the model's own map, from its card.
    """
    if layer is not None:
        return OwnMap(model, layer)
    try:
        return GradCam(model)
    except FracturelabError:
        return None


def grad_cam(model: keras.Model | GradCam, images: NDArray) -> NDArray[np.float32]:
    """Grad-CAM maps of images; evidence against a fracture is cut off.

    Args:
        model: A flat model of this project, or a `GradCam` of one.
        images: uint8 or float (n, size, size, 1), grey levels 0..255.

    Returns:
        float32 (n, size, size): evidence in logits a pixel of the feature map.

    Raises:
        FracturelabError: Images of another size, or a model without feature maps or a dense output.
    """
    prepared = model if isinstance(model, GradCam) else GradCam(model)
    if not len(images):
        return np.zeros((0, prepared.size, prepared.size), np.float32)
    return stretch(np.maximum(prepared(images)[1], 0), (prepared.size, prepared.size))
