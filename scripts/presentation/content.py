"""What the slides say: sentences and pictures made of run records. Where there is no record, the slide says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fracturelab.records import compare_records, interval_text, main_scores, metric_name
from fracturelab.records.comparison import GUESSING, SHOWN

Record = Mapping[str, Any]
TITLE = "Finding fractures in X-rays: is the score true?"
_MOST_ROWS = 9  # of a table on one slide
_MOST_POINTS = 6  # about models on one slide; the table of everything has them all


@dataclass(frozen=True)
class Slide:
    """One slide.

    Attributes:
        title: Its message.
        points: Paragraphs.
        table: Rows of texts, head first; shown where there is no picture.
        picture: A PNG.
        about: What the picture shows, for those who cannot see it.
        synthetic: Whether its numbers or pictures come from synthetic X-rays; it is marked as such.
        records: Names of the records that its numbers come from.
    """

    title: str
    points: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    picture: Path | None = None
    about: str = ""
    synthetic: bool = False
    records: tuple[str, ...] = ()


def slides_of(records: Sequence[Record], *, figures: Path, work: Path) -> list[Slide]:
    """Make the slides.

    Args:
        records: As `read_records` gives them.
        figures: Folder of the notebooks' figures; what is missing there is drawn from the records, or named.
        work: Folder for pictures that are drawn here; they are read when the file is written.

    Returns:
        The slides in order.
    """
    by_name = {record["name"]: record for record in records}
    scores = compare_records(records)
    main = scores[scores["main"]]
    two = scores[scores["run"].isin(main.loc[main["metric"] == "roc_auc", "run"])]
    types = scores[scores["run"].isin(main.loc[main["metric"] == "accuracy", "run"])]
    return [
        _opening(records),
        _question(),
        _data(by_name.get("01-audit"), figures, work),
        _flaws(by_name.get("01-audit"), work),
        *_models(scores),
        _scores(two, work),
        *_real(two),
        _falls(two, by_name.get("baselines-leak")),
        _differences(by_name.get("04-comparison"), work),
        _mistakes(figures),
        *([_types(types, work)] if len(types) else []),
        _limits(),
        _next(),
        _sources(records),
    ]


def _opening(records: Sequence[Record]) -> Slide:
    days = sorted(str(record.get("created", ""))[:10] for record in records)
    when = f"Made from {_count(len(records), 'run record')}, written {_span(days)}." if days else "No run recorded yet."
    return Slide(
        TITLE,
        (
            "For teaching and research. Not for clinical use.",
            when,
            "Every number on these slides is taken from a record; nothing was typed in.",
        ),
    )


def _question() -> Slide:
    return Slide(
        "The question",
        (
            "Small public sets of X-rays give networks that report high scores. Which of these scores would still be "
            "true in another hospital?",
            "Four things make a score shine that should not: copies of one image in training and test, shortcuts that "
            "go with the label, test sets of a handful of images, and an image path that differs between training and "
            "use.",
            "So each is shown, measured and closed, and every score carries a 95% interval.",
        ),
    )


def _data(audit: Record | None, figures: Path, work: Path) -> Slide:
    if audit is None:
        return _missing("The data", "make notebooks ONLY=01")
    results, data = audit["results"], audit.get("data") or {}
    source = str(data.get("source") or "the data")
    synthetic = source.startswith("phantoms") or source in ("clinic", "field")
    points = [
        f"{results['images']:,} images of {source}: {results['normal']:,} normal, {results['fractured']:,} fractured; "
        f"{_count(results.get('unreadable', 0), 'unreadable file')}.",
        f"{_count(results['exact_duplicates'], 'exact copy', 'exact copies')}, "
        f"{_count(results['near_duplicate_groups'], 'group')} of near-duplicates, "
        f"{_count(results['label_conflicts'], 'conflicting label')}.",
        str(results["verdict"]),
    ]
    if synthetic:
        points.insert(0, "The embedded X-rays are synthetic: computed pictures of bones, with ground truth.")
    shown = [one for one in results.get("shortcuts", []) if one.get("auc") is not None]
    picture = None
    if shown:
        strongest = max(shown, key=lambda one: abs(one["auc"] - 0.5))
        points.append(
            f"Shortcuts: {strongest['name'].replace('_', ' ')} alone reaches an AUC of {strongest['auc']:.2f}; "
            "0.50 says nothing."
        )
        names, aucs = [one["name"].replace("_", " ") for one in shown], [one["auc"] for one in shown]
        picture = _drawn(work / "shortcuts.png", lambda plots, ax: plots.shortcuts(names, aucs, ax=ax))
    elif (figures / "01-sources.png").is_file():
        picture = figures / "01-sources.png"
    return Slide(
        "The data, and what is wrong with them",
        tuple(points),
        picture=picture,
        about="How well each shortcut alone tells the classes apart.",
        synthetic=synthetic,
        records=(audit["name"],),
    )


def _flaws(audit: Record | None, work: Path) -> Slide:
    traps = (audit or {}).get("results", {}).get("traps") or {}
    points = []
    if "augment_first" in traps:
        share = traps["augment_first"]["share"]
        points.append(f"Augment first, split later: {share:.0%} of the validation images have a near copy in training.")
    for name, found in (traps.get("remembering") or {}).items():
        accuracy = found["metrics"]["accuracy"]
        points.append(f"Asked to remember, with a {name}: accuracy {interval_text(accuracy)}.")
    if "four_images" in traps:
        four = traps["four_images"]
        points.append(
            f"Four test images, all right: {four['value']:.0%} correct, and the 95% interval starts at "
            f"{four['low']:.0%}."
        )
    resizing = traps.get("resizing") or {}
    for name, found in list(resizing.items())[:1]:
        points.append(f"Two ways to resize, {name}: up to {found['largest']:.0f} of 255 grey levels apart.")
    if not points or audit is None:
        return _missing("What makes a score shine", "make notebooks ONLY=01")
    four = traps.get("four_images")
    picture = None
    if four:
        remembered = {name: found["metrics"]["accuracy"] for name, found in (traps.get("remembering") or {}).items()}
        scores = {
            name: {"accuracy": tuple(one[key] for key in ("value", "low", "high"))}
            for name, one in {"four test images": four, **remembered}.items()
        }
        picture = _forest(
            work / "flaws.png", scores, parts=["accuracy"], reference=0.5, xlabel="accuracy and 95% interval"
        )
    return Slide(
        "What makes a score shine",
        tuple(points),
        picture=picture,
        about="Accuracy with intervals on four images, and of remembering.",
        synthetic=str((audit.get("data") or {}).get("source", "")).startswith("phantoms"),
        records=(audit["name"],),
    )


def _models(scores: pd.DataFrame) -> list[Slide]:
    if scores.empty:
        return [_missing("The models", "make notebooks")]
    head = ("model", "trained on", "started from", "parameters", "ms an image")
    table = [
        (
            _short(row.model),
            _short("" if pd.isna(row.data) else row.data),
            _short("" if pd.isna(row.weights) else row.weights),
            "" if pd.isna(row.parameters) else f"{row.parameters:,}",
            "" if pd.isna(row.ms_per_image) else f"{row.ms_per_image:.3g}",
        )
        for row in scores.drop_duplicates("run").itertuples()
    ]
    points = (
        "v1 is a small CNN from scratch; v2 a pretrained backbone with a solved linear head, fine-tuned only where "
        "that helps on validation. “Flawed” is v1 trained the way that leaks.",
        "An empty cell: no record says it.",
    )
    pages = [table[i : i + _MOST_ROWS] for i in range(0, len(table), _MOST_ROWS)]
    return [
        Slide(
            "The models" + (f" ({i} of {len(pages)})" if len(pages) > 1 else ""),
            points if i == 1 else (),
            table=(head, *page),
            synthetic=_is_synthetic(scores),
            records=_names(scores),
        )
        for i, page in enumerate(pages, start=1)
    ]


def _scores(scores: pd.DataFrame, work: Path) -> Slide:
    picture = _main_forest(work / "scores.png", scores, most=7)
    if picture is None:
        return _missing("Scores, with their intervals", "make notebooks")
    first = scores[scores["main"]].drop_duplicates(["run", "part"])
    unsure = [f"{row.model} ({row.tested_on or row.part})" for row in first[first["low"] <= 0.5].itertuples()]
    points = ["Each dot is a ROC AUC with its 95% interval; dashed: guessing."]
    if unsure:
        points.append(f"Cannot be told from guessing: {_listed(unsure, 6)}.")
    else:
        points.append("No interval reaches guessing.")
    points.append("Scores on different images cannot be compared with each other.")
    return Slide(
        "Scores, with their intervals",
        tuple(points),
        picture=picture,
        about="ROC AUC of every model with its interval, wherever it was tested.",
        synthetic=_is_synthetic(scores),
        records=_names(scores),
    )


def _real(scores: pd.DataFrame) -> list[Slide]:
    """Scores on X-rays that are not synthetic, each in numbers."""
    names = ("roc_auc", "accuracy", "recall", "specificity", "f1")
    head = ("model", "tested on", "images", *map(metric_name, names))
    table, used = [], []
    for _, images in scores[scores["part"].isin(("test", "real world"))].groupby("set", sort=False):
        one = images.iloc[0]
        if _is_synthetic(images):
            continue
        texts = {row.metric: interval_text(row._asdict()) for row in images.itertuples()}
        cells = [texts.get(name, "") for name in names]
        table.append((_short(one.model), _short(one.tested_on), "" if pd.isna(one.n) else f"{one.n:,}", *cells))
        used.append(one.record)
    if not table:
        return []
    points = (
        "A test part is set apart by near-duplicate group, before anything is trained or chosen.",
        "A score says how the model ranks and calls these images, and nothing about another hospital.",
    )
    return [Slide("On real X-rays", points, table=(head, *table[:_MOST_ROWS]), records=tuple(dict.fromkeys(used)))]


def _falls(scores: pd.DataFrame, leak: Record | None) -> Slide:
    """From validation to elsewhere, for every model that has both."""
    points, used = [], []
    for _, run in scores[scores["main"]].drop_duplicates(["run", "part"]).groupby("run"):
        parts = {row.part: row for row in run.dropna(subset="value").itertuples()}
        if "validation" not in parts or "real world" not in parts:
            continue
        inside, outside = parts["validation"], parts["real world"]
        a, b = interval_text(inside._asdict()), interval_text(outside._asdict())
        points.append(
            f"{inside.model}: AUC {a} on its validation images, {b} on "
            f"{outside.tested_on}: {outside.value - inside.value:+.2f}."
        )
        used += [inside.record, outside.record]
    points = _some(points)
    if leak is not None:
        points += _over_seeds(leak)
        used.append(leak["name"])
    if not points:
        return _missing("What is left of it elsewhere", "make notebooks")
    if scores["model"].str.contains("flawed").any():
        points.append("A validation score made of copies of training images is a promise that nobody can keep.")
    return Slide(
        "What is left of it elsewhere",
        tuple(points),
        synthetic=_is_synthetic(scores),
        records=tuple(dict.fromkeys(used)),
    )


def _over_seeds(leak: Record) -> list[str]:
    gaps: dict[str, list[float]] = {}
    for run in leak["results"].get("runs") or []:
        gaps.setdefault(run["model"], []).append(run["roc_auc"]["unseen"] - run["roc_auc"]["val"])
    return [
        f"Over {_count(len(values), 'seed')}, “{name}”: the AUC on unseen X-rays minus that on validation images is "
        f"{sum(values) / len(values):+.2f} on average ({min(values):+.2f} to {max(values):+.2f})."
        for name, values in gaps.items()
    ]


def _differences(comparison: Record | None, work: Path) -> Slide:
    found = (comparison or {}).get("results", {}).get("comparisons") or {}
    known = {name: one for name, one in found.items() if one["difference"].get("value") is not None}
    if comparison is None or not known:
        return _missing("Is one model better than another?", "make notebooks ONLY=04")
    points = ["The same images for both models: differences of AUC, and McNemar's test on the answers."]
    for name, one in _first(known, _MOST_POINTS).items():
        low, high = one["difference"]["low"], one["difference"]["high"]
        sure = "no difference of AUC shown" if low is None or low <= 0 <= high else "the AUC differs"
        points.append(
            f"{name}: {one['difference']['value']:+.3f} ({low:.2f} to {high:.2f}), p {one['mcnemar']['p']:.2f}: {sure}."
        )
    scores = {
        name.replace(", ", "\n", 1): {"difference": tuple(one["difference"][key] for key in ("value", "low", "high"))}
        for name, one in _first(known, _MOST_POINTS).items()
    }
    picture = _forest(
        work / "differences.png",
        scores,
        parts=["difference"],
        reference=0.0,
        xlabel="difference of ROC AUC and 95% interval",
    )
    return Slide(
        "Is one model better than another?",
        tuple(points),
        picture=picture,
        about="Differences of ROC AUC with intervals.",
        synthetic="synthetic" in str(comparison.get("data")),
        records=(comparison["name"],),
    )


def _mistakes(figures: Path) -> Slide:
    path = figures / "04-worst-mistakes.png"
    title = "What fails: look at the images"
    points = [
        "The images on which v2 is most sure and wrong say more than a score.",
        "Look for casts, metal, markers, overlapping bones, glare, and fractures that hardly show.",
    ]
    if not path.is_file():
        points.append(f"The page of images is not here: make notebooks ONLY=04 writes reports/figures/{path.name}.")
        return Slide(title, tuple(points))
    return Slide(
        title, tuple(points), picture=path, about="v2's worst mistakes on images from another source.", synthetic=True
    )


def _types(scores: pd.DataFrame, work: Path) -> Slide:
    points = ["Which kind of fracture is it? Accuracy of each model, with its 95% interval."]
    first = scores[scores["main"]].drop_duplicates(["run", "part"])
    for _, run in list(first.groupby("run"))[:_MOST_POINTS]:
        shown = [f"{row.part} {interval_text(row._asdict())}" for row in run.itertuples()]
        points.append(f"{run['model'].iloc[0]}: accuracy {', '.join(shown)}.")
    picture = _main_forest(work / "types.png", scores, most=_MOST_POINTS)
    return Slide(
        "Which kind of fracture?",
        tuple(points),
        picture=picture,
        about="Accuracy of each model in training, validation and test.",
        synthetic=_is_synthetic(scores),
        records=_names(scores),
    )


def _limits() -> Slide:
    return Slide(
        "Limits",
        (
            "The embedded images are synthetic: they teach method. A score on them says nothing about patients.",
            "The real images come from few hospitals, without patient numbers; near-duplicate groups are the best "
            "grouping there is, and casts and plates go with the labels.",
            "A model that has seen one or two sources may fail on another scanner or age group, and will not say so.",
            "Intervals cover which images were drawn, not another hospital, another seed or another country.",
            "Not for clinical use.",
        ),
    )


def _next() -> Slide:
    return Slide(
        "Next steps",
        (
            "Test on your own images: drop them into realimages/ and run notebook 04 again; nothing trains on them.",
            "Train on images from more hospitals, with patient numbers, and keep one hospital for the test.",
            "Report sensitivity at the share of fractures that a ward really sees.",
            "Let radiologists read the mistakes: a score does not say which ones matter.",
        ),
    )


def _sources(records: Sequence[Record]) -> Slide:
    if not records:
        return _missing("Where the numbers come from", "make notebooks")
    versions = sorted({str((record.get("code") or {}).get("version") or "not known") for record in records})
    kinds = sorted({str(record["kind"]) for record in records})
    names = [str(record["name"]) for record in records]
    return Slide(
        "Where the numbers come from",
        (
            f"{_count(len(records), 'record')} in reports/results, made by fracturelab {', '.join(versions)}: "
            f"{_listed(names, 24)}.",
            f"Kinds: {', '.join(kinds)}. Each holds code version, data fingerprint, package versions, weights, seed "
            "and seconds, and a checksum: an edited one is refused.",
            "The notes below each slide name its records.",
        ),
        records=tuple(names),
    )


def _missing(title: str, command: str) -> Slide:
    return Slide(title, ("No run has been recorded for this slide yet.", f"{command} makes the record."))


def _drawn(path: Path, draw: Callable[[Any, Any], Any], *, height: float = 4.4) -> Path:
    """A picture drawn here, small, so that its letters are large on the slide: they are read from afar."""
    import matplotlib.pyplot as plt

    from fracturelab import plots

    plt.switch_backend("Agg")
    with plots.style():
        figure, ax = plt.subplots(figsize=(5.6, height), layout="constrained")
    draw(plots, ax)
    plots.save_figure(figure, path, dpi=200)
    plt.close(figure)
    return path


def _forest(
    path: Path, scores: Mapping[str, Any], *, parts: Sequence[str], xlabel: str, reference: float | None
) -> Path:
    """A forest plot of a few models."""
    return _drawn(
        path,
        lambda plots, ax: plots.score_forest(scores, parts=parts, reference=reference, xlabel=xlabel, ax=ax),
        height=min(4.4, 1.6 + 0.25 * sum(1 + len(found) for found in scores.values())),
    )


def _main_forest(path: Path, table: pd.DataFrame, *, most: int) -> Path | None:
    """A forest plot of the first of some models that share one score; None without any."""
    for score, models in main_scores(table).items():
        label = f"{score} and 95% interval"
        return _forest(path, _first(models, most), parts=SHOWN, xlabel=label, reference=GUESSING.get(score))
    return None


def _is_synthetic(scores: pd.DataFrame) -> bool:
    """Whether a score is of synthetic X-rays, or of a model that was trained on them."""
    return any("synthetic" in str(text) for text in [*scores["data"], *scores["tested_on"]])


def _names(scores: pd.DataFrame) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scores["record"]))


def _first(models: Mapping[str, Any], most: int) -> dict[str, Any]:
    return dict(list(models.items())[:most])


def _some(points: Sequence[str]) -> list[str]:
    more = len(points) - _MOST_POINTS
    return [*points[:_MOST_POINTS], *([f"And {_count(more, 'model')} more: fracturelab compare."] if more > 0 else [])]


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _span(days: Sequence[str]) -> str:
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
