"""Tables of records, and the place in a Markdown file that they fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from fracturelab.records.files import write_text

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


def results_table(
    records: Iterable[Mapping[str, Any]],
    *,
    metrics: Iterable[str] = ("roc_auc", "accuracy", "recall", "specificity", "f1"),
) -> str:
    """A Markdown table of the records that hold metrics, one row for each set of images that was tested on.

    Args:
        records: As `read_records` gives them.
        metrics: Which ones to show, each as value and 95% interval.

    Returns:
        The table, in the order of the records, ending in a newline; an empty string without any row.
    """
    chosen = list(metrics)
    head = ["model", "weights", "tested on", "images", *(COLUMNS.get(name, name) for name in chosen)]
    rows = []
    for record in records:
        for part, result in _evaluations(record):
            cells = [
                record["results"].get("model") or record["name"],
                (record.get("weights") or {}).get("name") or "none",
                part,
                f"{result['n']:,}" if "n" in result else "",
                *(_cell(result["metrics"].get(name)) for name in chosen),
            ]
            rows.append([str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells])
    if not rows:
        return ""
    rule = ["---"] * 3 + ["---:"] * (len(head) - 3)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *rows])


def _evaluations(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    results = record["results"]
    if "evaluations" in results:
        return [(part, result) for part, result in results["evaluations"].items() if "metrics" in result]
    if "metrics" in results:
        return [((record.get("data") or {}).get("source") or "", results)]
    return []


def _cell(interval: Mapping[str, float | None] | None) -> str:
    if not interval or interval.get("value") is None:
        return "–"
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
