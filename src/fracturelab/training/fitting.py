"""A fitted model with everything that belongs to it, and the training of a network on augmented images."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import Evaluation, MulticlassEvaluation, choose_threshold, evaluate, multiclass_metrics
from fracturelab.models.files import save_model
from fracturelab.models.weights import WeightsInfo
from fracturelab.pipeline import Augmentation, batches, view_batches
from fracturelab.training.epochs import Schedule, compile_model, predict, run_epochs, validation_scores
from fracturelab.training.prepare import CLASS_NAMES, Prepared, known_to_weights, shared_groups
from fracturelab.training.saving import card_of, evaluate_parts

if TYPE_CHECKING:
    import keras

HISTORY = ["stage", "epoch", "loss", "val_loss", "val_auc", "learning_rate"]


@dataclass(frozen=True, repr=False)
class Fit:
    """A fitted model and how it was made.

    Attributes:
        model: The reloaded checkpoint of the best epoch.
        prepared: The images, labels and split that it was fitted on.
        threshold: From this P(fractured) on an image is called fractured; chosen on validation images.
        history: One row an epoch, with the columns `HISTORY`.
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
        """Score the model on one part of its data at its own threshold, with intervals over groups.

        Args:
            part: "train", "val" or "test".

        Raises:
            FracturelabError: The part has no images.
        """
        prepared, names, rows = self.prepared, self.prepared.class_names, self.prepared.rows(part)
        if not len(rows):
            raise FracturelabError(f"expected a part with images, such as val. Received: {part}, which has none")
        probabilities = predict(self.model, prepared.images, rows=rows)
        labels, groups = prepared.labels[rows], prepared.groups[rows]
        if names == CLASS_NAMES:
            return evaluate(labels, probabilities, threshold=self.threshold, groups=groups)
        return multiclass_metrics(labels, probabilities, class_names=names, groups=groups)

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


@dataclass(frozen=True)
class Candidate:
    """A trained model that a recipe may choose.

    Attributes:
        name: Name of the stage that trained it, such as "probe".
        model: The saved and reloaded model.
        val_loss: Log loss on the validation images, with equal weight for both classes.
        val_auc: ROC AUC on the validation images; None where undefined.
        history: A dict for each epoch.
    """

    name: str
    model: keras.Model
    val_loss: float
    val_auc: float | None
    history: list[dict[str, Any]]

    @property
    def scores(self) -> dict[str, float | None]:
        """Validation loss and AUC."""
        return {"val_loss": self.val_loss, "val_auc": self.val_auc}


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest validation AUC; the first of them where it is equal or undefined."""
    return max(candidates, key=lambda candidate: -1.0 if candidate.val_auc is None else candidate.val_auc)


@dataclass(frozen=True)
class Activations:
    """Stored activations at the freeze line, on which fine-tuning trains the layers above it.

    Attributes:
        train: float16 (n, h, w, channels) for each view.
        train_rows: Row of each training image in these arrays.
        val: float16 (m, h, w, channels) of the unchanged images.
        val_rows: Row of each validation image in that array.
    """

    train: list[np.memmap]
    train_rows: NDArray[np.int64]
    val: np.memmap
    val_rows: NDArray[np.int64]


def validate(model: keras.Model, prepared: Prepared, stored: Activations | None = None) -> tuple[float, float | None]:
    """Score a model on the validation images.

    Args:
        model: From images, or from stored activations, to probabilities.
        prepared: Images, labels and split.
        stored: Stored activations; None for the images.

    Returns:
        Loss and ROC AUC, as `validation_scores` gives them.
    """
    val = prepared.rows("val")
    inputs, rows = (prepared.images, val) if stored is None else (stored.val, stored.val_rows)
    return validation_scores(prepared.labels[val], predict(model, inputs, rows=rows))


def train_stage(
    model: keras.Model,
    prepared: Prepared,
    *,
    schedule: Schedule,
    seed: int,
    augmentation: Augmentation | None = None,
    stored: Activations | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Train a model on balanced batches; it ends with the weights of its best epoch.

    Args:
        model: From images, or from stored activations, to probabilities; layers that are not trainable stay as they
            are.
        prepared: Images, labels and split.
        schedule: Settings of the training.
        seed: Order, views and dropout follow from it.
        augmentation: Limits of the random changes to each image; None shows the images unchanged.
        stored: Stored activations to train on instead of images.
        settings: `stage`, `work_dir` and `progress` of `run_epochs`.

    Returns:
        The history, as `run_epochs` returns it.
    """
    compile_model(model, learning_rate=schedule.learning_rate, weight_decay=schedule.weight_decay)
    train, labels = prepared.rows("train"), prepared.labels

    def epoch_data(epoch: int) -> Any:
        order: dict[str, Any] = {"batch_size": schedule.batch_size, "seed": seed, "epoch": epoch}
        if stored is not None:
            return view_batches([stored.train], labels[train], rows=stored.train_rows, **order)
        return batches(prepared.images, labels, rows=train, balanced=True, augmentation=augmentation, **order)

    def scores() -> tuple[float, float | None]:
        return validate(model, prepared, stored)

    return run_epochs(model, epoch_data, scores, schedule=schedule, seed=seed, **settings)


def chosen_fit(candidates: Sequence[Candidate], prepared: Prepared, **settings: Any) -> Fit:
    """The fit of the best candidate, with the history and the scores of all; `settings` are those of `finished_fit`."""
    best = choose(candidates)
    history = [row for candidate in candidates for row in candidate.history]
    scores = {candidate.name: candidate.scores for candidate in candidates}
    return finished_fit(best.model, prepared, history, candidates=scores, chosen=best.name, **settings)


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
        history=pd.DataFrame(history, columns=HISTORY),
        candidates={**(candidates or {}), chosen: {"val_loss": loss, "val_auc": auc}},
        chosen=chosen,
        weights=weights,
        recipe={**recipe, "input_size": prepared.size},
        seconds=time.perf_counter() - started,
        seed=seed,
        warnings=(*(row["warning"] for row in history if "warning" in row), *leaks),
    )
