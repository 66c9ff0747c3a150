"""What commands say: one JSON document for machines, small aligned tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fracturelab.system.plain import plain

NOT_CLINICAL = "Not for clinical use."


def say(message: str) -> None:
    """Print a message on stderr, so that stdout holds the result alone."""
    print(message, file=sys.stderr, flush=True)


_WARNED: set[str] = set()


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    _WARNED.add(message)
    say(f"warning: {' '.join(message.split())}")


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line without path and code, each text once; a stand-in for `warnings.showwarning`."""
    if str(message) not in _WARNED:
        warn(str(message))


def print_json(document: object) -> None:
    """Print one JSON document; what is undefined (NaN, infinity, NA) becomes null."""
    print(json.dumps(plain(document), indent=2, allow_nan=False))


def number(value: Any) -> str:
    """Return a number for people, or a dash where it is undefined."""
    known = plain(value)
    return "-" if known is None else f"{known:.3f}"


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
    from fracturelab.records.names import metric_name

    rows = [["", "value", "95% interval"]]
    for key, interval in metrics.items():
        low, high = number(interval["low"]), number(interval["high"])
        between = f"{low} to {high}" if "-" not in (low, high) else "-"
        rows.append([metric_name(key), number(interval["value"]), between])
    return columns(rows, align="lrl")


def confusion_table(matrix: Sequence[Sequence[int]]) -> str:
    """Return [[tn, fp], [fn, tp]] as a small table for people."""
    (tn, fp), (fn, tp) = matrix
    rows = [["", "called normal", "called fractured"], ["normal", str(tn), str(fp)], ["fractured", str(fn), str(tp)]]
    return columns(rows, align="lrr")


def subgroup_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the scores of subgroups, one a line, with 95% intervals."""
    from fracturelab.records.names import interval_text, metric_name

    scores = ("roc_auc", "recall", "specificity")
    cells = [["", "images", "fractured", *map(metric_name, scores)]]
    for row in rows:
        values = [interval_text(row[score]) or "-" for score in scores]
        cells.append([row["subgroup"], str(row["n"]), str(row["fractured"]), *values])
    return columns(cells, align="lrrlll")


def count(n: int, thing: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
