"""v2 against the usual recipe: the head for 20 epochs, and ten further epochs of the last stage."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import data, machine, theirs
from benchmarks.running import Comparison, Outcome, print_step, two_sides

NOT_BELOW = "validation AUC at most two standard errors below theirs"


def train(
    *, folder: str, size: int, views: int, epochs: int, seed: int, backbone: str, options: dict, weights: str | None
) -> dict[str, Any]:
    """Train v2 from the files to the fitted model, without stored features."""
    from fracturelab import datasets, training
    from fracturelab.models.weights import resolve

    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as work:
        began = time.perf_counter()
        prepared = training.prepare(
            datasets.read_dataset(folder), size=size, test=0.0, cache_dir=Path(work) / "images", progress=False
        )
        ready = time.perf_counter()
        fit = training.train_v2(
            prepared,
            weights=resolve(backbone, weights, options),
            seed=seed,
            views=views,
            schedule=replace(training.FINE_TUNING, epochs=epochs, patience=None),
            store=training.FeatureStore(Path(work) / "features"),
            progress=False,
        )
        return {
            "seconds": time.perf_counter() - began,
            "reading_seconds": ready - began,
            "auc": {name: measured["val_auc"] for name, measured in fit.candidates.items()},
            "chosen": fit.chosen,
            "parts": [len(prepared.rows("train")), len(prepared.rows("val"))],
            "epochs": len(fit.history) - 1,
            "freeze_line": fit.recipe["freeze_line"],
        }


def costs(*, size: int, backbone: str, options: dict) -> dict[str, float]:
    """FLOPs of one image in the whole network and in its part above the freeze line."""
    from fracturelab.models.transfer import build_transfer_model, freeze_line, split_at

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its weights are random, which does not matter here
        model = build_transfer_model(backbone, weights="none", input_size=size, backbone_options=options)
    trunk, top = split_at(model, freeze_line(model))
    halves = 2 * math.prod(trunk.output.shape[1:])  # float16
    return {"whole": machine.flops(model), "top": machine.flops(top), "stored_bytes": float(halves)}


def starting_point(*, backbone: str, options: dict, weights: str | None) -> dict[str, Any]:
    """Path of the weights that both sides start from, None for random ones, and the scaling of the grey levels."""
    from fracturelab.models.backbones import check_scaling
    from fracturelab.models.weights import resolve

    info = resolve(backbone, weights, options)
    return {"weights": info.path and str(info.path), "scaling": check_scaling(info.scaling, backbone)}


@cache
def both_stages(
    *,
    images: int,
    size: int,
    views: int,
    head_epochs: int,
    epochs: int,
    repetitions: int,
    backbone: str,
    alpha: float | None,
    pretrained: bool,
) -> dict[str, Any]:
    """Run both stages on both sides, alternating; the two comparisons use the result."""
    options = {} if alpha is None else {"alpha": alpha}
    folder = str(data.training_set(images))
    shared = {"folder": folder, "size": size}
    measured: dict[str, list[Any]] = {"head": [], "whole": [], "their_head": [], "their_further": []}
    with two_sides() as (ours, other):
        network = {"backbone": backbone, "options": options}
        weights = "bundled" if pretrained else None
        start = ours(starting_point, **network, weights=weights)
        cost = ours(costs, size=size, **network)
        for seed in range(repetitions):
            print_step(f"{seed + 1} of {repetitions}: the head, then further epochs, on both sides")
            head = ours(train, **shared, **network, weights=weights, views=views, epochs=0, seed=seed)
            measured["head"].append(head)
            measured["their_head"].append(
                other(theirs.train_head, **shared, **network, **start, epochs=head_epochs, seed=seed)
            )
            measured["whole"].append(
                ours(train, **shared, **network, weights=weights, views=views, epochs=epochs, seed=seed)
            )
            measured["their_further"].append(other(theirs.fine_tune, **shared, epochs=epochs, line=head["freeze_line"]))
    return {**measured, "cost": cost, "parts": measured["head"][0]["parts"]}


def run_head(**settings: Any) -> Outcome:
    """Compare the training of the head."""
    measured = both_stages(**settings)
    epochs, views, cost = settings["head_epochs"], settings["views"], measured["cost"]
    train_images, val_images = measured["parts"]
    ours = [each["seconds"] for each in measured["head"]]
    other = [each["seconds"] for each in measured["their_head"]]
    auc = _mean(each["auc"]["probe"] for each in measured["head"])
    their_auc = _mean(each["val_auc"] for each in measured["their_head"])
    work = (views * train_images + val_images) * cost["whole"]
    return Outcome(
        ours,
        other,
        limit=work / machine.fastest_product("float32") / 1e9,
        checks={NOT_BELOW: auc >= their_auc - _margin(their_auc, val_images)},
        details={
            "backbone": settings["backbone"],
            "input_size": settings["size"],
            "images": measured["parts"],
            "views_kept": views,
            "epochs": epochs,
            "validation_auc": {"ours": auc, "theirs": their_auc},
        },
    )


def run_further(**settings: Any) -> Outcome:
    """Compare the cost of fine-tuning after the head."""
    measured = both_stages(**settings)
    cost, epochs = measured["cost"], settings["epochs"]
    train_images, val_images = measured["parts"]
    ours = [whole["seconds"] - head["seconds"] for whole, head in zip(measured["whole"], measured["head"], strict=True)]
    other = [each["seconds"] for each in measured["their_further"]]
    auc = _mean(each["auc"][each["chosen"]] for each in measured["whole"])
    their_auc = _mean(each["val_auc"] for each in measured["their_further"])
    work = epochs * (3 * train_images + val_images) * cost["top"]
    stored = cost["stored_bytes"] * (settings["views"] * train_images + val_images)
    whole = _mean(each["seconds"] for each in measured["whole"])
    their_whole = _mean(each["seconds"] for each in measured["their_head"]) + _mean(other)
    return Outcome(
        ours,
        other,
        limit=work / machine.fastest_product("float32") / 1e9,
        checks={
            NOT_BELOW: auc >= their_auc - _margin(their_auc, val_images),
            "as many epochs as asked for": all(each["epochs"] == epochs for each in measured["whole"]),
        },
        details={
            "backbone": settings["backbone"],
            "input_size": settings["size"],
            "images": measured["parts"],
            "freeze_line": measured["head"][0]["freeze_line"],
            "epochs": epochs,
            "validation_auc": {"ours": auc, "theirs": their_auc},
            "store_megabytes": stored / 1e6,
            "head_and_further_epochs_seconds": {"ours": whole, "theirs": their_whole, "ratio": their_whole / whole},
        },
    )


def _margin(auc: float, images: int) -> float:
    """Two standard errors of the ROC AUC of some images, half of them fractured (Hanley and McNeil 1982)."""
    half, square = images / 2, auc**2
    spread = auc / (2 - auc) + 2 * square / (1 + auc) - 2 * square
    return 2 * math.sqrt((auc * (1 - auc) + (half - 1) * spread) / half**2)


def _mean(values: Any) -> float:
    return statistics.fmean(values)


_TINY = {
    "images": 40,
    "size": 64,
    "views": 2,
    "head_epochs": 4,
    "epochs": 2,
    "repetitions": 1,
    "backbone": "MobileNet",
    "alpha": 0.25,
    "pretrained": False,
}
_DEFAULT = {
    "images": 120,
    "size": 128,
    "views": 3,
    "head_epochs": 20,
    "epochs": 10,
    "repetitions": 1,
    "backbone": "MobileNetV2",
    "alpha": None,
    "pretrained": True,
}
_FULL = {**_DEFAULT, "images": 400, "size": 224, "repetitions": 3, "backbone": "ResNet50", "alpha": None}
_SIZES = {"tiny": _TINY, "default": _DEFAULT, "full": _FULL}

COMPARISONS = (
    Comparison(
        "v2_head_20_epochs",
        "s",
        False,
        "From files to a trained head. Ours: features of each view computed once (the image, its mirror image, one "
        "augmented view), the head solved to the end; theirs: 20 epochs of the frozen network.",
        "the features' FLOPs at the speed of the fastest float32 matrix product.",
        _SIZES,
        run_head,
    ),
    Comparison(
        "v2_finetune_10_epochs",
        "s",
        False,
        "Ten further epochs of the last stage, on top of the head. Ours: on activations at the freeze line, which "
        "the pass for the head stores; theirs: the whole network in every epoch.",
        "the last stage's FLOPs, forwards and backwards, at the speed of the fastest float32 matrix product.",
        _SIZES,
        run_further,
    ),
)
