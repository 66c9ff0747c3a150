"""Ten slides: an opening and one for each notebook, with its picture and with numbers from the run records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fracturelab.records import interval_text, metric_name
from fracturelab.records.scores import score_table
from scripts.front_page import ROWS, Record, home_and_elsewhere, score_text, trap_effects
from scripts.notebook_pictures import NOTEBOOKS, chosen_picture

TITLE = "Is the score of a fracture detector true?"
MOST_POINTS = 4
MISSING = "No run has been recorded for this slide yet: make notebooks-all."
ELSEWHERE = "The numbers are in the notebook."
TITLES = {
    "01": "A score on X-rays can be high for a wrong reason",
    "02": "A leaking split makes a small CNN look better than it is",
    "03": "Transfer learning starts from weights that others trained",
    "04": "X-rays from another source are the test that counts",
    "05": "Ten fracture types are harder to tell apart than broken from normal",
    "06": "A ranking of networks needs intervals",
    "07": "Another split of the same data gives another score",
    "08": "A heat map has to be tested before it is trusted",
    "09": "A small network can learn from a large one, and the gain is measured",
}
"""The sentence of each notebook."""


@dataclass(frozen=True)
class Slide:
    """One slide.

    Attributes:
        title: Its message, a sentence.
        points: At most `MOST_POINTS` paragraphs.
        picture: PNG or JPEG bytes; None where the notebook has not been run.
        about: What the picture shows, for those who cannot see it.
        records: Names of the records that its numbers come from.
    """

    title: str
    points: tuple[str, ...]
    picture: bytes | None = None
    about: str = ""
    records: tuple[str, ...] = ()


def slides_of(records: Sequence[Record], *, front: Path, notebooks: Path = NOTEBOOKS) -> list[Slide]:
    """Make the slides.

    Args:
        records: As `read_records` gives them.
        front: The picture of README's first screen.
        notebooks: Folder of the executed notebooks.

    Returns:
        The opening, then a slide for each notebook.
    """
    return [_opening(records, front), *(_of_notebook(number, records, notebooks) for number in TITLES)]


def _opening(records: Sequence[Record], front: Path) -> Slide:
    days = sorted(str(record.get("created", ""))[:10] for record in records)
    when = f"Every number comes from one of {len(records)} records, the newest of {days[-1]}." if days else MISSING
    about = "ROC AUC at home and elsewhere, and a synthetic X-ray with its heat map."
    picture = front.read_bytes() if front.is_file() else None
    return Slide(TITLE, ("For teaching and research. Not for clinical use.", when), picture, about)


def _of_notebook(number: str, records: Sequence[Record], notebooks: Path) -> Slide:
    own = [record for record in records if record["name"].startswith(f"{number}-")]
    if number in ("01", "02"):
        leak, *others = [f"{trap}: {effect}." if effect else "" for trap, effect, _ in trap_effects(records)]
        points = [text for text in (others[:3] if number == "01" else [leak]) if text]
    elif number == "04":
        points = _home_and_elsewhere(records)
    else:
        points = _scores(score_table(own)) or [text for record in own for text in _several(record["results"])]
    path = next(iter(sorted(notebooks.glob(f"{number}_*.ipynb"))), None)
    picture = chosen_picture(path) if path else None
    names = tuple(str(record["name"]) for record in own)
    shown = tuple(points[:MOST_POINTS]) or (ELSEWHERE if own else MISSING,)
    return Slide(TITLES[number], shown, picture, f"A picture of notebook {number}.", names)


def _home_and_elsewhere(records: Sequence[Record]) -> list[str]:
    points = []
    for row in ROWS:
        home, elsewhere = home_and_elsewhere(records, row)
        if len(home) and len(elsewhere):
            points.append(f"{row.name}: ROC AUC {score_text(home)} at home; {score_text(elsewhere)} elsewhere.")
    return points


def _scores(scores: pd.DataFrame) -> list[str]:
    """A sentence for each model with its ROC AUC or its accuracy, on its test part where it has one."""
    points = []
    for _, run in scores[scores["metric"].isin(("roc_auc", "accuracy"))].groupby("run"):
        run = run[run["metric"] == ("roc_auc" if (run["metric"] == "roc_auc").any() else "accuracy")]
        row = run.iloc[(run["part"] != "test").to_numpy().argmin()]
        value = interval_text(row.to_dict())
        points.append(f"{row['model']}: {metric_name(row['metric'])} {value}, {row['tested_on']} images.")
    return points


def _several(results: Record) -> list[str]:
    """A sentence for each set of images that networks were compared on, and one for a score over many splits."""
    by_member = results.get("evaluations_by_member") or {}
    points = [f"{name}: ROC AUC {interval_text(found['metrics']['roc_auc'])}." for name, found in by_member.items()]
    points = [text for text in points if ", field:" in text] or points
    if splits := results.get("splits"):
        values = [split["AUC"] for split in splits]
        points.append(f"{len(values)} splits: ROC AUC from {min(values):.2f} to {max(values):.2f}.")
    return points
