"""The model that the repository ships: three heads on maps of one EfficientNet-Lite2, averaged, in one graph."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.records import interval_text, markdown_table
from fracturelab.training import Fit, Prepared

if TYPE_CHECKING:
    import keras

    from fracturelab.models.weights import WeightsInfo
    from fracturelab.training.fitting import Candidate

DATA_LICENCE = "CC BY 4.0; Abedeen et al., FracAtlas, Scientific Data 2023, doi:10.1038/s41597-023-02432-4"


@dataclass(frozen=True)
class Recipe:
    """Settings of the shipped model.

    Attributes:
        size: Side of the input in pixels.
        seeds: One head each.
        views: Views of each training image: itself, and its mirror image.
        epochs: Of each head; None for those of `maps.HEAD`.
        weights: Of the backbone; None for ImageNet weights of EfficientNet-Lite2.
    """

    size: int = 320
    seeds: tuple[int, ...] = (0, 1, 2)
    views: int = 2
    epochs: int | None = None
    weights: WeightsInfo | None = None


def train_small(
    folder: str | Path, work: Path, *, recipe: Recipe | None = None, progress: bool = True
) -> tuple[Fit, list[Candidate]]:
    """Train the heads on FracAtlas, average them, round to half precision, and calibrate on the validation images.

    Args:
        folder: FracAtlas, with its annotations.
        work: Folder for activations (2.1 GB, deleted when all heads are trained) and heads. A stopped run continues.
        recipe: The settings; None for those of the shipped model.
        progress: Show progress bars.

    Returns:
        The fit, and its heads one by one.
    """
    from fracturelab.datasets import read_dataset
    from fracturelab.models.files import round_to_half
    from fracturelab.models.maps import CELLS, average_heads
    from fracturelab.models.weights import resolve
    from fracturelab.training import prepare
    from fracturelab.training.calibration import calibrated
    from fracturelab.training.epochs import set_seed
    from fracturelab.training.fitting import finished_fit
    from fracturelab.training.maps import HEAD, OUTLINES
    from fracturelab.training.v2 import frozen_model
    from scripts.evidence import runtime

    started, recipe = time.perf_counter(), recipe or Recipe()
    prepared = prepare(read_dataset(folder), size=recipe.size, progress=progress)
    info = recipe.weights or resolve("EfficientNetLite2", "imagenet")
    set_seed(recipe.seeds[0])
    transfer = frozen_model(prepared, info)
    schedule = replace(HEAD, epochs=recipe.epochs or HEAD.epochs)
    settings: dict[str, Any] = {
        "recipe": "maps",
        "backbone": info.backbone,
        "backbone_options": info.options,
        "input_size": recipe.size,
        "views": recipe.views,
        "runtime": runtime(),
        "map": CELLS,
        "head": asdict(schedule),
        "outlines": OUTLINES,
    }
    heads = _heads(transfer, prepared, info, work, settings=settings, seeds=recipe.seeds, progress=progress)
    model = average_heads(transfer, [head.model for head in heads])
    round_to_half(model)
    fit = finished_fit(
        model,
        prepared,
        [{**row, "stage": head.name} for head in heads for row in head.history],
        recipe={**settings, "seeds": list(recipe.seeds)},
        candidates={head.name: head.scores for head in heads},
        chosen="average of the heads",
        weights=info,
        started=started,
    )
    return calibrated(fit), heads


def _heads(
    transfer: keras.Model,
    prepared: Prepared,
    info: WeightsInfo,
    work: Path,
    *,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    progress: bool,
) -> list[Candidate]:
    """One head a seed; those that an earlier run with the same data and settings saved are opened."""
    from fracturelab.datasets import fingerprint
    from fracturelab.datasets.fractures import fracture_masks
    from fracturelab.models.files import load_model, read_card, save_model
    from fracturelab.training.epochs import Schedule
    from fracturelab.training.features import FeatureStore, remove
    from fracturelab.training.fitting import Candidate
    from fracturelab.training.maps import fit_head, store_maps

    key = json.dumps([fingerprint(prepared.table), info.sha256, settings], sort_keys=True)
    folder = work / hashlib.sha256(key.encode()).hexdigest()[:12]
    places = {seed: folder / f"head-{seed}.keras" for seed in seeds}
    missing = [seed for seed, path in places.items() if not path.with_suffix(".json").exists()]
    if missing:
        stored = store_maps(
            transfer,
            prepared,
            fracture_masks(prepared.table, prepared.size),
            views=settings["views"],
            runtime=settings["runtime"],
            store=FeatureStore(folder),
            progress=progress,
        )
        for seed in missing:
            schedule = Schedule(**settings["head"])
            head = fit_head(transfer, stored, prepared, seed=seed, schedule=schedule, progress=progress)
            save_model(head.model, places[seed], {"scores": head.scores, "history": head.history})
        remove([*stored.line, *stored.coarse])
    heads = []
    for seed, path in places.items():
        card = read_card(path)
        heads.append(Candidate(f"seed {seed}", load_model(path), **card["scores"], history=card["history"]))
    return heads


def write_small(fit: Fit, heads: Sequence[Candidate], path: Path, *, results: str | Path | None = None) -> Path:
    """Save the model with its card, its export and its record; the test part is looked at here, once.

    Args:
        fit: From `train_small`.
        heads: Its heads; the record shows their scores beside the model's.
        path: The model file.
        results: Folder of the record; the project's own if None.

    Returns:
        The record.
    """
    from fracturelab.models.files import round_to_half, save_model
    from fracturelab.prediction.export import export_model
    from fracturelab.records import write_record
    from fracturelab.training.saving import card_of, evaluate_parts, record_fit

    round_to_half(fit.model)  # calibration has changed the last kernel
    evaluations = evaluate_parts(fit)
    card = card_of(fit, name=path.stem, evaluations=evaluations)
    card["data"]["licence"] = DATA_LICENCE
    save_model(fit.model, path, card, half=True)
    export_model(path)
    record_fit(f"training-{path.stem}", fit, evaluations=evaluations, folder=results)
    models = {**{head.name: head.model for head in heads}, fit.chosen: fit.model}
    scores = {name: ranking_scores(fit.prepared, model) for name, model in models.items()}
    return write_record(f"heads-{path.stem}", kind="heads", results={"scores": scores}, folder=results)


def ranking_scores(prepared: Prepared, model: keras.Model, parts: Sequence[str] = ("val", "test")) -> dict[str, Any]:
    """ROC AUC and average precision with their intervals, for each part."""
    from fracturelab.evaluation import evaluate
    from fracturelab.training.epochs import predict

    scores: dict[str, Any] = {}
    for part in parts:
        rows = prepared.rows(part)
        answers = predict(model, prepared.images, rows=rows)
        metrics: Any = evaluate(prepared.labels[rows], answers, threshold=0.5, groups=prepared.groups[rows]).to_record()
        scores[part] = {name: metrics["metrics"][name] for name in ("roc_auc", "pr_auc")}
    return scores


def heads_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table of the scores of a model and of its heads one by one, from records of the kind "heads"."""
    lines = [
        [name, *(interval_text(scores[part][metric]) for part in ("val", "test") for metric in ("roc_auc", "pr_auc"))]
        for record in records
        if record["kind"] == "heads"
        for name, scores in record["results"]["scores"].items()
    ]
    head = ["", "validation: ROC AUC", "average precision", "test: ROC AUC", "average precision"]
    return markdown_table(head, lines, text_columns=1)


def levers_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table of what each step gave on validation images, from records of the kind "levers"."""
    lines = []
    for record in records:
        for step, scores in (record["results"]["levers"] if record["kind"] == "levers" else {}).items():
            values = [scores["roc_auc"]["value"], scores["pr_auc"]["value"]]
            change = scores.get("roc_auc_difference")
            lines.append([step, *(f"{value:.3f}" for value in values)])
            lines[-1] += [f"{change['value']:+.3f} ({change['low']:.3f} to {change['high']:.3f})"] if change else [""]
            lines[-1].insert(1, scores.get("against", ""))
    head = ["step", "instead of", "ROC AUC", "average precision", "difference in ROC AUC"]
    return markdown_table(head, lines, text_columns=2)
