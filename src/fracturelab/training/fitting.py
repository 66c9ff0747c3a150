"""A fitted model with everything that belongs to it, and the training of a network on augmented images."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.models.files import save_model
from fracturelab.models.weights import WeightsInfo
from fracturelab.pipeline import Augmentation, batches
from fracturelab.training.epochs import (
    Schedule,
    check_parts,
    compile_model,
    history_table,
    predict,
    reloaded,
    run_epochs,
    set_seed,
    validation_scores,
)
from fracturelab.training.prepare import Prepared, known_to_weights, shared_groups
from fracturelab.training.saving import card_of, evaluate_part, evaluate_parts

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from fracturelab.evaluation import Evaluation, MulticlassEvaluation


@dataclass(frozen=True, repr=False)
class Fit:
    """A fitted model and how it was made.

    Attributes:
        model: The reloaded checkpoint of the best epoch.
        prepared: The images, labels and split that it was fitted on.
        threshold: From this P(fractured) on an image is called fractured; chosen on validation images.
        history: Columns stage, epoch, loss, val_loss, val_auc, learning_rate.
        candidates: Name of each candidate and its validation scores; the model is the best of them.
        chosen: Name of the chosen candidate.
        weights: The weights that the model started from; None for a network trained from scratch.
        recipe: Settings of the run, for its record.
        seconds: Wall-clock time of the fit.
        seed: Seed of the fit.
        warnings: Sentences on what the scores hide, such as a loss that was not finite.
    """

    model: keras.Model
    prepared: Prepared
    threshold: float
    history: pd.DataFrame
    candidates: dict[str, dict[str, float | None]]
    chosen: str
    weights: WeightsInfo | None
    recipe: dict[str, Any]
    seconds: float
    seed: int
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        auc = self.candidates[self.chosen]["val_auc"]
        score = "not defined" if auc is None else f"{auc:.3f}"
        return f"Fit({self.recipe['recipe']}: {self.chosen}, validation AUC {score}, threshold {self.threshold:.3f})"

    def evaluate(self, part: str = "test") -> Evaluation | MulticlassEvaluation:
        """Score the model on one part of its data ("train", "val" or "test"), with intervals over groups.

        Raises:
            FracturelabError: The part has no images.
        """
        return evaluate_part(self, part)

    def save(self, path: str | Path, *, name: str | None = None, evaluations: Mapping[str, Any] | None = None) -> Path:
        """Save the model with its card beside it, as `fracturelab train` does.

        Args:
            path: The model file; it ends in `.keras`.
            name: Name of the model; the file's if None.
            evaluations: Scores for the card, from `saving.evaluate_parts`; made here if None.

        Returns:
            The model file.

        Raises:
            FracturelabError: The file cannot be written, or its name does not end in `.keras`.
        """
        evaluations = evaluate_parts(self) if evaluations is None else evaluations
        return save_model(self.model, path, card_of(self, name=name or Path(path).stem, evaluations=evaluations))


def train_network(
    build: Callable[[], keras.Model],
    prepared: Prepared,
    *,
    name: str,
    schedule: Schedule,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    recipe: Mapping[str, Any] | None = None,
    weights: WeightsInfo | None = None,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train a network on balanced batches of augmented images; validation images choose epoch and threshold.

    Args:
        build: Returns the untrained network; called after the seed was set.
        prepared: Images, labels and split.
        name: Name of the stage in the history and of the only candidate.
        schedule: Settings of the training.
        seed: Initial weights, order, augmentation and dropout follow from it; two runs with one seed are equal.
        augmentation: Limits of the random changes to each image; None shows the images unchanged.
        recipe: Further settings for the record.
        weights: The weights that the network started from.
        work_dir: Folder for checkpoints of this run alone, from which a stopped run continues; None keeps none.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the epoch with the lowest validation loss.

    Raises:
        FracturelabError: A class is missing in training or validation, or the loss is not finite from the start.
    """
    started = time.perf_counter()
    set_seed(seed)
    train, val = check_parts(prepared)
    model = build()
    compile_model(model, learning_rate=schedule.learning_rate, weight_decay=schedule.weight_decay)
    order: dict[str, Any] = {"rows": train, "batch_size": schedule.batch_size, "balanced": True, "seed": seed}

    def epoch_data(epoch: int) -> Any:
        return batches(prepared.images, prepared.labels, **order, augmentation=augmentation, epoch=epoch)

    def validate() -> tuple[float, float | None]:
        return validation_scores(prepared.labels[val], predict(model, prepared.images, rows=val))

    with tempfile.TemporaryDirectory(prefix="fracturelab-") as temporary:
        folder = Path(temporary if work_dir is None else work_dir) / name
        settings: dict[str, Any] = {"stage": name, "schedule": schedule, "seed": seed, "progress": progress}
        history = run_epochs(model, epoch_data, validate, folder=folder, **settings)
        model = reloaded(model, Path(temporary) / f"{name}.keras")
    recipe = {"recipe": name, **asdict(schedule), **(recipe or {})}
    return finished_fit(model, prepared, history, recipe=recipe, weights=weights, seed=seed, started=started)


def finished_fit(
    model: keras.Model,
    prepared: Prepared,
    history: list[dict[str, Any]],
    *,
    recipe: Mapping[str, Any],
    candidates: Mapping[str, dict[str, float | None]] | None = None,
    chosen: str | None = None,
    weights: WeightsInfo | None = None,
    seed: int = 0,
    started: float = 0.0,
) -> Fit:
    """Choose the threshold on the validation images and gather everything in a `Fit`.

    Args:
        model: The trained model, reloaded.
        prepared: Its images.
        history: Rows as `run_epochs` returns them.
        recipe: Settings for the record, with the name of the recipe as `recipe`.
        candidates: Validation scores of the candidates; the chosen one is scored here.
        chosen: Name of the chosen candidate; the history's last stage if None.
        weights: The weights that the model started from.
        seed: Seed of the fit.
        started: `time.perf_counter()` at its start.
    """
    from fracturelab.evaluation import choose_threshold

    val = prepared.rows("val")
    labels = prepared.labels[val]
    probabilities = predict(model, prepared.images, rows=val)
    loss, auc = validation_scores(labels, probabilities)
    threshold = choose_threshold(labels, probabilities) if probabilities.ndim == 1 else 0.5
    leaks = [*shared_groups(prepared), *known_to_weights(prepared, weights)]
    for sentence in [] if prepared.leaks_on_purpose else leaks:
        warnings.warn(sentence, stacklevel=3)
    chosen = history[-1]["stage"] if chosen is None else chosen
    return Fit(
        model=model,
        prepared=prepared,
        threshold=float(threshold),
        history=history_table(history),
        candidates={**(candidates or {}), chosen: {"val_loss": loss, "val_auc": auc}},
        chosen=chosen,
        weights=weights,
        recipe={**recipe, "input_size": prepared.size},
        seconds=time.perf_counter() - started,
        seed=seed,
        warnings=(*(row["warning"] for row in history if "warning" in row), *leaks),
    )
