"""The two tables of README's first page: five models on two sources, and what each trap does to a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import mean
from typing import Any

import pandas as pd

from fracturelab.phantoms.defaults import RECIPES
from fracturelab.records import interval_text, markdown_table
from fracturelab.records.scores import score_table

Record = Mapping[str, Any]
MISSING = "no record yet"
NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        name: What readers see.
        data: What it was trained on.
        models: Pattern of the names of its models in the records. Several models are seeds of one recipe.
    """

    name: str
    data: str
    models: str


ROWS = (
    Row("v1", "synthetic", "v1"),
    Row("v2 (ResNet50)", "synthetic", "v2"),
    Row("v1", "FracAtlas", "v1-fracatlas*"),
    Row("v2 (MobileNet)", "FracAtlas", "v2-*fracatlas*"),
    Row("shipped model", "FracAtlas", "fracturelab-small*"),
)


def home_and_elsewhere(records: Sequence[Record], row: Row) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ROC AUC of a model on images of its own source and on the largest set of another source, a line a seed.

    Own images are those of a test part; where there is none, the validation part. The record of several seeds, where
    there is one, takes the place of the notebooks' single seed.
    """
    for record in records:
        if record["name"] == f"baselines-{row.models}":
            runs = [run["roc_auc"] for run in record["results"]["runs"] if run["model"] == row.models]
            home, elsewhere = (
                pd.DataFrame({"value": [run[part] for run in runs], "n": RECIPES[part].n})
                for part in ("unseen", "field")
            )
            return home, elsewhere
    scores = score_table(records)
    chosen = scores["model"].map(lambda name: fnmatchcase(str(name).casefold(), row.models)).astype(bool)
    scores = scores[chosen & (scores["metric"] == "roc_auc") & scores["value"].notna()]
    home = scores[scores["part"] == "test"]
    home = home if len(home) else scores[scores["part"] == "validation"]
    elsewhere = scores[scores["part"] == "real world"]
    elsewhere = elsewhere[elsewhere["n"] == elsewhere["n"].max()]
    return home.drop_duplicates("model", keep="last"), elsewhere.drop_duplicates("model", keep="last")


def score_text(scores: pd.DataFrame) -> str:
    """A ROC AUC with its 95% interval; of several seeds their mean, the lowest and the highest."""
    if scores.empty:
        return ""
    n = scores["n"].iloc[0]
    images = "" if pd.isna(n) else f", {n:,} X-rays"
    if len(scores) == 1:
        return f"{interval_text(scores.iloc[0].to_dict())}{images}"
    values = scores["value"]
    return f"{values.mean():.3f} ({len(values)} seeds: {values.min():.3f}–{values.max():.3f}){images}"


def headline_table(records: Sequence[Record]) -> str:
    """ROC AUC of five models on the source they were trained on and on another one, as a Markdown table."""
    rows = []
    for row in ROWS:
        home, elsewhere = home_and_elsewhere(records, row)
        other = score_text(elsewhere) or (NOT_TESTED if len(home) else MISSING)
        rows.append([row.name, row.data, score_text(home) or MISSING, other])
    head = ["model", "trained on", "ROC AUC, same source", "ROC AUC, another source"]
    return markdown_table(head, rows, text_columns=4)


def traps_table(records: Sequence[Record]) -> str:
    """What each trap does to a score, as a Markdown table."""
    rows = [[trap, effect or MISSING, cure] for trap, effect, cure in trap_effects(records)]
    return markdown_table(["trap", "measured effect", "what closes it"], rows, text_columns=3)


def trap_effects(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Trap, measured effect ("" without a record) and remedy."""
    by_name = {record["name"]: record for record in records}
    scores = score_table(records)
    audit = (by_name.get("01-audit") or {}).get("results") or {}
    return [
        ("Augment first, split later", _leak(by_name.get("baselines-leak"), scores), "split by group, then augment"),
        ("Copies in training and test", _copies(audit), "`fracturelab audit`; copies are one group"),
        ("Shortcuts", _shortcut(audit), "the audit scores each shortcut alone"),
        ("Four test images", _four(audit), "an interval beside every score"),
        ("Testing on training images", _memory(scores), "model cards keep checksums"),
        ("Weights that saw the labels", _weights(records), "a warning"),
    ]


def _leak(record: Record | None, scores: pd.DataFrame) -> str:
    runs = [run for run in (record or {}).get("results", {}).get("runs", []) if run["model"].startswith("augment")]
    if runs:
        inside, new = (mean(run["roc_auc"][part] for run in runs) for part in ("val", "unseen"))
        return f"ROC AUC {inside:.2f} in validation, {new:.2f} on new X-rays ({len(runs)} seeds)"
    flawed = scores[(scores["model"] == "v1-flawed") & (scores["metric"] == "roc_auc")].drop_duplicates("part")
    parts = flawed.set_index("part")["value"]
    if not {"validation", "real world"} <= set(parts.index):
        return ""
    return f"ROC AUC {parts['validation']:.2f} in validation, {parts['real world']:.2f} elsewhere"


def _copies(audit: Record) -> str:
    remembered = ((audit.get("traps") or {}).get("remembering") or {}).get("split by image") or {}
    accuracy = (remembered.get("metrics") or {}).get("accuracy")
    return f"a nearest copy alone gives accuracy {interval_text(accuracy)}" if accuracy else ""


def _shortcut(audit: Record) -> str:
    name = "shortcuts_sick" if audit.get("shortcuts_sick") else "shortcuts"
    found = audit.get(name) or []
    pairs = found.items() if isinstance(found, Mapping) else [(one["name"], one["auc"]) for one in found]
    known = [(key, auc) for key, auc in pairs if isinstance(auc, float)]
    if not known:
        return ""
    key, auc = max(known, key=lambda pair: abs(pair[1] - 0.5))
    made = ", planted" if name == "shortcuts_sick" else ""
    return f"{key.replace('_', ' ')} alone: AUC {max(auc, 1 - auc):.2f}{made}"


def _four(audit: Record) -> str:
    four = (audit.get("traps") or {}).get("four_images")
    return f"four right answers: accuracy {four['low']:.0%} to {four['high']:.0%}" if four else ""


def _memory(scores: pd.DataFrame) -> str:
    shown = scores[scores["metric"].isin(("roc_auc", "accuracy"))]
    for _, run in shown.groupby(["run", "metric"], sort=False):
        parts = run.drop_duplicates("part").set_index("part")["value"]
        if {"train", "test"} <= set(parts.index) and parts["train"] > parts["test"] + 0.1:
            metric = run["metric"].iloc[0].replace("roc_auc", "ROC AUC")
            scores = f"{metric} {parts['train']:.2f} on training images, {parts['test']:.2f} on test images"
            return f"{run['model'].iloc[0].partition(':')[0]}: {scores}"
    return ""


def _weights(records: Sequence[Record]) -> str:
    for record in records:
        if record["name"] == "evidence-ResNet50-bundled":
            results = record["results"]
            inside = (results.get("validation") or {}).get(str(results["input_size"]))
            if inside:
                parts = inside["means"], results["probe"]["metrics"]
                values = [part["roc_auc"]["value"] for part in parts]
                return f"ROC AUC {values[0]:.2f} in validation, {values[1]:.2f} on the test part"
    return ""


def seeds_table(records: Sequence[Record]) -> str:
    """Scores over seeds of the records that `python -m scripts baselines` writes: mean, lowest and highest."""
    from scripts.baselines import summary

    rows, columns = [], {}
    tables = [(record["name"].removeprefix("baselines-"), record["results"]["runs"]) for record in records]
    for part, runs in tables:
        found = summary(runs)
        columns |= dict.fromkeys(found.columns)
        rows += [(part, len(runs) // len(found), model, scores) for model, scores in found.to_dict("index").items()]
    names = {"val": "validation", "unseen": "new X-rays, same source", "field": "another source", "hard": "hard X-rays"}
    head = ["experiment", "model", "seeds", *(names.get(column, column) for column in columns)]
    cells = [[part, model, str(n), *(scores.get(column, "") for column in columns)] for part, n, model, scores in rows]
    return markdown_table(head, cells, text_columns=3) if rows else ""
