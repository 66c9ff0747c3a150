"""One table of everything that was run: each model with its size, its speed and its scores on each set of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from fracturelab.records.names import interval_text, metric_name
from fracturelab.records.scores import PARTS, score_table

MAIN_SCORES = ("roc_auc", "accuracy")
"""The score that a table shows: the first of these that the model has. Models of many classes have no one ROC AUC."""

GUESSING = {"ROC AUC": 0.5}
"""What a coin reaches."""

ELSEWHERE = "elsewhere (synthetic)"
"""What pictures call another source that is no real world."""

SHOWN = (*PARTS, ELSEWHERE)
"""The parts of a picture."""

_MODEL = ["model", "data", "weights", "parameters", "ms_per_image"]
CSV_COLUMNS = (*_MODEL, "part", "tested_on", "n", "metric", "value", "low", "high", "record")


def compare_records(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Collect what records hold about each model.

    Args:
        records: As `read_records` gives them.

    Returns:
        A row for each metric of each set of images of each model, in the order of the records and of `PARTS`. Columns:
        `CSV_COLUMNS`, `run` (number of the model), `set` (number of the set of images), and `main`, whether this is the
        score by which models are compared, one of `MAIN_SCORES`. What no record holds is missing.
    """
    table = score_table(records)
    has_auc = (table["metric"] == MAIN_SCORES[0]).groupby(table["run"]).transform("any")
    table["main"] = table["metric"] == has_auc.map({True: MAIN_SCORES[0], False: MAIN_SCORES[1]})
    order = table["part"].map({part: i for i, part in enumerate(PARTS)})
    table = table.assign(order=order).sort_values(["run", "order"], kind="stable", ignore_index=True)
    return table[["run", "set", "main", *CSV_COLUMNS]]


def comparison_rows(table: pd.DataFrame, between: str | None = "<br>") -> list[list[str]]:
    """Return one row of text for each model.

    Args:
        table: From `compare_records`.
        between: What separates the sets of images of one part. None shows the score on the first set alone.

    Returns:
        Model, data, weights, name of the main score, parameters, milliseconds an image, and a cell for each of `PARTS`.
    """
    rows: list[list[str]] = []
    for _, run in table.groupby("run"):
        model, data, weights, parameters, speed = ("" if pd.isna(value) else value for value in run[_MODEL].iloc[0])
        main = run[run["main"]]
        shown: dict[str, list[str]] = {}
        for row in main.itertuples():
            cell = interval_text(row._asdict()) if between is None else _cell(row)
            shown.setdefault(row.part, []).append(cell)
        about = [model, data, weights, metric_name(main["metric"].iloc[0]) if len(main) else ""]
        about += [f"{parameters:,}" if parameters else "", f"{speed:.3g}" if speed else ""]
        rows.append([*about, *(_joined(shown.get(part, []), between) for part in PARTS)])
    return rows


def _joined(cells: list[str], between: str | None) -> str:
    return cells[0] if between is None and cells else (between or "").join(filter(None, cells))


def _cell(row: Any) -> str:
    shown = interval_text(row._asdict())
    plain = row.tested_on.split(" ")[0] in ("train", "training", "val", "validation", "test")
    about = ([] if pd.isna(row.n) else [f"{row.n:,} images"]) + ([] if plain or not row.tested_on else [row.tested_on])
    return f"{shown} {', '.join(about)}".strip() if shown else ""


def comparison_table(table: pd.DataFrame) -> str:
    """Return the models as a Markdown table with the main score of each; a value that no record holds is an empty cell.

    Args:
        table: From `compare_records`.

    Returns:
        The table, ending in a newline; an empty string without any row.
    """
    head = ["model", "trained on", "weights", "score", "parameters", "ms an image", *PARTS]
    return markdown_table(head, comparison_rows(table), text_columns=4) if len(table) else ""


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int) -> str:
    """Return a Markdown table.

    Args:
        head: Names of the columns.
        rows: Cells as text.
        text_columns: How many columns, from the left, are text; the others stand to the right, as numbers do.

    Returns:
        The table, ending in a newline.

    Examples:
        >>> print(markdown_table(["model", "AUC"], [["v1", "0.71"]], text_columns=1))
        | model | AUC |
        | --- | ---: |
        | v1 | 0.71 |
        <BLANKLINE>
    """
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [list(head), rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main_scores(table: pd.DataFrame) -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
    """Return the main scores as numbers, for a picture.

    Args:
        table: From `compare_records`.

    Returns:
        Name of the score to model (and, on a second line, what it was trained on) to one of `SHOWN` to value, low and
        high. Where a part has several sets of images the first is taken; what is undefined is left out.
    """
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    main = table[table["main"]].drop_duplicates(["run", "part"]).dropna(subset=["value", "low", "high"])
    for _, run in main.groupby("run"):
        models = panels.setdefault(metric_name(run["metric"].iloc[0]), {})
        name = run["model"].iloc[0] + ("" if pd.isna(data := run["data"].iloc[0]) else f"\n{data}")
        while name in models:  # two runs of one name are two models
            name += " "
        elsewhere = (run["part"] == "real world") & run["tested_on"].str.contains("synthetic")
        parts = run["part"].mask(elsewhere, ELSEWHERE)
        models[name] = dict(zip(parts, run[["value", "low", "high"]].itertuples(index=False, name=None), strict=True))
    return panels
