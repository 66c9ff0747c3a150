"""What records hold about models, as one DataFrame: a row for each metric of each set of images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

PARTS = ("train", "validation", "test", "real world")
"""Where a score was taken: seen in training, used to choose, held out of the same data, from elsewhere."""

Record = Mapping[str, Any]
_TRAINED = "training-"  # what `fracturelab train` puts before the name of a model
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation"), "validation"),
    **dict.fromkeys(("test", "held-out test part", "unseen", "holdout", "holdout, studies"), "test"),
}
_SYNTHETIC = ("clinic", "field")  # sources of `fracturelab.phantoms`
_TEXT = ("model", "data", "weights", "part", "tested_on", "metric", "record", "created", "content", "split")
_NUMBERS = {"parameters": "Int64", "n": "Int64", "ms_per_image": float, "value": float, "low": float, "high": float}


def model_name(record: Record) -> str:
    """Return the name of a record's model: its file's name for `fracturelab train`, else the name in the record."""
    name = record["name"]
    if name.startswith(_TRAINED):
        return name.removeprefix(_TRAINED)
    return str(record["results"].get("model") or name)


def _model_key(record: Record) -> tuple[str, str]:
    """What distinguishes models: their name, whatever its hyphens and capitals, and the weights they began with."""
    weights = record.get("weights") or {}
    name = re.sub(r"[\s_-]+", " ", model_name(record)).strip().casefold()
    return name, str(weights.get("sha256") or weights.get("name") or "")


def runs_of(records: Iterable[Record]) -> list[list[Record]]:
    """Collect the records of each model; records without a score are left out.

    Each training is a model of its own. A record that tests a model belongs to the training of its name and weights
    if there is exactly one. Otherwise the records of that name and weights form a model without a training.

    Returns:
        The records of each model, its training first; models in the order of their first record.
    """
    tested = [record for record in records if _results_of(record)]
    trainings: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(tested):
        if record["kind"] == "training":
            trainings.setdefault(_model_key(record), []).append(place)
    runs: dict[Any, list[int]] = {}
    for place, record in enumerate(tested):
        homes = trainings.get(key := _model_key(record), [])
        run = place if record["kind"] == "training" else homes[0] if len(homes) == 1 else key
        runs.setdefault(run, []).append(place)
    training_first = (sorted(run, key=lambda i: (tested[i]["kind"] != "training", i)) for run in runs.values())
    return [[tested[i] for i in run] for run in training_first]


def _results_of(record: Record) -> list[tuple[str, Record]]:
    """The sets of images that a record has scores of: their name, and their results."""
    several = record["results"].get("evaluations")
    if isinstance(several, Mapping):
        sets = list(several.items())
    else:
        sets = [((record.get("data") or {}).get("source") or "", record["results"])]
    return [(n, r) for n, r in sets if isinstance(r, Mapping) and isinstance(r.get("metrics"), Mapping)]


def score_table(records: Iterable[Record]) -> pd.DataFrame:
    """Collect the scores of all records, each model's newest ones on each set of images.

    A notebook that trains a model records how it does, and one that compares it with others records that again. The
    newest record of a model on a set of images counts.

    Args:
        records: As `read_records` gives them.

    Returns:
        A row for each metric of each set of images of each model. Columns: `run` (number of the model), `model`, `data`
        (what it was trained on), `weights` (what it began with), `parameters`, `ms_per_image`, `part` (one of `PARTS`),
        `tested_on`, `n` (images), `metric`, `value`, `low`, `high`, `record`, `created`, `content` (fingerprint of the
        images), `split`, and `set` (number of the set of images). What no record holds is missing.
    """
    rows = [row for run, group in enumerate(runs_of(records)) for row in _rows_of(run, group)]
    table = pd.DataFrame(rows, columns=["run", *_TEXT, *_NUMBERS])
    table = table.astype({**dict.fromkeys(_TEXT, object), **_NUMBERS})
    images = table["content"].mask(table["content"] == "", table["split"])
    table["set"] = table.assign(images=images).groupby(["run", "tested_on", "images"], sort=False).ngroup()
    by_age = table.sort_values("created", ascending=False, kind="stable")
    newest = by_age.groupby("set")["record"].transform("first").sort_index()
    return table[table["record"] == newest].sort_values("set", kind="stable", ignore_index=True)


def _rows_of(run: int, group: list[Record]) -> list[dict[str, Any]]:
    """The rows of one model; `group` holds its records, the training first."""
    first, training = group[0], group[0]["kind"] == "training"
    weights, source = first.get("weights") or {}, (first.get("data") or {}).get("source")
    bundled = "bundled " if weights.get("kind") == "bundled" else ""  # not ImageNet's of the same backbone
    about = {
        "run": run,
        "model": model_name(first),
        "data": _with_synthetic(source) if training and source else None,
        "weights": f"{bundled}{weights['name']}" if weights.get("name") else "none" if training else None,
    }
    newest = sorted(group, key=lambda record: str(record.get("created") or ""), reverse=True)
    for name in ("parameters", "ms_per_image"):
        about[name] = next((r["results"][name] for r in newest if r["results"].get(name) is not None), None)
    rows = []
    for record in group:
        data = record.get("data") or {}
        alone = not isinstance(record["results"].get("evaluations"), Mapping)  # its data are what was tested on
        for tested_on, results in _results_of(record):
            split = str(data.get("split") or "") if alone else ""
            images = {
                **about,
                "part": _PARTS.get(split or tested_on, "real world"),
                "tested_on": tested_on,
                "n": results.get("n"),
                "record": record["name"],
                "created": str(record.get("created") or ""),
                "content": str(data.get("sha256") or data.get("fingerprint") or "") if alone else "",
                "split": split,
            }
            rows += [{**images, "metric": name, **interval} for name, interval in _intervals(results["metrics"])]
    if not any(row["part"] == "validation" for row in rows):
        for record in newest:  # a test of a saved model may hold the validation AUC of the model's card
            for _, interval in _intervals({"": record["results"].get("validation_roc_auc")}):
                if interval["value"] is not None:
                    images = dict.fromkeys(("part", "tested_on"), "validation") | {"content": "card", "split": ""}
                    images |= {"record": record["name"], "created": str(record.get("created") or "")}
                    return [*rows, {**about, **images, "metric": "roc_auc", **interval}]
    return rows


def _intervals(metrics: Record) -> list[tuple[str, dict[str, Any]]]:
    """The metrics that are intervals: name, and `value`, `low` and `high`."""
    keys = ("value", "low", "high")
    return [(name, {key: x.get(key) for key in keys}) for name, x in metrics.items() if isinstance(x, Mapping)]


def _with_synthetic(source: str) -> str:
    made = all(name.strip() in _SYNTHETIC or name.strip().startswith("phantoms-") for name in source.split(","))
    return f"{source} (synthetic)" if made else source
