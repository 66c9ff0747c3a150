"""The student: a backbone with an output for everything that a view can teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from fracturelab.models.backbones import build_backbone, feature_layers, stride_layers
from fracturelab.phantoms import FRACTURE_KINDS, REGIONS
from scripts.pretraining.stores import MAP_SIDE, UNKNOWN, Arrays
from scripts.pretraining.views import CLOSE, WHOLE, disturb

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.pretraining.run import Stage
    from scripts.pretraining.views import Radiographs

# How much each output counts. The teacher's outputs are means of squared errors of standardised maps (1 where
# nothing is known yet), the others are cross-entropies.
LOSS_WEIGHTS = {
    "fracture": 1.0,
    "kind": 0.5,
    "region": 0.3,
    "hardware": 0.2,
    "cast": 0.2,
    "maps": 2.0,
    "teacher_4": 0.5,
    "teacher_8": 0.5,
    "teacher_16": 1.5,
    "teacher_32": 1.5,
    "teacher_pool": 1.5,
}
FRACTURE_CELLS = 4.0  # how much more a cell of the dense maps counts that a fracture passes through; they are few
_LOSSES = {
    "fracture": "binary_crossentropy",
    "hardware": "binary_crossentropy",
    "cast": "binary_crossentropy",
    "kind": "sparse_categorical_crossentropy",
    "region": "sparse_categorical_crossentropy",
    "maps": "binary_crossentropy",
    **{f"teacher_{which}": "mean_squared_error" for which in (4, 8, 16, 32, "pool")},
}


def build_student(
    backbone: str,
    *,
    size: int,
    options: Mapping | None,
    scaling: str | Mapping,
    teacher: keras.Model | None = None,
    weights_path: str | Path | None = None,
) -> keras.Model:
    """A backbone with its pretraining outputs on top; a flat graph.

    Args:
        backbone: A name of `keras.applications`.
        size: Side of the input in pixels.
        options: Options of the backbone's builder.
        scaling: How the backbone sees grey levels; becomes part of the weights' description.
        teacher: From `build_teacher`, at the same size; the student gets an output for each of its outputs.
        weights_path: What the backbone starts from; None for random weights, whose residual branches start small.

    Returns:
        A model from float32 (n, size, size, 1), 0..255, to a dict of outputs.
    """
    base = build_backbone(backbone, input_size=size, options=options, scaling=scaling, weights_path=weights_path)
    if weights_path is None:
        soften_residuals(base)
    quicken_norms(base)
    middle, last = (base.get_layer(name).output for name in feature_layers(base))
    layers = keras.layers
    pooled = layers.Concatenate(name="pooled")([layers.GlobalAveragePooling2D()(x) for x in (middle, last)])
    outputs = {
        "fracture": layers.Dense(1, activation="sigmoid", name="fracture")(pooled),
        "kind": layers.Dense(1 + len(FRACTURE_KINDS), activation="softmax", name="kind")(pooled),
        "region": layers.Dense(len(REGIONS), activation="softmax", name="region")(pooled),
        "hardware": layers.Dense(1, activation="sigmoid", name="hardware")(pooled),
        "cast": layers.Dense(1, activation="sigmoid", name="cast")(pooled),
        "maps": layers.Conv2D(2, 1, activation="sigmoid", name="maps")(layers.Resizing(MAP_SIDE, MAP_SIDE)(middle)),
    }
    wanted = {} if teacher is None else {name: tensor.shape[-1] for name, tensor in teacher.output.items()}
    for stride, layer in stride_layers(base).items():
        if (name := f"teacher_{stride}") in wanted:
            outputs[name] = layers.Conv2D(wanted[name], 1, name=name)(base.get_layer(layer).output)
    if (name := "teacher_pool") in wanted:
        outputs[name] = layers.Dense(wanted[name], name=name)(pooled)
    return keras.Model(base.inputs[0], outputs, name=f"student_{backbone}_{size}")


def soften_residuals(model: keras.Model, gamma: float = 0.2) -> None:
    """Let residual branches of a random ResNet start small: gamma of each last batch normalisation."""
    for layer in model.layers:
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(np.full(layer.gamma.shape, gamma, np.float32))


def quicken_norms(model: keras.Model, momentum: float = 0.99) -> None:
    """Let batch norms' averages follow a run of some thousand steps; MobileNets keep 0.999 of them in a step."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, momentum)


def compile_student(model: keras.Model, stage: Stage) -> None:
    """AdamW with a short warm-up and a cosine to nothing over the steps of the stage."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.05 * stage.learning_rate,
        max(stage.steps - stage.steps // 20, 1),
        alpha=0.01,
        warmup_target=stage.learning_rate,
        warmup_steps=max(stage.steps // 20, 1),
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.02, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    names = list(model.output)
    model.compile(
        optimizer,
        loss={n: _LOSSES[n] for n in names},
        loss_weights={n: LOSS_WEIGHTS[n] for n in names},
        jit_compile=False,  # on a CPU, XLA takes minutes to compile a backbone and its convolutions are no faster
    )


class Batches(keras.utils.PyDataset):
    """Consecutive batches of one block of a stage; batch b of block k is the same in every run.

    Args:
        model: The student, for its input size and the names of its outputs.
        phantoms: Chunks of phantoms.
        real: Real X-rays, if any.
        teacher: Looks at every image as it is before it is disturbed; None for none.
        statistics: Mean and standard deviation of the teacher's channels, see `channel_statistics`.
        stage: Gives batch size and the share of real views.
        first: Number of the first step.
        steps: Number of steps.
        seed: Of the whole pretraining.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        phantoms: Sequence[Arrays],
        stage: Stage,
        first: int,
        steps: int,
        seed: int,
        real: Radiographs | None = None,
        teacher: keras.Model | None = None,
        statistics: Mapping | None = None,
    ) -> None:
        super().__init__(workers=1, max_queue_size=4)
        self.size = int(model.input.shape[1])
        self.names = list(model.output)
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in model.output.items()}
        self.phantoms, self.real, self.teacher, self.statistics = phantoms, real, teacher, statistics
        self.stage, self.first, self.steps, self.seed = stage, first, steps, seed

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, Arrays, Arrays]:
        """Batch `index` as (images, targets, weights of the targets)."""
        rng = np.random.default_rng([self.seed, self.stage.number, self.first + index])
        images, examples, flips = self._views(self.first + index, rng)
        targets, weights = {}, {}
        for name in self.names:
            if not name.startswith("teacher_"):
                targets[name], weights[name] = self._target(name, examples, flips)
        if self.teacher is not None and self.statistics is not None:
            for name, maps in self.teacher.predict_on_batch(images[..., None].astype(np.float32)).items():
                if name in self.names:
                    mean, deviation = self.statistics[name]
                    targets[name] = (np.asarray(maps) - mean) / deviation
                    weights[name] = np.ones(maps.shape[:-1], np.float32)
        return disturb(images, rng=rng)[..., None], targets, weights

    def undisturbed(self, index: int) -> np.ndarray:
        """The images of batch `index` as a teacher sees them, float32 (n, size, size, 1)."""
        rng = np.random.default_rng([self.seed, self.stage.number, self.first + index])
        return self._views(self.first + index, rng)[0][..., None].astype(np.float32)

    def _views(self, step: int, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[Arrays, int]], np.ndarray]:
        """Images, uint8 (n, size, size), what is known of each, and which of them are mirrored."""
        real = self.real
        n_real = 0 if real is None else 2 * round(self.stage.batch_size * self.stage.real_share / 2)
        n_pairs = (self.stage.batch_size - n_real) // 2
        examples = [twin for pair in self._pairs(step, n_pairs) for twin in self._twins(*pair, rng)]
        images = [_shrink(chunk["image"][row], self.size) for chunk, row in examples]
        flips = rng.random(2 * n_pairs + n_real) < 0.5
        flips[1 : 2 * n_pairs : 2] = flips[: 2 * n_pairs : 2]
        if real is not None:
            for number in self._numbers(step, n_real, of=len(real)):
                close = rng.random() < self.stage.window
                images.append(real.view(number, size=self.size, zoom=CLOSE if close else WHOLE, rng=rng))
                examples.append((_known_of(UNKNOWN if close else int(real.labels[number])), 0))
        stacked = np.stack(images)
        stacked[flips] = stacked[flips, :, ::-1]
        return stacked, examples, flips

    def _pairs(self, step: int, n: int) -> list[tuple[Arrays, int]]:
        """First rows of twins, walking through the chunks in order, each pass shuffled within a chunk."""
        length = len(self.phantoms[0]["image"]) // 2
        drawn = []
        for position in range(step * n, (step + 1) * n):
            turn, within = divmod(position, length * len(self.phantoms))
            number, place = divmod(within, length)
            order = np.random.default_rng([self.seed, turn, number]).permutation(length)
            chunk = self.phantoms[number]
            drawn.append((chunk, 2 * min(int(order[place]), len(chunk["image"]) // 2 - 1)))
        return drawn

    def _numbers(self, step: int, n: int, *, of: int) -> list[int]:
        """Which real X-rays a step sees: pass after pass over all of them, each in its own order."""
        numbers = []
        for position in range(step * n, (step + 1) * n):
            turn, place = divmod(position, of)
            numbers.append(int(np.random.default_rng([self.seed, turn]).permutation(of)[place]))
        return numbers

    def _twins(self, chunk: Arrays, row: int, rng: np.random.Generator) -> list[tuple[Arrays, int]]:
        """The pair of phantoms that begins at `row`, whole or both through the same window."""
        rows = (row, row + 1)
        if rng.random() >= self.stage.window or self.size > len(chunk["image"][row]):
            return [(chunk, r) for r in rows]
        corner = window_corner(chunk["place"][row], side=self.size // (len(chunk["image"][row]) // MAP_SIDE), rng=rng)
        return [(window(chunk, r, side=self.size, corner=corner), 0) for r in rows]

    def _target(
        self, name: str, examples: list[tuple[Arrays, int]], flips: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if name == "maps":
            maps = np.zeros((len(examples), *self.shapes[name]), np.float32)
            weight = np.zeros(maps.shape[:3], np.float32)
            for i, (chunk, row) in enumerate(examples):
                if name in chunk:
                    maps[i] = chunk[name][row] / 255
                    weight[i] = 1 + FRACTURE_CELLS * maps[i, ..., 1]
            maps[flips], weight[flips] = maps[flips, :, ::-1], weight[flips, :, ::-1]
            return maps, weight
        values = np.array([chunk[name][row] for chunk, row in examples], np.int32)
        weight = (values != UNKNOWN).astype(np.float32)
        if name == "fracture":
            real = np.array(["maps" not in chunk for chunk, _ in examples])
            # One in six real X-rays is fractured: balance them.
            weight[real] *= self.stage.supervision * np.where(values[real] == 1, 2.5, 0.7)
        values = np.maximum(values, 0)
        return (values if name in ("kind", "region") else values.astype(np.float32)[:, None]), weight


def _known_of(label: int) -> Arrays:
    """What is known of a view of a real X-ray, as a chunk of one row."""
    return {"fracture": np.array([label])} | {
        name: np.array([UNKNOWN]) for name in ("kind", "region", "hardware", "cast")
    }


def window_corner(place: np.ndarray, *, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a window lies that shows a cell of the fracture, not on its rim.

    Args:
        place: bool (MAP_SIDE, MAP_SIDE), the cells that the fracture passes through.
        side: Side of the window in cells.
        rng: Source of randomness.

    Returns:
        Its top and left cell.
    """
    cells = np.argwhere(place)
    centre = cells[rng.integers(len(cells))] if len(cells) else rng.integers(0, MAP_SIDE, 2)
    inside = rng.integers(1, side - 1, 2) if side > 2 else rng.integers(0, side, 2)
    top, left = np.clip(centre - inside, 0, MAP_SIDE - side)
    return int(top), int(left)


def window(phantom: Arrays, row: int, *, side: int, corner: tuple[int, int]) -> Arrays:
    """A square part of one phantom at full resolution, as a chunk of one row with the targets that hold for the part.

    Args:
        phantom: A chunk.
        row: Row in it.
        side: Side of the part in pixels, a multiple of the side of a cell of the dense maps.
        corner: Its top and left cell; see `window_corner`.

    Returns:
        `image` (1, side, side) and every target; "fracture" and "kind" say what can be seen in the part.
    """
    image, maps = phantom["image"][row], phantom["maps"][row]
    cell = len(image) // MAP_SIDE
    span = side // cell
    top, left = corner
    part = maps[top : top + span, left : left + span]
    rows, columns = (np.arange(MAP_SIDE) * span // MAP_SIDE,) * 2
    seen = int(part[..., 1].max() > 127)
    return {
        "image": image[None, top * cell : top * cell + side, left * cell : left * cell + side],
        "maps": part[rows][:, columns][None],
        "fracture": np.array([seen]),
        "kind": np.array([phantom["kind"][row] * seen]),
        "region": np.array([phantom["region"][row]]),
        # Hardware and casts may lie outside of the part.
        "hardware": np.array([UNKNOWN]),
        "cast": np.array([UNKNOWN]),
    }


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    if len(image) == size:
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
