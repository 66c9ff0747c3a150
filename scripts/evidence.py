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
    from fracturelab.training.head import Head

SIZES = (50, 100, 200, 420)  # images to train on, besides all


@dataclass(frozen=True)
class FrozenFeatures:
    """Means of a frozen network's activations at two scales, then their maxima: d of each.

    Attributes:
        train: float32 (n, 2 d) of the training images, and of their mirror images.
        val: float32 (m, 2 d).
        test: float32 (t, 2 d).
    """

    train: Sequence[NDArray[np.float32]]
    val: NDArray[np.float32]
    test: NDArray[np.float32]

    @property
    def means(self) -> FrozenFeatures:
        """The means alone, d columns."""
        d = self.val.shape[1] // 2
        return FrozenFeatures([view[:, :d] for view in self.train], self.val[:, :d], self.test[:, :d])


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


def frozen_features(
    prepared: Prepared,
    weights: WeightsInfo,
    *,
    seed: int = 0,
    settle: bool = False,
    test: bool = True,
    store_dir: str | Path | None = None,
    progress: bool = True,
) -> FrozenFeatures:
    """Compute the features of all parts once, in OpenVINO where it is installed.

    Args:
        prepared: Images with a train, a validation and a test part.
        weights: What the backbone starts from; see `models.weights.resolve`.
        seed: Decides a random backbone's weights.
        settle: Set a random backbone's batch norms by 32 training images first, as `train_v2` does. MobileNets say
            nothing without it; a random ResNet is the better without it, and so the harder to beat.
        test: Compute those of the test part too; else there are none of it.
        store_dir: Where features are kept; None for the default.
        progress: Show a progress bar.

    Raises:
        FracturelabError: No test part.
    """
    import keras
    from keras import layers

    from fracturelab.models.transfer import FEATURES, build_transfer_model, feature_layers_of, set_norm_moments
    from fracturelab.training.epochs import set_seed
    from fracturelab.training.features import FeatureStore, compute
    from fracturelab.training.v2 import SETTLING

    if not len(prepared.rows("test")):
        raise FracturelabError("expected a data set with a test part for evidence. Received: none")
    set_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RANDOM WEIGHTS")
        model = build_transfer_model(
            weights.backbone, weights=weights, input_size=prepared.size, backbone_options=weights.options
        )
    if settle and weights.kind == "none":
        set_norm_moments(model, prepared.images[prepared.rows("train")[:SETTLING]])
    maxima = [layers.GlobalMaxPooling2D()(model.get_layer(name).output) for name in feature_layers_of(model)]
    pooled = layers.Concatenate()([model.get_layer(FEATURES).output, *maxima])
    outputs = {"means and maxima": keras.Model(model.input, pooled)}
    settings: dict[str, Any] = {"runtime": runtime(), "store": FeatureStore(store_dir), "progress": progress}
    train, val, tested = (
        compute(outputs, prepared, rows=prepared.rows(part), views=views, **settings)["means and maxima"]
        for part, views in (("train", 2), ("val", 1), ("test", int(test)))
    )
    return FrozenFeatures(train, np.asarray(val[0]), np.asarray(tested[0] if test else val[0][:0]))


def runtime() -> str:
    """What computes features here."""
    from fracturelab.prediction.export import openvino_is_there

    return "openvino" if openvino_is_there() else "tensorflow"


def validation_scores(prepared: Prepared, features: FrozenFeatures, *, seed: int = 0) -> dict[str, Any]:
    """Scores on the validation images of heads that all training images made: on means, on means and maxima.

    Returns:
        ROC AUC and average precision of "means" and of "means and maxima", and the paired "difference" in ROC AUC.
    """
    from fracturelab.evaluation import compare, evaluate

    train, val = prepared.rows("train"), prepared.rows("val")
    labels, groups = prepared.labels[val], prepared.groups[val]
    every = np.arange(len(train))
    answers, scores = [], {}
    for name, part in (("means", features.means), ("means and maxima", features)):
        head = _solved(part.train, prepared.labels[train], prepared.groups[train], rows=every, seed=seed)
        answers.append(1 / (1 + np.exp(-head.logits(part.val)[:, 0])))
        metrics: Any = evaluate(labels, answers[-1], threshold=0.5, groups=groups).to_record()["metrics"]
        scores[name] = {metric: metrics[metric] for metric in ("roc_auc", "pr_auc")}
    compared = compare(labels, *answers, threshold_a=0.5, threshold_b=0.5, groups=groups).to_dict()
    return {**scores, "difference": compared["difference"]}


def learning_curve(
    prepared: Prepared, features: FrozenFeatures, *, sizes: Sequence[int] = SIZES, draws: int = 10, seed: int = 0
) -> LearningCurve:
    """Train heads on frozen features of 50, 100, ... and all images, and test each on the test part.

    Validation images are left out. The strength of L2 is chosen by cross-validation inside each draw.

    Args:
        prepared: The images of the features.
        features: Of each image and its mirror image.
        sizes: Numbers of training images; those not below the number there is are left out.
        draws: Draws at each of these sizes; every draw keeps the share of fractured images.
        seed: Decides the draws.

    Returns:
        The scores of every draw.
    """
    import pandas as pd
    from sklearn.metrics import average_precision_score, roc_auc_score

    train, test = prepared.rows("train"), prepared.rows("test")
    labels, groups, truth = prepared.labels[train], prepared.groups[train], prepared.labels[test]
    scored, answers, strength = [], np.empty(0), 0.0
    for n in [size for size in sorted(sizes) if size < len(train)] + [len(train)]:
        for draw in range(draws if n < len(train) else 1):
            chosen = _draw(labels, n, np.random.default_rng([seed, n, draw]))
            head = _solved(features.train, labels, groups, rows=chosen, seed=seed)
            logits, strength = head.logits(features.test)[:, 0], head.strength
            answers = 1 / (1 + np.exp(-logits))
            scores = {"roc_auc": roc_auc_score(truth, logits), "pr_auc": average_precision_score(truth, logits)}
            scored.append({"n": n, "draw": draw, **scores})
    return LearningCurve(pd.DataFrame(scored), truth, answers, prepared.groups[test], strength)


def _solved(
    views: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    rows: NDArray[np.int64],
    seed: int,
) -> Head:
    """The logistic head on some images, its strength of L2 chosen by folds of them."""
    from fracturelab.training.head import cross_validated_strength, solve

    strength, _ = cross_validated_strength(views, labels, groups, rows=rows, seed=seed)
    return solve(views, labels, rows=rows, strength=strength)


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
    validation: Mapping[int, Any] | None = None,
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
        validation: `validation_scores` at each input size that was tried.
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
            "validation": {str(size): scores for size, scores in (validation or {}).items()},
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
    lines = []
    for row, part in zip(rows, parts, strict=True):
        results = row["results"]
        cells = [_spread(part[n]) if n in part else "" for n in sizes]
        lines.append(
            [
                row["name"].removeprefix("evidence-"),
                str(results["input_size"]),
                *cells,
                interval_text(results["probe"]["metrics"]["roc_auc"]),
                interval_text(results["probe"]["metrics"]["pr_auc"]),
            ]
        )
    return markdown_table(head, lines, text_columns=1)


def pooling_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table of what the maxima of activations add to their means on validation images, a row a size."""
    head = ["weights", "px", "means", "means and maxima", "difference in ROC AUC"]
    lines = []
    for record in records:
        validation = record["results"].get("validation") if record["kind"] == "evidence" else None
        for size, scores in sorted((validation or {}).items()):
            both = [interval_text(scores[name]["roc_auc"]) for name in ("means", "means and maxima")]
            value, low, high = (scores["difference"][key] for key in ("value", "low", "high"))
            difference = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append([record["name"].removeprefix("evidence-"), size, *both, difference])
    return markdown_table(head, lines, text_columns=1) if lines else "No pooling has been compared yet."


def _spread(scores: Mapping[str, Any]) -> str:
    """Mean and standard deviation; of one draw there is none."""
    return f"{scores['mean']:.3f}" + ("" if scores["sd"] is None else f" ± {scores['sd']:.3f}")
