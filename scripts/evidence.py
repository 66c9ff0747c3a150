"""Do pretrained weights help, and with how many images? The frozen probe at several sizes of the training set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.records import interval_text, markdown_table

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.models.weights import WeightsInfo
    from fracturelab.training import Prepared

SIZES = (50, 100, 200, 420)  # images to train on, besides all


@dataclass(frozen=True)
class LearningCurve:
    """Scores of a frozen probe on one test part, against the number of images its head was trained on.

    Attributes:
        draws: Columns n, draw, roc_auc, pr_auc: one row a probe.
        labels: (t,) of the test images.
        probabilities: (t,) of the probe trained on all images.
        groups: (t,) of the test images.
        strength: L2 of the probe trained on all images.
    """

    draws: pd.DataFrame
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: NDArray[np.str_]
    strength: float

    def summary(self) -> list[dict[str, Any]]:
        """For each size: n, draws, mean and standard deviation over the draws of AUC and AP."""
        rows = []
        for n, part in self.draws.groupby("n"):
            row: dict[str, Any] = {"n": int(n), "draws": len(part)}
            for name in ("roc_auc", "pr_auc"):
                row[name] = {"mean": float(part[name].mean()), "sd": float(part[name].std()) if len(part) > 1 else None}
            rows.append(row)
        return rows


def learning_curve(
    prepared: Prepared,
    weights: WeightsInfo,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = 10,
    seed: int = 0,
    settle: bool = False,
    store_dir: str | Path | None = None,
    progress: bool = True,
) -> LearningCurve:
    """Train heads on frozen features of 50, 100, ... and all images, and test each on the test part.

    Features of an image and its mirror image are computed once. Validation images are left out. The strength of L2 is
    chosen by cross-validation inside each draw.

    Args:
        prepared: Images with a train and a test part.
        weights: What the backbone starts from; see `models.weights.resolve`.
        sizes: Numbers of training images; those not below the number there is are left out.
        draws: Draws at each of these sizes; every draw keeps the share of fractured images.
        seed: Decides the draws, and a random backbone's weights.
        settle: Set a random backbone's batch norms by 32 training images first, as `train_v2` does. MobileNets say
            nothing without it; a random ResNet is the better without it, and so the harder to beat.
        store_dir: Where features are kept; None for the default.
        progress: Show a progress bar.

    Returns:
        The scores of every draw.

    Raises:
        FracturelabError: No test part.
    """
    import keras
    import pandas as pd
    from sklearn.metrics import average_precision_score, roc_auc_score

    from fracturelab.models.transfer import FEATURES, build_transfer_model, set_norm_moments
    from fracturelab.training.epochs import set_seed
    from fracturelab.training.features import FeatureStore, compute
    from fracturelab.training.head import cross_validated_strength, solve
    from fracturelab.training.v2 import SETTLING

    test = prepared.rows("test")
    rest = prepared.rows("train")
    if not len(test):
        raise FracturelabError("expected a data set with a test part for evidence. Received: none")
    set_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RANDOM WEIGHTS")
        model = build_transfer_model(
            weights.backbone, weights=weights, input_size=prepared.size, backbone_options=weights.options
        )
    if settle and weights.kind == "none":
        set_norm_moments(model, prepared.images[rest[:SETTLING]])
    features = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output, name=FEATURES)}
    settings: dict[str, Any] = {"store": FeatureStore(store_dir), "progress": progress}
    views = compute(features, prepared, rows=rest, views=2, **settings)[FEATURES]
    tested = np.asarray(compute(features, prepared, rows=test, views=1, **settings)[FEATURES][0])
    labels, groups, truth = prepared.labels[rest], prepared.groups[rest], prepared.labels[test]

    found, answers, strength = [], np.empty(0), 0.0
    for n in [size for size in sorted(sizes) if size < len(rest)] + [len(rest)]:
        for draw in range(draws if n < len(rest) else 1):
            chosen = _draw(labels, n, np.random.default_rng([seed, n, draw]))
            strength, _ = cross_validated_strength(views, labels, groups, rows=chosen, seed=seed)
            logits = solve(views, labels, rows=chosen, strength=strength).logits(tested)[:, 0]
            answers = 1 / (1 + np.exp(-logits))
            scores = {"roc_auc": roc_auc_score(truth, logits), "pr_auc": average_precision_score(truth, logits)}
            found.append({"n": n, "draw": draw, **scores})
    return LearningCurve(pd.DataFrame(found), truth, answers, prepared.groups[test], strength)


def _draw(labels: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of n images with the share of fractured ones that there is, at least two of each class."""
    if n == len(labels):
        return np.arange(n)
    positive = min(max(round(n * float(labels.mean())), 2), n - 2)
    counts = {1: positive, 0: n - positive}
    drawn = [rng.choice(np.flatnonzero(labels == value), count, replace=False) for value, count in counts.items()]
    return np.sort(np.concatenate(drawn))


def write_evidence(
    name: str,
    curve: LearningCurve,
    *,
    prepared: Prepared,
    weights: WeightsInfo,
    seed: int,
    seconds: float,
    fine_tuned: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write the record of a learning curve, with intervals for the probe trained on all images.

    Args:
        name: Name of the weights in tables.
        curve: From `learning_curve`.
        prepared: The images it was measured on.
        weights: What the backbone started from.
        seed: Seed of the draws.
        seconds: How long it took.
        fine_tuned: `evaluate(...).to_record()` of v2 trained on all images and tested on the same part.
        settings: Further settings, for the record.
        folder: Where to; None for the default.

    Returns:
        The record's file.
    """
    from fracturelab.evaluation import evaluate
    from fracturelab.records import write_record

    whole = evaluate(curve.labels, curve.probabilities, threshold=0.5, groups=curve.groups)
    return write_record(
        f"evidence-{name}",
        kind="evidence",
        data={"source": ", ".join(sorted(set(prepared.table["source"].dropna()))), "split": "test", "n": whole.n},
        weights=weights.to_dict(),
        seed=seed,
        seconds=seconds,
        settings=settings,
        results={
            "input_size": prepared.size,
            "curve": curve.summary(),
            "strength": curve.strength,
            "probe": whole.to_record(),
            "fine_tuned": fine_tuned,
        },
        folder=folder,
    )


def evidence_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table of all records of the kind "evidence": AUC of the probe by number of training images."""
    rows = [record for record in records if record.get("kind") == "evidence"]
    if not rows:
        return "No evidence has been recorded yet."
    rows.sort(key=lambda r: r["results"]["probe"]["metrics"]["roc_auc"]["value"])
    wholes = [max(point["n"] for point in row["results"]["curve"]) for row in rows]
    parts = [
        {point["n"]: point["roc_auc"] for point in row["results"]["curve"] if point["n"] != whole}
        for row, whole in zip(rows, wholes, strict=True)
    ]
    sizes = sorted({n for part in parts for n in part})
    every = " or ".join(str(n) for n in sorted(set(wholes)))
    head = ["weights", "px", *(f"{n} images" for n in sizes), f"all ({every})", "average precision, all"]
    tuned = any(row["results"].get("fine_tuned") for row in rows)
    head += ["v2, what it kept"] * tuned
    lines = []
    for row, part in zip(rows, parts, strict=True):
        results = row["results"]
        cells = [_spread(part[n]) if n in part else "" for n in sizes]
        fine = results.get("fine_tuned")
        lines.append(
            [
                row["name"].removeprefix("evidence-"),
                str(results["input_size"]),
                *cells,
                interval_text(results["probe"]["metrics"]["roc_auc"]),
                interval_text(results["probe"]["metrics"]["pr_auc"]),
                *[f"{interval_text(fine['metrics']['roc_auc'])}, {fine['chosen']}" if fine else ""] * tuned,
            ]
        )
    return markdown_table(head, lines, text_columns=1)


def _spread(scores: Mapping[str, Any]) -> str:
    """Mean and standard deviation; of one draw there is none."""
    return f"{scores['mean']:.3f}" + ("" if scores["sd"] is None else f" ± {scores['sd']:.3f}")
