"""Models made elsewhere, turned into models as they are made here: flat, from raw grey pixels to P(fractured).

A card beside the model may hold `class_names`, in the order of the outputs, and `scaling`, the pixels that the model
expects; both are needed where the model itself does not show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.names import label_of
from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import INPUT_NAME, check_scaling

if TYPE_CHECKING:
    import keras

_UNIT = {"scale": [1 / 255] * 3, "offset": [0.0] * 3}
_ENDS = {"sigmoid", "softmax", "linear"}
UNSCALED = (
    'It holds no layer that scales pixels, so it is given 0 to 255. If it was trained on others, add "scaling" to its '
    'card: "unit" for 0 to 1, "tf" for -1 to 1, "torch" or "caffe" for ImageNet\'s; or "none" for 0 to 255.'
)


def adapt(model: keras.Model, card: Mapping[str, Any], *, where: str) -> tuple[keras.Model, tuple[str, ...]]:
    """Turn a two-class model of any usual make into one flat graph from raw grey pixels to P(fractured).

    A flat model of this project is given back as it is. Others are copied: Sequential and nested models are unrolled,
    grey is repeated for models of colour images, and one dense layer with a sigmoid takes the place of a softmax over
    two outputs, of logits, or of an output for the other class.

    Args:
        model: A Keras model with one input and one output.
        card: The card beside it.
        where: The model file, for messages.

    Returns:
        A functional model from float32 (n, size, size, 1), grey levels 0..255, to "p_fracture" (n, 1); and sentences
        on what was assumed.

    Raises:
        FracturelabError: The model is no two-class model of square images, or its card lacks what is needed.
    """
    import keras

    size, channels = _input(model, card, where)
    outputs = model.output_shape
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] not in (1, 2):
        raise FracturelabError(
            f"{where}: expected a model with one output, P(fractured), or two, normal and fractured. "
            f"Received: output {outputs}"
        )
    index = _fractured_output(card, outputs[1], where)
    scaling = card.get("scaling")
    scales = {"Rescaling", "Normalization"} & {type(layer).__name__ for layer in model._flatten_layers()}
    notes = () if scales or scaling is not None else (UNSCALED,)
    nested = isinstance(model, keras.Sequential) or any(isinstance(layer, keras.Model) for layer in model.layers)
    ends = isinstance(model.layers[-1], keras.layers.Dense) and _activation(model.layers[-1]) == "sigmoid"
    if outputs[1] == 1 and channels == 1 and index == 0 and scaling is None and ends and not nested:
        return model, notes
    inputs = x = keras.Input((size, size, 1), name=INPUT_NAME)
    if channels == 3:
        x = keras.layers.Concatenate(name="grey_to_three")([inputs] * 3)
    if scaling is not None:
        numbers = _UNIT if scaling == "unit" else check_scaling(scaling, model.name)
        scale, offset = (numbers[key][:channels] for key in ("scale", "offset"))
        x = keras.layers.Rescaling(scale, offset, name="scaling")(x)
    unrolling = _Unrolling()
    flat = keras.Model(inputs, unrolling.run(model, x), name=model.name)
    unrolling.copy_weights()
    return _with_one_output(flat, index, outputs[1], where), notes


def _input(model: keras.Model, card: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Side and channels of the input; an open side is taken from the card."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] not in (1, 3):
        raise FracturelabError(f"{where}: expected a model of square grey or colour images. Received: input {shape}")
    sides = {card.get("input_size") if side is None else side for side in shape[1:3]}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise FracturelabError(
            f"{where}: expected a model of square images. Received: input {shape}; where it is open, "
            '"input_size" in the card gives the side in pixels'
        )
    return side, shape[3]


def _fractured_output(card: Mapping[str, Any], count: int, where: str) -> int:
    """Number of the output that is P(fractured); -1 where the only output is P(normal)."""
    names = card.get("class_names")
    if names is None and count == 1:
        return 0
    if names is None:
        raise FracturelabError(
            f'{where}: has two outputs, and its card does not name them; add "class_names": ["normal", "fractured"], '
            "in the order of the outputs"
        )
    meanings = [label_of(str(name)) for name in names] if isinstance(names, list | tuple) else []
    labels = [meaning.label if meaning else None for meaning in meanings]
    if labels not in ([0, 1], [1, 0]):
        raise FracturelabError(
            f"{where}: expected two class_names in its card that mean normal and fractured. Received: {names}"
        )
    return labels.index(1) - (2 - count)


class _Unrolling:
    """Copies of a model's layers in one graph, models inside it included."""

    def __init__(self) -> None:
        self.copies: dict[int, Any] = {}
        self.names: set[str] = set()

    def run(self, model: keras.Model, tensor: Any) -> Any:
        """The output of a model on a symbolic tensor."""
        import keras

        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                tensor = self.run(layer, tensor) if isinstance(layer, keras.Model) else self.copy(layer)(tensor)
            return tensor
        values = {id(model.inputs[0]): tensor}
        for operation in model.operations:
            for node in operation._inbound_nodes:
                if node.is_input or not all(id(part) in values for part in node.input_tensors):
                    continue
                positional, named = node.arguments.fill_in({id(part): values[id(part)] for part in node.input_tensors})
                if isinstance(operation, keras.Model):
                    result = self.run(operation, positional[0])
                else:
                    result = self.copy(operation)(*positional, **named)
                values |= {id(old): new for old, new in zip(node.outputs, keras.tree.flatten(result), strict=True)}
        return values[id(model.outputs[0])]

    def copy(self, operation: Any) -> Any:
        """A layer's copy under a name of its own, always the same for one layer."""
        if id(operation) not in self.copies:
            config, name, number = operation.get_config(), operation.name, 1
            while name in self.names:
                name, number = f"{operation.name}_{number}", number + 1
            self.names.add(name)
            self.copies[id(operation)] = operation, type(operation).from_config({**config, "name": name})
        return self.copies[id(operation)][1]

    def copy_weights(self) -> None:
        """Give every copy the weights of its layer, once it is built."""
        for operation, copy in self.copies.values():
            if getattr(operation, "weights", None):
                copy.set_weights(operation.get_weights())


def _with_one_output(flat: keras.Model, index: int, count: int, where: str) -> keras.Model:
    """The graph with a dense layer and a sigmoid at its end that give P(fractured)."""
    import keras
    import numpy as np

    last = flat.layers[-1]
    end = _activation(last)
    features, kernel, bias = flat.output, np.eye(count), np.zeros(count)
    if not isinstance(last, keras.layers.Dense):  # an activation of its own, after the dense layer or after an average
        features = last.input if end in ("sigmoid", "softmax") else features
        last, end = features._keras_history.operation, end if end in _ENDS else "linear"
    if isinstance(last, keras.layers.Dense) and _activation(last) in {"linear", end}:
        features, kernel = last.input, np.asarray(last.kernel)
        bias = np.asarray(last.bias) if last.use_bias else bias
    if end not in _ENDS:
        raise FracturelabError(f"{where}: expected outputs by sigmoid or softmax, or logits. Received: {end}")
    if count == 1:
        kernel, bias = (kernel, bias) if index == 0 else (-kernel, -bias)
    elif end == "sigmoid":
        kernel, bias = kernel[:, [index]], bias[[index]]
    else:
        kernel, bias = kernel[:, [index]] - kernel[:, [1 - index]], bias[[index]] - bias[[1 - index]]
    dense = keras.layers.Dense(1, activation="sigmoid", name="p_fracture")
    result = keras.Model(flat.input, dense(features), name=flat.name)
    dense.set_weights([kernel, bias])
    return result


def _activation(layer: Any) -> str:
    """Name of the function that a layer ends with."""
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", type(layer).__name__.lower())
