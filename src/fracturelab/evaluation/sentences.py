"""Sentences that state what scores show and what they do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fracturelab.evaluation.checks import check_predictions
from fracturelab.evaluation.intervals import Interval

if TYPE_CHECKING:
    from fracturelab.evaluation.metrics import Evaluation
    from fracturelab.evaluation.paired import Comparison

TOO_WIDE = 0.2
"""An AUC interval wider than this is too wide to conclude: it spans useless and good, or good and excellent."""


def count(n: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def evaluation_warnings(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], *, threshold: float, metrics: dict[str, Interval]
) -> list[str]:
    """Sentences about faults that a table of scores does not show.

    Args:
        labels: (n,) 0 or 1.
        probabilities: (n,) P(fractured).
        threshold: Threshold of the model.
        metrics: As in `Evaluation`.

    Returns:
        Sentences; empty if there is nothing to warn of.
    """
    faults = check_predictions(probabilities, threshold=threshold)
    if labels.min() == labels.max():
        name = "fractured" if labels[0] else "normal"
        faults.append(f"All {count(len(labels), 'image')} are {name}: AUC is undefined with one class.")
    auc = metrics["roc_auc"]
    if auc.low is not None and auc.high is not None and auc.width > TOO_WIDE:
        faults.append(
            f"The 95% interval of the AUC, {auc.low:.2f} to {auc.high:.2f}, is too wide to conclude much: "
            f"{count(int(labels.sum()), 'fractured image')} and {count(int((labels == 0).sum()), 'normal image')}."
        )
    return faults


def verdict(evaluation: Evaluation) -> str:
    """State in one sentence what an evaluation shows and does not show."""
    auc, images = evaluation.metrics["roc_auc"], _sample(evaluation)
    if auc.value is None or auc.low is None or auc.high is None:
        return f"{images} of one class: whether the model tells fractured from normal cannot be seen here."
    if auc.high < 0.5:
        words = "worse than guessing; look for labels the wrong way round or a shortcut that does not hold."
    elif auc.low <= 0.5:
        words = "not shown to be better than guessing."
    elif auc.width > TOO_WIDE:
        words = "better than guessing, but the interval is too wide to say how good."
    else:
        words = "better than guessing."
    called = sum(row[1] for row in evaluation.confusion_matrix)
    if evaluation.n > 1 and called in (0, evaluation.n):
        name = "fractured" if called else "normal"
        words += f" At the threshold {evaluation.threshold:.3f} it calls all of them {name}."
    return f"AUC {auc.value:.2f} (95% interval {auc.low:.2f} to {auc.high:.2f}) on {images}: {words}"


def _sample(result: Evaluation | Comparison) -> str:
    """`50 images in 20 independent groups`."""
    groups = f" in {count(result.n_groups, 'independent group')}" if result.n_groups < result.n else ""
    return count(result.n, "image") + groups


def conclusion(comparison: Comparison, *, names: tuple[str, str] = ("the first model", "the second model")) -> str:
    """State in one sentence whether one of two models is better.

    Args:
        comparison: From `compare`.
        names: Names of a and b.
    """
    a, b = names
    images, test = _sample(comparison), comparison.mcnemar
    if comparison.identical:
        return f"{_capital(a)} and {b} give the same probability for each of {images}: there is nothing to compare."
    difference = comparison.difference
    if difference.value is None or difference.low is None or difference.high is None:
        better = "no difference is shown" if test.p >= 0.05 else f"{b if test.only_b > test.only_a else a} is better"
        return (
            f"{_capital(images)} of one class: AUC is undefined; by right answers, {test.only_a} to {test.only_b}, "
            f"{better} (McNemar {p_value(test.p)})."
        )
    span = f"AUC difference {difference.value:+.2f}, 95% interval {difference.low:+.2f} to {difference.high:+.2f}"
    span += f", {images}, McNemar {p_value(test.p)}"
    if difference.low > 0:
        return f"{_capital(b)} ranks better than {a} ({span})."
    if difference.high < 0:
        return f"{_capital(a)} ranks better than {b} ({span})."
    if difference.width > TOO_WIDE:
        return f"The interval is too wide to conclude: either of {a} and {b} may be the better one ({span})."
    return f"No difference between {a} and {b} is shown ({span})."


def p_value(p: float) -> str:
    """A p-value in words: "p = 0.012", or "p < 0.001" where three digits would say zero."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def _capital(text: str) -> str:
    """A capital first letter for a sentence, unless the word is a name such as v1."""
    return text if any(c.isdigit() or c.isupper() for c in text.split()[0]) else text[:1].upper() + text[1:]
