"""The stages of a pretraining, run one after another, each from its last checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.models.files import sweep
from fracturelab.system.files import sha256_of, whole_file, write_json
from fracturelab.system.progress import tqdm
from scripts.pretraining.settings import check_settings
from scripts.pretraining.stores import SETTINGS, Arrays, open_chunks
from scripts.pretraining.student import Batches, build_student, compile_student
from scripts.pretraining.teacher import channel_statistics, teacher_digest
from scripts.pretraining.views import Radiographs

_SURVEYED = 8  # batches whose teacher's maps say how each channel is standardised
_PART = ".part.weights.h5"  # Keras looks at the end of the name


@dataclass(frozen=True)
class Stage:
    """One stretch of pretraining at one image size.

    Attributes:
        number: Place in the recipe, from 0.
        name: Names the checkpoint and, where the stage is exported, the weights.
        size: Side of the images in pixels.
        images: How many views are seen.
        learning_rate: Peak of the schedule.
        real_share: Share of real views in a batch; the rest are phantoms.
        supervision: Weight of the label of a whole real view, against 1 for a phantom's.
        batch_size: Views a step.
        window: Share of the pairs of phantoms that come as windows of their full resolution around the fracture, and
            not as whole images shrunk to `size`; a fracture then fills a good part of what is seen. The same share of
            real views shows a part, magnified, whose label is not known.
    """

    number: int
    name: str
    size: int
    images: int
    learning_rate: float
    real_share: float = 0.0
    supervision: float = 0.0
    batch_size: int = 32
    window: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the whole stage, at least one."""
        return max(self.images // self.batch_size, 1)


def recipe(*, scale: float = 1.0, real: bool = True) -> tuple[Stage, ...]:
    """Small images first, then larger ones: a quarter phantoms, the rest real X-rays, all seen by the teacher as well.

    Most real views are whole, so that their labels count: where a fifth of all views had a real label, a network copied
    its teacher and learned nearly nothing of fractures (see the card of the bundled MobileNetV2 weights).

    Args:
        scale: Multiplies the number of images of every stage.
        real: Whether there are real X-rays.

    Returns:
        The stages.
    """
    share, weight, window = (0.75, 2.0, 0.3) if real else (0.0, 0.0, 0.6)
    kind = "both" if real else "phantoms"
    return (
        Stage(0, f"{kind}-96", 96, int(40_000 * scale), 1e-3, share, weight, window=window),
        Stage(1, f"{kind}-128", 128, int(20_000 * scale), 5e-4, share, weight, window=window),
        Stage(2, f"{kind}-160", 160, int(20_000 * scale), 3e-4, share, weight, window=window),
    )


def pretrain(
    folder: str | Path,
    *,
    backbone: str,
    phantoms: str | Path,
    stages: Sequence[Stage],
    real: Radiographs | None = None,
    teacher: Callable[[int], keras.Model] | None = None,
    weights_path: str | Path | None = None,
    options: Mapping | None = None,
    scaling: str | Mapping = "tf",
    seed: int = 0,
    block: int = 60,
) -> Path:
    """Run every stage that is not finished; stop it at any moment and call it again.

    Args:
        folder: Checkpoints and the log of this run.
        backbone: A name of `keras.applications`.
        phantoms: Folder written by `stores.write_phantoms`.
        stages: See `recipe`.
        real: Real X-rays to train on as well.
        teacher: Gives the teacher for images of a side in pixels, see `teacher.build_teacher`; None for none.
        weights_path: What the backbone starts from; None for random weights.
        options: Options of the backbone's builder.
        scaling: How the backbone sees grey levels.
        seed: Seed of weights and batches.
        block: Steps between two checkpoints.

    Returns:
        The weights file of the last stage, `<stage>.weights.h5` of the backbone alone.

    Raises:
        FracturelabError: No phantoms or stages, or the folder holds a stage, finished or not, of other settings.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, (f".*{_PART}", ".*.part.npz"))
    chunks = open_chunks(Path(phantoms))
    if not chunks:
        raise FracturelabError(f"expected chunks of phantoms in {phantoms}. Received: an empty folder")
    previous: Path | None = None
    common = {
        "backbone": backbone,
        "options": dict(options or {}),
        "scaling": scaling if isinstance(scaling, str) else dict(scaling),
        "seed": seed,
        "phantoms": _said_of(phantoms),
        "real": real and real.digest(),
        "weights": weights_path and sha256_of(weights_path),
    }
    settings = {}
    for stage, before in zip(stages, (None, *stages), strict=False):
        settings[stage.name] = {
            **asdict(stage),
            "after": before and before.name,
            **common,
            "teacher": teacher and teacher_digest(teacher(stage.size)),
        }
        if _weights(folder, stage).exists() or _checkpoint(folder, stage).exists():
            check_settings(_description(folder, stage), settings[stage.name], what=f"the stage {stage.name!r} was")
    for stage in stages:
        finished = _weights(folder, stage)
        if not finished.exists():
            write_json(_description(folder, stage), settings[stage.name])
            keras.utils.set_random_seed(seed)
            teaching = teacher(stage.size) if teacher is not None else None
            student = build_student(
                backbone, size=stage.size, options=options, scaling=scaling, teacher=teaching, weights_path=weights_path
            )
            if previous is not None:
                _load_by_name(student, previous)
            compile_student(student, stage)
            run_stage(
                student, stage, folder=folder, phantoms=chunks, real=real, teacher=teaching, seed=seed, block=block
            )
            _save_weights(student, finished)
        previous = finished
    if previous is None:
        raise FracturelabError("expected at least one stage. Received: none")
    return previous


def run_stage(
    student: keras.Model,
    stage: Stage,
    *,
    folder: Path,
    phantoms: Sequence[Arrays],
    real: Radiographs | None,
    teacher: keras.Model | None,
    seed: int,
    block: int,
) -> None:
    """Train one stage block by block; a checkpoint holds weights, optimizer and the number of steps done."""
    checkpoint = _checkpoint(folder, stage)
    done = 0
    if checkpoint.exists():
        student.optimizer.build(student.trainable_variables)
        student.load_weights(checkpoint)
        done = int(student.optimizer.iterations)
    fixed: dict[str, Any] = {"phantoms": phantoms, "real": real, "stage": stage, "seed": seed}
    if teacher is not None:
        first = Batches(student, first=0, steps=min(_SURVEYED, stage.steps), **fixed)
        statistics = channel_statistics(teacher, (first.undisturbed(index) for index in range(len(first))))
        fixed |= {"teacher": teacher, "statistics": statistics}
    progress = tqdm(total=stage.steps, initial=done, desc=stage.name, unit="step")
    while done < stage.steps:
        steps = min(block, stage.steps - done)
        batches = Batches(student, first=done, steps=steps, **fixed)
        begun = time.time()
        logs = student.fit(batches, epochs=1, verbose=0).history
        done += steps
        with whole_file(checkpoint, suffix=_PART) as part:
            student.save_weights(part)
        line = {
            "stage": stage.name,
            "step": done,
            "images_per_second": steps * stage.batch_size / (time.time() - begun),
            **{k: round(float(v[-1]), 4) for k, v in logs.items()},
        }
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        progress.update(steps)
        progress.set_postfix(loss=f"{line['loss']:.3f}", rate=f"{line['images_per_second']:.1f}/s")
    progress.close()


def check_stage(folder: Path, stage: Stage, **more: object) -> None:
    """Refuse a folder whose weights of a stage were made with other settings.

    Args:
        folder: Folder of the run.
        stage: The stage as it is described to others.
        more: Further settings, such as `backbone`.

    Raises:
        FracturelabError: Other settings.
    """
    what = f"the stage {stage.name!r} was"
    check_settings(_description(folder, stage), {**asdict(stage), **more}, what=what, partly=True)


def started_from(folder: Path, stage: Stage) -> str | None:
    """sha256 of the weights that a stage's run began with; None for random ones."""
    return (_said(_description(folder, stage)) or {}).get("weights")


def _weights(folder: Path, stage: Stage) -> Path:
    return folder / f"{stage.name}.weights.h5"


def _checkpoint(folder: Path, stage: Stage) -> Path:
    return folder / f"{stage.name}.checkpoint.weights.h5"


def _description(folder: Path, stage: Stage) -> Path:
    return folder / f"{stage.name}.json"


def _said_of(store: str | Path) -> dict | None:
    """What the views of a store were made with."""
    return _said(Path(store) / SETTINGS)


def _said(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _load_by_name(student: keras.Model, path: Path) -> None:
    """Weights of an earlier stage into every layer of the same name and shapes."""
    saved = np.load(path.with_suffix(".npz"))
    for layer in student.layers:
        for i, weight in enumerate(layer.weights):
            key = f"{layer.name}/{i}"
            if key in saved and saved[key].shape == tuple(weight.shape):
                weight.assign(saved[key])


def _save_weights(student: keras.Model, path: Path) -> None:
    """All weights by layer name (for the next stage) and, last, the student's own weights file."""
    arrays = {f"{layer.name}/{i}": np.asarray(w) for layer in student.layers for i, w in enumerate(layer.weights)}
    with whole_file(path.with_suffix(".npz"), suffix=".part.npz") as part:
        np.savez(part, allow_pickle=False, **arrays)
    with whole_file(path, suffix=_PART) as part:
        student.save_weights(part)
