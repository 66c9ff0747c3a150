"""The model that the repository ships: three heads on maps of one EfficientNet-Lite2, averaged, in one graph."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.training import Fit, Prepared

if TYPE_CHECKING:
    import keras

    from fracturelab.models.weights import WeightsInfo
    from fracturelab.training.fitting import Candidate
    from fracturelab.training.maps import MapStore

SIZE, SEEDS, VIEWS = 320, (0, 1, 2), 2
DATA_LICENCE = "CC BY 4.0; Abedeen et al., FracAtlas, Scientific Data 2023, doi:10.1038/s41597-023-02432-4"


def train_small(folder: str | Path, *, progress: bool = True) -> tuple[Fit, list[Candidate]]:
    """Train the heads on FracAtlas and average them; validation images choose, and calibrate.

    Args:
        folder: FracAtlas, with its annotations.
        progress: Show progress bars.

    Returns:
        The fit, and its heads one by one.
    """
    from fracturelab.datasets import read_dataset
    from fracturelab.datasets.fractures import fracture_masks
    from fracturelab.models.transfer import build_transfer_model
    from fracturelab.models.weights import resolve
    from fracturelab.training import prepare
    from fracturelab.training.maps import store_maps

    prepared = prepare(read_dataset(folder), size=SIZE, progress=progress)
    info = resolve("EfficientNetLite2", "imagenet")
    transfer = build_transfer_model(info.backbone, weights=info, input_size=SIZE)
    fractures = fracture_masks(prepared.table, SIZE)
    stored = store_maps(transfer, prepared, fractures, views=VIEWS, progress=progress)
    return fit_small(transfer, stored, prepared, info, progress=progress)


def fit_small(
    transfer: keras.Model, stored: MapStore, prepared: Prepared, info: WeightsInfo, *, progress: bool = True
) -> tuple[Fit, list[Candidate]]:
    """Train from stored activations: see `train_small`."""
    from fracturelab.training.maps import fit_head

    started = time.perf_counter()
    heads = [fit_head(transfer, stored, prepared, seed=seed, progress=progress) for seed in SEEDS]
    return averaged(transfer, heads, prepared, info, started=started), heads


def averaged(
    transfer: keras.Model, heads: Sequence[Candidate], prepared: Prepared, info: WeightsInfo, *, started: float
) -> Fit:
    """Average the heads, round the model to half precision and calibrate it on the validation images."""
    from fracturelab.models.files import round_to_half
    from fracturelab.models.maps import CELLS, average_heads
    from fracturelab.training.calibration import calibrated
    from fracturelab.training.fitting import finished_fit
    from fracturelab.training.maps import HEAD, OUTLINES

    model = average_heads(transfer, [head.model for head in heads])
    round_to_half(model)
    recipe = {"recipe": "maps", "backbone": info.backbone, "backbone_options": info.options, "input_size": SIZE}
    fit = finished_fit(
        model,
        prepared,
        [{**row, "stage": f"seed {seed}"} for seed, head in zip(SEEDS, heads, strict=True) for row in head.history],
        recipe={
            **recipe,
            "views": VIEWS,
            "seeds": list(SEEDS),
            "map": CELLS,
            "head": asdict(HEAD),
            "outlines": OUTLINES,
        },
        candidates={f"seed {seed}": head.scores for seed, head in zip(SEEDS, heads, strict=True)},
        chosen="average of the heads",
        weights=info,
        started=started,
    )
    return calibrated(fit)


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
    models = {**{f"seed {seed}": head.model for seed, head in zip(SEEDS, heads, strict=True)}, fit.chosen: fit.model}
    scores = {name: ranking_scores(fit.prepared, model) for name, model in models.items()}
    return write_record(f"heads-{path.stem}", kind="heads", results={"scores": scores}, folder=results)


def ranking_scores(prepared: Prepared, model: keras.Model, parts: Sequence[str] = ("val", "test")) -> dict[str, Any]:
    """ROC AUC and average precision with their intervals, for each part."""
    from fracturelab.evaluation import evaluate
    from fracturelab.training.epochs import predict

    scores = {}
    for part in parts:
        rows = prepared.rows(part)
        answers = predict(model, prepared.images, rows=rows)
        metrics = evaluate(prepared.labels[rows], answers, threshold=0.5, groups=prepared.groups[rows]).to_record()
        scores[part] = {name: metrics["metrics"][name] for name in ("roc_auc", "pr_auc")}
    return scores
