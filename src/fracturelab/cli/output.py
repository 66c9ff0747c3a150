"""What commands say: one JSON document for machines, small aligned tables for people."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_CLINICAL = "Not for clinical use."

METRIC_NAMES = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "kappa": "Cohen's kappa",
    "brier": "Brier score",
}


def common(*, seed: bool = True) -> argparse.ArgumentParser:
    """Return the options that every command has, as a parent parser."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--json", action="store_true", help="print one JSON document for machines")
    if seed:
        parent.add_argument("--seed", type=int, default=0, help="what randomness follows from (default 0)")
    return parent


def say(message: str) -> None:
    """Say something to a person: on stderr, so that stdout holds the result alone."""
    print(message, file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    """Print one JSON document; what is undefined (NaN, infinity, NA) becomes null."""
    print(json.dumps(plain(document), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value made of what JSON knows: dict, list, str, int, float, bool and None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    return None if str(value) in {"<NA>", "NaT", "nan"} else str(value)


def number(value: Any, digits: int = 3) -> str:
    """Return a number for people, or a dash where it is undefined."""
    known = plain(value)
    return "-" if known is None else f"{known:.{digits}f}"


def columns(rows: Sequence[Sequence[str]], *, align: str = "") -> str:
    """Return rows as aligned columns.

    Args:
        rows: Cells as text; the first row is the head.
        align: One letter a column, "l" or "r"; "l" where it is shorter.

    Returns:
        Lines joined with newlines, two spaces between columns.
    """
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    align = align.ljust(len(widths), "l")
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if a == "r" else cell.ljust(w) for cell, w, a in zip(row, widths, align, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Return metrics with their 95% intervals, one a line.

    Args:
        metrics: Name to value, low and high, as a mapping with these keys.
    """
    rows = [["", "value", "95% interval"]]
    for key, interval in metrics.items():
        low, high = number(interval["low"]), number(interval["high"])
        between = f"{low} to {high}" if "-" not in (low, high) else "-"
        rows.append([METRIC_NAMES.get(key, key), number(interval["value"]), between])
    return columns(rows, align="lrl")


def confusion_table(matrix: Sequence[Sequence[int]]) -> str:
    """Return [[tn, fp], [fn, tp]] as a small table for people."""
    (tn, fp), (fn, tp) = matrix
    rows = [["", "called normal", "called fractured"], ["normal", str(tn), str(fp)], ["fractured", str(fn), str(tp)]]
    return columns(rows, align="lrr")


def count(n: int, thing: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
