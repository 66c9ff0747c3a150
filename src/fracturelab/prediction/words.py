"""Numbers in words that a person can use, and that claim no more than was measured."""

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
    return f"Clearly {side} to this model. It is wrong at times even so; its test results tell how often."


def threshold_sentence(card: Mapping[str, Any], threshold: float) -> str:
    """What a threshold means: hits and false alarms on the test part, where the card holds them; else "".

    Args:
        card: As `models.files.read_card` gives it.
        threshold: The one in use; another than the card's has no measured meaning.
    """
    part, _, metrics = _scores(card)
    recall, specificity = (_value(metrics, name) for name in ("recall", "specificity"))
    if recall is None or specificity is None or threshold != card.get("threshold"):
        return ""
    where = "test part" if part == "test" else "validation images, which flatter it"
    return (
        f"At the threshold of {threshold:.2f} it finds {round(10 * recall)} of 10 fractures and raises "
        f"{round(10 * (1 - specificity))} false alarms on 10 normal X-rays, on its {where}."
    )


def model_facts(card: Mapping[str, Any]) -> list[str]:
    """How a model does on images like those it was tested on, from its card alone.

    Args:
        card: As `models.files.read_card` gives it.

    Returns:
        Sentences, the first about its test; values are rounded, intervals are 95%.
    """
    given = card.get("data")
    data: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    source = str(data.get("source") or "data that its card does not name")
    part, n, metrics = _scores(card)
    if not metrics:
        facts = [f"Its card holds no test result. It was trained on {source}."]
    else:
        kind = "images kept out of its training" if part == "test" else "its validation images, which flatter it"
        facts = [f"Tested on {n:,} {kind}, from {source}."]
        for name, sentence in (
            ("recall", "Of 100 fractured ones there it finds {}."),
            ("specificity", "Of 100 normal ones it calls {} normal; the rest are false alarms."),
            ("precision", "Of 100 that it calls fractured there, {} are."),
        ):
            if _value(metrics, name) is not None:
                value, low, high = (round(100 * float(metrics[name][key])) for key in ("value", "low", "high"))
                facts.append(sentence.format(f"{value} ({low} to {high})"))
        if _value(metrics, "roc_auc") is not None:
            facts.append("AUC {value:.2f} ({low:.2f} to {high:.2f}).".format(**metrics["roc_auc"]))
    facts.append(
        "On other bones, other machines, photographs of films or synthetic images it may do much worse, without notice."
    )
    if data.get("licence"):
        facts.append(f"Trained on data under: {data['licence']}.")
    return facts


def _scores(card: Mapping[str, Any]) -> tuple[str, int, Mapping[str, Any]]:
    """The part that the card holds scores of, its images, and its metrics."""
    for part in ("test", "val"):
        scores = (card.get("metrics") or {}).get(part) if isinstance(card.get("metrics"), Mapping) else None
        if isinstance(scores, Mapping) and scores.get("metrics"):
            return part, int(scores.get("n", 0)), scores["metrics"]
    return "", 0, {}


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    interval = metrics.get(name)
    value = interval.get("value") if isinstance(interval, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
