"""What records say about models: one score for each set of images that a model was tested on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("train", "validation", "test", "real world")
"""Where a score was taken: seen in training, used to choose, held out of the same data, from elsewhere."""

_TRAINED = "training-"  # what `fracturelab train` puts before the name of a model
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation"), "validation"),
    **dict.fromkeys(("test", "held-out test part", "unseen", "holdout", "holdout, studies"), "test"),
}


@dataclass(frozen=True)
class Score:
    """The scores of one model on one set of images.

    Attributes:
        record: Name of the record.
        created: When it was written, ISO 8601.
        model: Name of the model.
        weights: Name of the weights it began with; None without any.
        part: One of `PARTS`.
        tested_on: The images, as the record calls them.
        n: How many; None where the record does not say.
        metrics: Name to `value`, `low` and `high`.
        content: What is known of the files themselves; empty where the record describes others.
        split: Which part of the data set they are, as the record says it ("test", "train", "all" ...); else empty.
    """

    record: str
    created: str
    model: str
    weights: str | None
    part: str
    tested_on: str
    n: int | None
    metrics: Mapping[str, Mapping[str, float | None]]
    content: str = ""
    split: str = ""


def model_name(record: Mapping[str, Any]) -> str:
    """Name of a record's model: of its file where `fracturelab train` made it, else as the record calls it."""
    name = record["name"]
    if name.startswith(_TRAINED):
        return name.removeprefix(_TRAINED)
    return str(record["results"].get("model") or name)


def weights_name(record: Mapping[str, Any]) -> str | None:
    """What a record's model began with, as tables say it: bundled weights are not ImageNet's of the same backbone."""
    weights = record.get("weights") or {}
    return f"bundled {weights.get('name')}" if weights.get("kind") == "bundled" else weights.get("name")


def model_key(record: Mapping[str, Any]) -> tuple[str, str]:
    """What tells models apart: their name, whatever its hyphens and capitals, and the weights they began with."""
    weights = record.get("weights") or {}
    name = re.sub(r"[\s_-]+", " ", model_name(record)).strip().casefold()
    return name, str(weights.get("sha256") or weights.get("name") or "")


def scores_of(record: Mapping[str, Any]) -> list[Score]:
    """All scores of a record; none for one that tested no model."""
    results, data = record["results"], record.get("data") or {}
    several = results.get("evaluations")
    if isinstance(several, Mapping):
        found = [(part, "", result) for part, result in several.items() if _has_metrics(result)]
    elif _has_metrics(results):
        # The record is about these images alone: its data are what was tested on.
        found = [(data.get("source") or "", str(data.get("sha256") or data.get("fingerprint") or ""), results)]
    else:
        found = []
    return [
        Score(
            record=record["name"],
            created=str(record.get("created") or ""),
            model=model_name(record),
            weights=weights_name(record),
            part=_part(tested_on, {} if isinstance(several, Mapping) else data),
            tested_on=tested_on,
            n=result.get("n"),
            metrics={name: one for name, one in result["metrics"].items() if isinstance(one, Mapping)},
            content=content,
            split="" if isinstance(several, Mapping) else str(data.get("split") or ""),
        )
        for tested_on, content, result in found
    ]


def _has_metrics(result: Any) -> bool:
    return isinstance(result, Mapping) and isinstance(result.get("metrics"), Mapping)


def _part(tested_on: str, data: Mapping[str, Any]) -> str:
    """The part a set of images is; what has none of the usual names comes from elsewhere."""
    return _PARTS.get(str(data.get("split") or tested_on), "real world")


def by_model(records: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Put records of one model together.

    Each training is a model of its own. A record that tests a model joins its training where just one has its name and
    weights; otherwise nobody can say which of them was tested, and such records stand together, apart from trainings.

    Args:
        records: As `read_records` gives them; those that tested no model are left out.

    Returns:
        The records of each model, its training first; models in the order of their first record.
    """
    tested = [record for record in records if scores_of(record)]
    groups = [[record] for record in tested if record["kind"] == "training"]
    apart: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in tested:
        if record["kind"] != "training":
            homes = [group for group in groups if model_key(group[0]) == model_key(record)]
            (homes[0] if len(homes) == 1 else apart.setdefault(model_key(record), [])).append(record)
    place = {id(record): position for position, record in enumerate(tested)}
    return sorted([*groups, *apart.values()], key=lambda group: min(place[id(record)] for record in group))


def latest(records: Iterable[Mapping[str, Any]]) -> list[Score]:
    """The scores of one model without repetition: tested twice on the same images, its newest scores stand.

    A notebook that trains a model records how it does, and one that compares it with others records that again.

    Args:
        records: Of one model, from `by_model`.

    Returns:
        One score for each set of images, in the order in which they first occur.
    """
    newest: dict[tuple[str, str], Score] = {}
    for record in records:
        for score in scores_of(record):
            key = (score.tested_on, score.content or score.split)
            if key not in newest or score.created > newest[key].created:
                newest[key] = score
    return list(newest.values())
