"""What scores mean, in one honest sentence."""

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
"""An AUC interval longer than this is called too wide to conclude: it spans useless and good, or good and excellent."""


def count(n: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def evaluation_warnings(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], *, threshold: float, metrics: dict[str, Interval]
) -> list[str]:
    """What a table of scores would pass over in silence.

    Args:
        labels: (n,) 0 or 1.
        probabilities: (n,) P(fractured).
        threshold: Of the model.
        metrics: As `binary_metrics` gives them.

    Returns:
        Sentences; empty if there is nothing to warn of.
    """
    found = check_predictions(probabilities, threshold=threshold)
    if labels.min() == labels.max():
        name = "fractured" if labels[0] else "normal"
        found.append(f"All {count(len(labels), 'image')} are {name}: AUC is undefined with one class.")
    auc = metrics["roc_auc"]
    if auc.low is not None and auc.high is not None and auc.width > TOO_WIDE:
        found.append(
            f"The 95% interval of the AUC, {auc.low:.2f} to {auc.high:.2f}, is too wide to conclude much: "
            f"{count(int(labels.sum()), 'fractured image')} and {count(int((labels == 0).sum()), 'normal image')}."
        )
    return found


def verdict(evaluation: Evaluation) -> str:
    """One sentence on what an evaluation shows and does not show.

    Args:
        evaluation: As `evaluate` gives it.

    Returns:
        The sentence.
    """
    auc = evaluation.metrics["roc_auc"]
    images = count(evaluation.n, "image")
    if evaluation.n_groups < evaluation.n:
        images += f" in {count(evaluation.n_groups, 'independent group')}"
    if auc.value is None or auc.low is None or auc.high is None:
        return f"{images} of one class: whether the model tells fractured from normal cannot be seen here."
    score = f"AUC {auc.value:.2f} (95% interval {auc.low:.2f} to {auc.high:.2f}) on {images}"
    called = sum(row[1] for row in evaluation.confusion_matrix)
    one = ""
    if evaluation.n > 1 and called in (0, evaluation.n):
        name = "fractured" if called else "normal"
        one = f" At the threshold {evaluation.threshold:.3f} it calls all of them {name}."
    return _verdict(auc, score) + one


def _verdict(auc: Interval, score: str) -> str:
    assert auc.low is not None and auc.high is not None
    if auc.high < 0.5:
        return f"{score}: worse than guessing; look for labels the wrong way round or a shortcut that does not hold."
    if auc.low <= 0.5:
        return f"{score}: not shown to be better than guessing."
    if auc.width > TOO_WIDE:
        return f"{score}: better than guessing, but the interval is too wide to say how good."
    return f"{score}: better than guessing."


def conclusion(comparison: Comparison, *, names: tuple[str, str] = ("the first model", "the second model")) -> str:
    """One sentence on whether one of two models is better.

    Args:
        comparison: As `compare` gives it.
        names: What to call a and b.

    Returns:
        The sentence.
    """
    a, b = names
    images = count(comparison.n, "image")
    if comparison.n_groups < comparison.n:
        images += f" in {count(comparison.n_groups, 'independent group')}"
    test = comparison.mcnemar
    if comparison.identical:
        return f"{_capital(a)} and {b} give the same probability for each of {images}: there is nothing to compare."
    difference = comparison.difference
    if difference.value is None or difference.low is None or difference.high is None:
        found = "no difference is shown" if test.p >= 0.05 else f"{b if test.only_b > test.only_a else a} is better"
        return (
            f"{_capital(images)} of one class: AUC is undefined; by right answers, {test.only_a} to {test.only_b}, "
            f"{found} (McNemar {p_value(test.p)})."
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
