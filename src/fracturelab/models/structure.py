"""The structure of a network without its weights: its layers, their settings and their connections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_ONLY_TRAINING = ("_initializer", "_regularizer", "_constraint")
_LEFT_OUT = {"name", "trainable", "seed", "momentum", "build_config", "compile_config", "shared_object_id"}


def structure_digest(model: keras.Model) -> str:
    """sha256 over the configuration of a functional model, in hexadecimal.

    Names are left out, since Keras counts them up in one process, and so is what matters to training alone. Two builds
    of one network have the same digest; another scaling of the input, or another activation, has another.

    Args:
        model: A functional `keras.Model`; layers in it may be models themselves.
    """
    network = _network(json.loads(model.to_json())["config"])
    return hashlib.sha256(json.dumps(network, sort_keys=True).encode()).hexdigest()


def _network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration with its layers called by their number."""
    names = [layer.get("name", layer["config"].get("name")) for layer in config["layers"]]
    numbers = {name: number for number, name in enumerate(names)}
    layers = [
        {
            "class": [layer.get("module"), layer["class_name"]],
            "config": _network(layer["config"]) if "layers" in layer["config"] else _settings(layer["config"]),
            "inputs": _joined(layer.get("inbound_nodes"), numbers),
        }
        for layer in config["layers"]
    ]
    ends = {end: _joined(config.get(end), numbers) for end in ("input_layers", "output_layers")}
    return {
        **_settings({key: value for key, value in config.items() if key not in (*ends, "layers")}),
        "layers": layers,
        **ends,
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _LEFT_OUT and not key.endswith(_ONLY_TRAINING)}


def _joined(value: Any, numbers: Mapping[str, int]) -> Any:
    """Connections with the number of a layer instead of its name."""
    if isinstance(value, dict):
        if "keras_history" in value:
            name, *place = value["keras_history"]
            return {**value, "keras_history": [numbers[name], *place]}
        return {key: _joined(item, numbers) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and value[0] in numbers:
            return [numbers[value[0]], *value[1:]]
        return [_joined(item, numbers) for item in value]
    return value
