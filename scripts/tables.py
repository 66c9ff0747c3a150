"""The table of results in Markdown files, and the places in such files that tables fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from fracturelab.records import interval_text, markdown_table, metric_name, score_table
from fracturelab.system.files import write_text

_SEED = re.compile(r"[- ]seed ?\d+$")
_SHOWN = ("roc_auc", "accuracy", "recall", "specificity", "f1", "macro_f1")


def results_table(records: Iterable[Mapping[str, Any]], *, metrics: Sequence[str] = _SHOWN) -> str:
    """A Markdown table of the records that hold metrics, one row for each set of images that was tested on.

    Where several records test one model on the same images, the newest one counts (see `score_table`). Models whose
    names differ in a last `-seed<number>` alone are runs of one recipe: a row of their mean and standard deviation
    follows those that were tested on the same images. Where several parts of one data set were tested on, each row
    names its part.

    Args:
        records: As `read_records` gives them.
        metrics: Which ones to show, each as value and 95% interval; those that no record has are left out.

    Returns:
        The table, models in the order of their first record, ending in a newline; an empty string without any row.
    """
    scores = score_table(records)
    scores = scores[(scores["content"] != "card") & scores["metric"].notna()]
    chosen = [name for name in metrics if (scores["metric"] == name).any()]
    sets = scores.drop_duplicates("set").set_index("set")
    family = sets["model"].str.replace(_SEED, "", regex=True)
    several_splits = sets.groupby("tested_on")["split"].transform("nunique") > 1
    several_contents = sets.groupby([family, "tested_on", "split"])["content"].transform("nunique") > 1
    sets["split"], sets["short"] = sets["split"].where(several_splits, ""), sets["content"].str[:8]
    sets["short"] = sets["short"].where(several_contents, "")
    keys = [sets[name] for name in ("tested_on", "split", "content")]
    last = sets.groupby([family, *keys]).ngroup()
    values = scores.pivot(index="set", columns="metric", values="value").reindex(columns=chosen)
    texts = {(row.set, row.metric): interval_text(row._asdict()) for row in scores.itertuples()}
    rows = []
    for number, one in sets.iterrows():
        about = [", ".join(filter(None, (one["tested_on"], one["split"], one["short"])))]
        about = [one["weights"] if isinstance(one["weights"], str) else "none", *about]
        about.append("" if one["n"] is None or one["n"] != one["n"] else f"{one['n']:,}")
        rows.append([one["model"], *about, *(texts.get((number, name)) or "–" for name in chosen)])
        members = last.index[(last == last[number]) & (family != sets["model"])]
        if len(members) > 1 and number == members[-1]:
            found = values.loc[members]
            cells = [
                f"**{mean:.3f}** ± {spread:.3f}" if spread == spread else "–"
                for mean, spread in zip(found.mean(), found.std(), strict=True)
            ]
            rows.append([f"**{family[number]}, {len(members)} seeds**", *about, *cells])
    head = ["model", "weights", "tested on", "images", *map(metric_name, chosen)]
    return markdown_table(head, rows, text_columns=3) if rows else ""


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
