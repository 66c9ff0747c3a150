"""Numbers in words that a person can use, and that say no more than was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NOT_CLINICAL = "Not for clinical use"
CLOSE = 0.5
CLEAR = 1.5
SURE = 0.8


def in_words(probability: float, threshold: float) -> str:
    """How sure an answer is, by its distance from the model's threshold in log odds, and by the probability itself.

    Args:
        probability: P(fractured).
        threshold: Of the model.

    Returns:
        A sentence. Within 0.5 of the threshold the answer is called a toss-up: another picture of the same bone could
        well fall on its other side. From 1.5 on it is called clear for this model, which can still be wrong, if the
        probability of what it is called is 0.8 or more: a low threshold alone makes nothing clear.
    """
    limits = np.clip([probability, threshold], 1e-4, 1 - 1e-4)
    own, line = np.log(limits / (1 - limits))
    distance = abs(float(own - line))
    side = "fractured" if probability >= threshold else "normal"
    if distance < CLOSE:
        return "A toss-up: the answer lies at the model's threshold and says next to nothing."
    own_side = probability if side == "fractured" else 1 - probability
    if distance < CLEAR or own_side < SURE:
        return f"Leaning towards {side}, but not sure: a slightly different picture could change the answer."
    return f"Clearly {side} to this model. It is wrong at times even when it is sure; its test results say how often."


def model_facts(card: Mapping[str, Any]) -> list[str]:
    """How a model does on images like those it was tested on, from its card alone.

    Args:
        card: As `models.files.read_card` gives it.

    Returns:
        Sentences, the first about its test; values are rounded, intervals are 95%.
    """
    data = card.get("data") if isinstance(card.get("data"), Mapping) else {}
    source = str(data.get("source") or "data that its card does not name")  # type: ignore[union-attr]
    facts = []
    part, scores = _scores(card)
    metrics = scores.get("metrics", {}) if scores else {}
    if metrics:
        kind = "images it had never seen" if part == "test" else "its own validation images, which flatter it"
        facts.append(f"Tested on {int(scores.get('n', 0)):,} {kind}, from {source}.")
        recall, specificity, precision = (_rate(metrics, name) for name in ("recall", "specificity", "precision"))
        if recall:
            facts.append(f"Of 100 fractured ones there it finds {recall}.")
        if specificity:
            facts.append(f"Of 100 normal ones it calls {specificity} normal; the rest are false alarms.")
        if precision:
            facts.append(f"Of 100 that it calls fractured there, {precision} are.")
        auc = metrics.get("roc_auc", {})
        if isinstance(auc.get("value"), int | float):
            facts.append(f"AUC {auc['value']:.2f} ({auc['low']:.2f} to {auc['high']:.2f}).")
    else:
        facts.append(f"Its card holds no test result. It was trained on {source}.")
    facts.append(
        "On other bones, other machines, photographs of films or synthetic images it may do much worse, "
        "and will not say so."
    )
    licence = data.get("licence")  # type: ignore[union-attr]
    if licence:
        facts.append(f"Trained on data under: {licence}.")
    return facts


def _scores(card: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    found = card.get("metrics")
    for part in ("test", "val"):
        if isinstance(found, Mapping) and isinstance(found.get(part), Mapping):
            return part, found[part]
    return "", {}


def _rate(metrics: Mapping[str, Any], name: str) -> str:
    found = metrics.get(name)
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), int | float):
        return ""
    value, low, high = (round(100 * float(found[key])) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
