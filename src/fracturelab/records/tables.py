"""Tables of records, and the place in a Markdown file that they fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from fracturelab.records.files import write_text
from fracturelab.records.scores import Score, by_model, latest, model_name

COLUMNS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "kappa": "kappa",
    "brier": "Brier",
    "macro_f1": "macro F1",
}
"""Names of metrics in tables."""
_SEED = re.compile(r"[- ]seed ?\d+$")


def results_table(
    records: Iterable[Mapping[str, Any]],
    *,
    metrics: Iterable[str] = ("roc_auc", "accuracy", "recall", "specificity", "f1", "macro_f1"),
) -> str:
    """A Markdown table of the records that hold metrics, one row for each set of images that was tested on.

    Where several records test one model on the same images, the newest one stands (see `scores.by_model`). Models whose
    names differ in a last `-seed<number>` alone are runs of one recipe: a row of their mean and standard deviation
    follows those that were tested on the same images. Where several parts of one data set were tested on, each row says
    which.

    Args:
        records: As `read_records` gives them.
        metrics: Which ones to show, each as value and 95% interval; those that no record has are left out.

    Returns:
        The table, models in the order of their first record, ending in a newline; an empty string without any row.
    """
    scores = [(model_name(group[0]), score) for group in by_model(records) for score in latest(group)]
    chosen = [name for name in metrics if any(name in score.metrics for _, score in scores)]
    head = ["model", "weights", "tested on", "images", *(COLUMNS.get(name, name) for name in chosen)]
    tested_on = _tested_on(scores)
    rows = [
        [
            model,
            score.weights or "none",
            tested_on[number],
            "" if score.n is None else f"{score.n:,}",
            *(interval_text(score.metrics.get(name)) or "–" for name in chosen),
        ]
        for number, (model, score) in enumerate(scores)
    ]
    return markdown_table(head, _with_spreads(rows, scores, chosen), text_columns=3) if rows else ""


def _tested_on(scores: Sequence[tuple[str, Score]]) -> list[str]:
    """What each row was tested on, with as much as is needed to tell other images of the same name apart."""
    splits: dict[str, set[str]] = {}
    contents: dict[tuple[str, ...], set[str]] = {}
    for model, score in scores:
        splits.setdefault(score.tested_on, set()).add(score.split)
        contents.setdefault((_SEED.sub("", model), score.tested_on, score.split), set()).add(score.content)
    found = []
    for model, score in scores:
        split = score.split if len(splits[score.tested_on]) > 1 else ""
        several = len(contents[_SEED.sub("", model), score.tested_on, score.split]) > 1
        found.append(", ".join(filter(None, (score.tested_on, split, score.content[:8] if several else ""))))
    return found


def _with_spreads(
    rows: Sequence[list[str]], scores: Sequence[tuple[str, Score]], metrics: Sequence[str]
) -> list[list[str]]:
    """The rows, and after the last run of a recipe over seeds, on the same images, one of the spread."""
    from fracturelab.evaluation import summary_over_seeds

    families = [
        (_SEED.sub("", model), score.tested_on, score.split, score.content) if _SEED.search(model) else None
        for model, score in scores
    ]
    result = []
    for number, (row, family) in enumerate(zip(rows, families, strict=True)):
        result.append(list(row))
        if family is None:
            continue
        members = [i for i, other in enumerate(families) if other == family]
        if len(members) > 1 and number == members[-1]:
            found = ([(scores[i][1].metrics.get(name) or {}).get("value") for i in members] for name in metrics)
            spreads = [summary_over_seeds(values) for values in found]
            cells = [f"**{one.mean:.3f}** ± {one.sd:.3f}" if one.sd is not None else "–" for one in spreads]
            result.append([f"**{family[0]}, {len(members)} seeds**", *row[1:4], *cells])
    return result


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int) -> str:
    """A Markdown table.

    Args:
        head: Names of the columns.
        rows: Cells as text.
        text_columns: How many columns, from the left, are text; the others stand to the right, as numbers do.

    Returns:
        The table, ending in a newline.
    """
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [list(head), rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def interval_text(interval: Mapping[str, float | None] | None) -> str:
    """A value with its interval for people, such as "0.900 (0.87–0.93)"; empty where it is undefined."""
    if not interval or interval.get("value") is None:
        return ""
    low, high = interval.get("low"), interval.get("high")
    return f"{interval['value']:.3f}" + ("" if low is None or high is None else f" ({low:.2f}–{high:.2f})")


def fill_markdown(path: str | Path, marker: str, text: str) -> bool:
    """Replaces what stands between `<!-- begin: marker -->` and `<!-- end: marker -->` of a Markdown file.

    Args:
        path: The file.
        marker: Name of the place.
        text: What to put there; blank lines around it are added.

    Returns:
        Whether the file changed. Filling in the same text twice changes nothing.

    Raises:
        FracturelabError: The file cannot be read or written, or does not hold the two comments once each, in order.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            before = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise FracturelabError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    begin, end = f"<!-- begin: {marker} -->", f"<!-- end: {marker} -->"
    if before.count(begin) != 1 or before.count(end) != 1 or before.index(begin) > before.index(end):
        raise FracturelabError(f"expected the comments {begin} and {end} once each, in this order, in {path}")
    line = "\r\n" if "\r\n" in before else "\n"
    body = text.strip("\n").replace("\n", line)
    head, rest = before.split(begin)
    after = f"{head}{begin}{line}{line}{body}{line}{line}{end}{rest.split(end)[1]}"
    if after == before:
        return False
    write_text(path, after)
    return True
