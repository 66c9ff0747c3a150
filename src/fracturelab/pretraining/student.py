"""The student: a backbone with an output for everything that a view can teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from fracturelab.models.backbones import build_backbone, feature_layers
from fracturelab.phantoms import FRACTURE_KINDS, REGIONS
from fracturelab.pretraining.stores import MAP_SIDE, UNKNOWN, Arrays
from fracturelab.pretraining.views import disturb

if TYPE_CHECKING:
    from fracturelab.pretraining.run import Stage

# How much each output counts. The two teacher outputs are means of squared errors of standardised features (1 at the
# start), the others are cross-entropies.
LOSS_WEIGHTS = {
    "fracture": 1.0, "kind": 0.5, "region": 0.3, "hardware": 0.2, "cast": 0.2, "maps": 2.0,
    "teacher_pool": 1.5, "teacher_map": 1.0,
}  # fmt: skip
FRACTURE_CELLS = 4.0  # how much more a cell of the dense maps counts that a fracture passes through; they are few
_LOSSES = {
    "fracture": "binary_crossentropy", "hardware": "binary_crossentropy", "cast": "binary_crossentropy",
    "kind": "sparse_categorical_crossentropy", "region": "sparse_categorical_crossentropy",
    "maps": "binary_crossentropy", "teacher_pool": "mean_squared_error", "teacher_map": "mean_squared_error",
}  # fmt: skip


def build_student(
    backbone: str, *, size: int, options: Mapping | None, scaling: str | Mapping, teacher: Arrays | None
) -> keras.Model:
    """A backbone with its pretraining outputs on top; a flat graph.

    Args:
        backbone: A name of `keras.applications`.
        size: Side of the input in pixels.
        options: Options of the backbone's builder.
        scaling: How the backbone sees grey levels; becomes part of the weights' description.
        teacher: The arrays `teacher_map` and `teacher_pool` of one chunk, for their shapes; None for none.

    Returns:
        A model from float32 (n, size, size, 1), 0..255, to a dict of outputs.
    """
    base = build_backbone(backbone, input_size=size, options=options, scaling=scaling)
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
    if teacher is not None:
        side, channels = teacher["teacher_map"].shape[1], teacher["teacher_map"].shape[-1]
        outputs["teacher_pool"] = layers.Dense(teacher["teacher_pool"].shape[-1], name="teacher_pool")(pooled)
        projected = layers.Conv2D(channels, 1, name="teacher_projection")(last)
        outputs["teacher_map"] = layers.Resizing(side, side, name="teacher_map")(projected)
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
        0.05 * stage.learning_rate, max(stage.steps - stage.steps // 20, 1), alpha=0.01,
        warmup_target=stage.learning_rate, warmup_steps=max(stage.steps // 20, 1),
    )  # fmt: skip
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.02, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    names = list(model.output)
    model.compile(
        optimizer, loss={n: _LOSSES[n] for n in names}, loss_weights={n: LOSS_WEIGHTS[n] for n in names},
        jit_compile=False,  # on a CPU, XLA takes minutes to compile a backbone and its convolutions are no faster
    )  # fmt: skip


class Batches(keras.utils.PyDataset):
    """Consecutive batches of one block of a stage; batch b of block k is the same in every run.

    Args:
        model: The student, for its input size and the names of its outputs.
        phantoms: Chunks of phantoms.
        real: Chunks of real views, may be empty.
        statistics: Mean and standard deviation of the teacher's features, for standardising.
        stage: Gives batch size and the share of real views.
        first: Number of the first step.
        steps: Number of steps.
        seed: Of the whole pretraining.
    """

    def __init__(
        self, model: keras.Model, *, phantoms: Sequence[Arrays], real: Sequence[Arrays], statistics: Arrays | None,
        stage: Stage, first: int, steps: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(workers=1, max_queue_size=4)
        self.size = int(model.input.shape[1])
        self.names = list(model.output)
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in model.output.items()}
        self.sources = (phantoms, real)
        self.statistics, self.stage, self.first, self.steps, self.seed = statistics, stage, first, steps, seed

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, Arrays, Arrays]:
        """Batch `index` as (images, targets, weights of the targets)."""
        step = self.first + index
        rng = np.random.default_rng([self.seed, self.stage.number, step])
        n_real = 2 * round(self.stage.batch_size * self.stage.real_share / 2) if self.sources[1] else 0
        pairs = self._draw(self.sources[0], step, (self.stage.batch_size - n_real) // 2)
        real = self._draw(self.sources[1], step, n_real)
        examples = [twin for pair in pairs for twin in self._twins(*pair, rng)] + real
        images = np.stack([_shrink(chunk["image"][row], self.size) for chunk, row in examples])
        flips = rng.random(len(examples)) < 0.5
        flips[1 : 2 * len(pairs) : 2] = flips[: 2 * len(pairs) : 2]
        images[flips] = images[flips, :, ::-1]
        targets, weights = {}, {}
        for name in self.names:
            targets[name], weights[name] = self._target(name, examples, flips)
        return disturb(images, rng=rng)[..., None], targets, weights

    def _draw(self, chunks: Sequence[Arrays], step: int, n: int) -> list[tuple[Arrays, int]]:
        """Rows, or first rows of pairs, that walk through the chunks in order, each pass shuffled within a chunk."""
        if not n:
            return []
        rows = 1 if _is_real(chunks[0]) else 2
        length = len(chunks[0]["image"]) // rows
        drawn = []
        for position in range(step * n, (step + 1) * n):
            turn, within = divmod(position, length * len(chunks))
            number, place = divmod(within, length)
            order = np.random.default_rng([self.seed, turn, number]).permutation(length)
            chunk = chunks[number]
            drawn.append((chunk, rows * min(int(order[place]), len(chunk["image"]) // rows - 1)))
        return drawn

    def _twins(self, chunk: Arrays, row: int, rng: np.random.Generator) -> list[tuple[Arrays, int]]:
        """The pair of phantoms that begins at `row`, whole or both through the same window."""
        rows = (row, row + 1)
        if rng.random() >= self.stage.window:
            return [(chunk, r) for r in rows]
        corner = window_corner(chunk["place"][row], side=self.size // (len(chunk["image"][row]) // MAP_SIDE), rng=rng)
        return [(window(chunk, r, side=self.size, corner=corner), 0) for r in rows]

    def _target(
        self, name: str, examples: list[tuple[Arrays, int]], flips: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        known = np.array([name in chunk for chunk, _ in examples])
        dense = name in ("maps", "teacher_map", "teacher_pool")
        if not dense:
            values = np.array([chunk[name][row] for chunk, row in examples], np.int32)
            weight = (values != UNKNOWN).astype(np.float32)
            if name == "fracture":
                real = np.array([_is_real(chunk) for chunk, _ in examples])
                # One in six real X-rays is fractured: balance them, and let them count for less than what is exact.
                weight[real] *= self.stage.supervision * np.where(values[real] == 1, 2.5, 0.7)
            values = np.maximum(values, 0)
            return (values if name in ("kind", "region") else values.astype(np.float32)[:, None]), weight
        maps = np.zeros((len(examples), *self.shapes[name]), np.float32)
        for i, (chunk, row) in enumerate(examples):
            if known[i]:
                maps[i] = chunk[name][row]
        if name == "maps":
            maps /= 255
        elif self.statistics is not None:
            maps = ((maps - self.statistics[f"{name}_mean"]) / self.statistics[f"{name}_std"]).astype(np.float32)
        if maps.ndim == 4:
            maps[flips] = maps[flips, :, ::-1]
        weight = known.astype(np.float32)
        if maps.ndim == 4:
            weight = weight[:, None, None] * np.ones(maps.shape[:3], np.float32)
        if name == "maps":
            weight *= 1 + FRACTURE_CELLS * maps[..., 1]
        return maps, weight


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


def teacher_statistics(chunks: Sequence[Arrays]) -> Arrays:
    """Mean and standard deviation of each teacher feature over some chunks."""
    result = {}
    for name in ("teacher_map", "teacher_pool"):
        values = np.concatenate([np.asarray(c[name], np.float32).reshape(-1, c[name].shape[-1]) for c in chunks[:4]])
        result[f"{name}_mean"] = values.mean(0)
        result[f"{name}_std"] = values.std(0) + 1e-3
    return result


def _is_real(chunk: Arrays) -> bool:
    return "number" in chunk  # the row of the data set that a view was made of; phantoms have none


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    if len(image) == size:
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
