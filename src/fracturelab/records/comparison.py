"""One table of everything that has been run: a row a model, put together from all of its records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fracturelab.records.scores import PARTS, Score, by_model, latest, model_name, scores_of, weights_name
from fracturelab.records.tables import COLUMNS, interval_text, markdown_table

MAIN_SCORES = ("roc_auc", "accuracy")
"""The score that a row shows: the first of these that the model has. Models of many classes have no one ROC AUC."""

GUESSING = {"ROC AUC": 0.5}
"""What a coin reaches."""

ELSEWHERE = "elsewhere (synthetic)"
"""What pictures call another source that is no real world."""

SHOWN = (*PARTS, ELSEWHERE)
"""The parts of a picture."""

_SYNTHETIC = ("clinic", "field")  # sources of `fracturelab.phantoms`


@dataclass(frozen=True)
class Row:
    """One model with all that the records say about it; what they do not say is None.

    Attributes:
        model: Its name.
        data: What it was trained on.
        weights: Name of the weights that it began with; "none" from scratch.
        parameters: Number of its weights.
        ms_per_image: Milliseconds an image, in batches, on the machine of the run.
        score: Name of the score shown: one of `MAIN_SCORES`.
        scores: Part of `PARTS` to the scores there.
        records: Names of the records.
    """

    model: str
    data: str | None
    weights: str | None
    parameters: int | None
    ms_per_image: float | None
    score: str | None
    scores: Mapping[str, tuple[Score, ...]]
    records: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        plain = {name: getattr(self, name) for name in ("model", "data", "weights", "parameters", "ms_per_image")}
        tested = [
            {"part": part, "tested_on": one.tested_on, "n": one.n, "record": one.record, "metrics": dict(one.metrics)}
            for part, found in self.scores.items()
            for one in found
        ]
        return {**plain, "score": self.score, "tested": tested, "records": list(self.records)}


def compare_records(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Put everything together that records say about each model.

    Each training is a row, and what tests its model is found beside it (see `scores.by_model`).

    Args:
        records: As `read_records` gives them.

    Returns:
        A row a model, in the order of the records; records that tested no model are left out.
    """
    return [_row(group) for group in by_model(records)]


def _row(group: list[Mapping[str, Any]]) -> Row:
    first = group[0]
    newest_first = sorted(group, key=lambda record: str(record.get("created") or ""), reverse=True)
    scores = latest(group)
    parts = {part: tuple(score for score in scores if score.part == part) for part in PARTS}
    if not parts["validation"]:
        parts["validation"] = _said_of_validation(newest_first)
    known = {name for found in parts.values() for score in found for name in score.metrics}
    data = (first.get("data") or {}).get("source") if first["kind"] == "training" else None
    return Row(
        model=model_name(first),
        data=_with_synthetic(data) if data else None,
        weights=weights_name(first) or ("none" if first["kind"] == "training" else None),
        parameters=_newest(newest_first, "parameters"),
        ms_per_image=_newest(newest_first, "ms_per_image"),
        score=next((name for name in MAIN_SCORES if name in known), None),
        scores=parts,
        records=tuple(record["name"] for record in group),
    )


def _newest(records: Iterable[Mapping[str, Any]], name: str) -> Any:
    return next((record["results"][name] for record in records if record["results"].get(name) is not None), None)


def _said_of_validation(records: Iterable[Mapping[str, Any]]) -> tuple[Score, ...]:
    """The validation AUC that a test of a saved model took from the model's card."""
    for record in records:
        found = record["results"].get("validation_roc_auc") or {}
        if found.get("value") is not None:
            one = scores_of(record)[0]
            return (
                Score(
                    one.record,
                    one.created,
                    one.model,
                    one.weights,
                    "validation",
                    "validation",
                    None,
                    {"roc_auc": found},
                ),
            )
    return ()


def _with_synthetic(source: str) -> str:
    made = all(name.strip() in _SYNTHETIC or name.strip().startswith("phantoms-") for name in source.split(","))
    return f"{source} (synthetic)" if made else source


def comparison_table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table, the main score of each with its interval; what is not known is an empty cell.

    Args:
        rows: From `compare_records`.

    Returns:
        The table, ending in a newline; an empty string without any row.
    """
    head = ["model", "trained on", "weights", "score", "parameters", "ms an image", *PARTS]
    lines = [
        [
            row.model,
            row.data or "",
            row.weights or "",
            COLUMNS.get(row.score, row.score) if row.score else "",
            "" if row.parameters is None else f"{row.parameters:,}",
            "" if row.ms_per_image is None else f"{row.ms_per_image:.3g}",
            *("<br>".join(filter(None, (_cell(one, row.score) for one in row.scores[part]))) for part in PARTS),
        ]
        for row in rows
    ]
    return markdown_table(head, lines, text_columns=4) if lines else ""


def _cell(score: Score, name: str | None) -> str:
    shown = interval_text(score.metrics.get(name or ""))
    plain = score.tested_on.split(" ")[0] in ("train", "training", "val", "validation", "test")
    about = [f"{score.n:,} images"] * (score.n is not None) + [score.tested_on] * (not plain and bool(score.tested_on))
    return f"{shown} {', '.join(about)}".strip() if shown else ""


def main_scores(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
    """The main scores as numbers, for a picture.

    Args:
        rows: From `compare_records`.

    Returns:
        Name of the score to model (and, on a second line, what it was trained on) to one of `SHOWN` to value, low and
        high. Where a part has several sets of images the first is taken; what is undefined is left out.
    """
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for row in rows:
        if row.score is None:
            continue
        models = panels.setdefault(COLUMNS.get(row.score, row.score), {})
        name = row.model + (f"\n{row.data}" if row.data else "")
        while name in models:  # two runs of one name are two models
            name += " "
        for part, found in row.scores.items():
            interval = found[0].metrics.get(row.score, {}) if found else {}
            if part == "real world" and found and "synthetic" in found[0].tested_on:
                part = ELSEWHERE
            value, low, high = (interval.get(key) for key in ("value", "low", "high"))
            if value is not None and low is not None and high is not None:
                models.setdefault(name, {})[part] = (value, low, high)
    return {score: models for score, models in panels.items() if models}


CSV_COLUMNS = (
    "model",
    "data",
    "weights",
    "parameters",
    "ms_per_image",
    "part",
    "tested_on",
    "n",
    "metric",
    "value",
    "low",
    "high",
    "record",
)


def comparison_csv(rows: Iterable[Row]) -> str:
    """Everything as CSV for other programs: a line for each metric of each model on each set of images.

    Args:
        rows: From `compare_records`.

    Returns:
        The text, head first, lines ending in a newline; what is not known is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        about = [row.model, row.data, row.weights, row.parameters, row.ms_per_image]
        for part, scores in row.scores.items():
            for one in scores:
                for metric, interval in one.metrics.items():
                    numbers = [interval.get(key) for key in ("value", "low", "high")]
                    writer.writerow([*about, part, one.tested_on, one.n, metric, *numbers, one.record])
    return text.getvalue()
