"""What the counts of an audit mean for a score: the verdict in one sentence, and the findings, worst first."""

from __future__ import annotations

from dataclasses import dataclass

from fracturelab.audit.shortcuts import STRONG, auc_margin, is_strong
from fracturelab.audit.turned import LIMITS

WIDE = 0.10
"""A test part is too small when an AUC of 0.80 on it would be uncertain by more than this, up or down."""

SEARCHED = "looked for: resized, re-exposed, mirrored and quarter-turned copies, and names of augmented versions"
"""What every search for copies covers."""

_FEW_LEAKS = 0.01  # of the test part: these can be left out and the rest kept


@dataclass(frozen=True)
class Facts:
    """The counts that the verdict and the findings use.

    Attributes:
        images: Files in the table.
        readable: Files that can be decoded whole.
        normal: Readable images labelled normal.
        fractured: Readable images labelled fractured.
        exact_duplicates: Readable files that repeat the bytes of an earlier one.
        near_groups: Groups of at least two copies, byte-identical ones included.
        near_images: Images in them.
        label_conflicts: Those groups that hold both labels.
        cross_split: See `leakage.shared_between_splits`.
        judged: The side that scores are reported on: "test", else "val", else "".
        judged_normal: Readable normal images of that side.
        judged_fractured: Readable fractured images of that side.
        leaked: Images of that side with a near copy on another side.
        leaked_identical: Those among them with a byte-identical one.
        torn_groups: Published groups, such as patients, on more than one side.
        has_patients: Some groups are published.
        turned: Copies that were turned by some degrees or cropped were looked for, too.
        blank: Readable images that are almost blank.
        several: Readable files of more than one picture.
        others: Files in the folder that are no images.
        shortcuts: AUC by name, None where undefined.
    """

    images: int
    readable: int
    normal: int
    fractured: int
    exact_duplicates: int
    near_groups: int
    near_images: int
    label_conflicts: int
    cross_split: dict[str, dict[str, int]]
    judged: str
    judged_normal: int
    judged_fractured: int
    leaked: int
    leaked_identical: int
    torn_groups: tuple[str, ...]
    has_patients: bool
    turned: bool
    blank: int
    several: int
    others: int
    shortcuts: dict[str, float | None]


def give_verdict(facts: Facts) -> str:
    """Return one sentence that states whether a score on this split can be believed, and why not.

    The worst reason comes first: no labels, no split, copies or patients across the split, a shortcut, too few images.
    """
    if facts.readable == 0:
        return f"No score can be computed: none of the {facts.images} files can be read as an image."
    labelled = facts.normal + facts.fractured
    if labelled == 0:
        return f"No score can be computed: none of the {facts.readable} readable images has a label."
    if 0 in (facts.normal, facts.fractured):
        only = "fractured" if facts.normal == 0 else "normal"
        return f"No AUC can be computed: all {labelled} labelled images are {only}, and a score needs both classes."
    cautions = _cautions(facts)
    if not facts.judged:
        return _without_split(facts, cautions)
    side, judged = facts.judged, facts.judged_normal + facts.judged_fractured
    reasons = _leaks(facts)
    if reasons:
        share = facts.leaked / max(_size(facts, side), 1)
        slight = facts.leaked and share <= _FEW_LEAKS and not facts.torn_groups
        start = f"A score on {side} can be believed only without these images:" if slight else None
        start = start or f"A score on {side} cannot be believed, because"
        return f"{start} {'; '.join(reasons + cautions)}."
    if judged == 0:
        return f"No score on {side} can be computed: none of its readable images has a label."
    if 0 in (facts.judged_normal, facts.judged_fractured):
        missing = "normal" if facts.judged_normal == 0 else "fractured"
        return f"No AUC on {side} can be computed: none of its {judged} labelled images is {missing}."
    if cautions:
        none = f"no copy of its images was found on another side ({_searched(facts)})"
        return f"A score on {side} needs caution: {'; '.join(cautions)}; {none}."
    beyond = "" if facts.has_patients else ", though images of one patient cannot be told without patient ids"
    return (
        f"A score on {side} can be believed: no copy of its {judged} images was found on another side "
        f"({_searched(facts)}), and no shortcut alone predicts the label with an AUC of {STRONG:.2f} or more{beyond}."
    )


def list_findings(facts: Facts) -> list[tuple[str, str, int, int, str]]:
    """Return the findings as (severity, finding, count, of, detail), worst first; a count of 0 is no finding."""
    rows = []
    for pair, counts in facts.cross_split.items():
        side, other = pair.split("->")
        detail = f"{counts['near']} of {counts['of']} images of {side} have a copy in {other}"
        detail += f" ({counts['identical']} of them byte-identical)"
        severity = "high" if side == facts.judged or (side, other) == ("val", "train") else "medium"
        rows.append((severity, f"copies {pair}", counts["near"], counts["of"], detail))
    torn = ", ".join(facts.torn_groups[:3]) + (" ..." if len(facts.torn_groups) > 3 else "")
    rows.append(
        ("high", "groups across splits", len(facts.torn_groups), 0, f"patients (groups) on more than one side: {torn}")
    )
    conflict = "groups of copies hold both labels: at least one of the labels is wrong"
    rows.append(("high", "label conflicts", facts.label_conflicts, facts.near_groups, conflict))
    for name, auc in facts.shortcuts.items():
        if auc is not None and is_strong(auc, facts.fractured, facts.normal):
            detail = f"{_plain(name)} alone predicts the label with an AUC of {auc:.2f}"
            rows.append(("high" if auc >= 0.8 else "medium", f"shortcut {name}", round(100 * auc), 100, detail))
    broken = facts.images - facts.readable
    rows.append(("medium", "unreadable", broken, facts.images, "files cannot be decoded whole and are left out"))
    severity = "low" if facts.judged else "medium"
    copies = f"{facts.near_images} images are in {facts.near_groups} groups of copies: split by group"
    rows.append((severity, "near-duplicate groups", facts.near_groups, facts.readable, copies))
    exact = "files repeat the bytes of an earlier one"
    rows.append((severity, "exact duplicates", facts.exact_duplicates, facts.readable, exact))
    rows.append(("low", "almost blank", facts.blank, facts.readable, "images show almost nothing: look at them"))
    first = "files are animations or have several pages: only the first picture of each is read"
    rows.append(("low", "several pictures", facts.several, facts.readable, first))
    rows.append(("low", "not images", facts.others, 0, "files in the folder are no images and are left out"))
    order = {"high": 0, "medium": 1, "low": 2}
    return sorted((row for row in rows if row[2]), key=lambda row: (order[row[0]], -row[2] / max(row[3], row[2])))


def _searched(facts: Facts) -> str:
    return SEARCHED + (f", and copies {LIMITS}" if facts.turned else f"; not for copies {LIMITS}")


def _size(facts: Facts, side: str) -> int:
    return next((counts["of"] for pair, counts in facts.cross_split.items() if pair.startswith(side + "->")), 0)


def _leaks(facts: Facts) -> list[str]:
    side = facts.judged
    reasons = []
    if facts.leaked:
        size = _size(facts, side)
        where = _other_sides(facts, side)
        exactly = f", {facts.leaked_identical} of them byte-identical" if facts.leaked_identical else ""
        noun = "image has a copy" if facts.leaked == 1 else "images have a copy"
        share = 100 * facts.leaked / size
        percent = f"{share:.0f}%" if share >= 1 else "less than 1%"
        reasons.append(f"{facts.leaked} of its {size} {noun} in {where} ({percent}{exactly})")
    if facts.torn_groups:
        count = len(facts.torn_groups)
        reasons.append(f"{count} patient{'s have' if count > 1 else ' has'} images on more than one side")
    chosen = facts.cross_split.get("val->train")
    if side == "test" and chosen and chosen["near"]:
        reasons.append(
            f"{chosen['near']} of {chosen['of']} val images have a copy in train, and val is what a model is chosen on"
        )
    return reasons


def _other_sides(facts: Facts, side: str) -> str:
    others = [
        pair.split("->")[1]
        for pair, counts in facts.cross_split.items()
        if pair.startswith(side + "->") and counts["near"]
    ]
    return " or ".join(others)


def _cautions(facts: Facts) -> list[str]:
    """What is wrong with a score beside leaks."""
    cautions = []
    strong = {
        name: auc
        for name, auc in facts.shortcuts.items()
        if auc is not None and is_strong(auc, facts.fractured, facts.normal)
    }
    if strong:
        name = max(strong, key=lambda key: strong[key])
        works = "shortcut works" if len(strong) == 2 else "shortcuts work"
        more = f" (and {len(strong) - 1} more {works})" if len(strong) > 1 else ""
        cautions.append(f"{_plain(name)} alone predicts the label with an AUC of {strong[name]:.2f}{more}")
    if facts.label_conflicts:
        groups = "groups of copies hold" if facts.label_conflicts > 1 else "group of copies holds"
        cautions.append(f"{facts.label_conflicts} {groups} both labels")
    positives, negatives = facts.judged_fractured, facts.judged_normal
    if facts.judged and min(positives, negatives) > 0:
        margin = auc_margin(0.8, positives, negatives)
        if margin > WIDE:
            cautions.append(
                f"with {positives} fractured and {negatives} normal images in {facts.judged}, an AUC of 0.80 is "
                f"uncertain by {min(margin, 0.5):.2f}"
            )
    return cautions


def _without_split(facts: Facts, cautions: list[str]) -> str:
    if facts.near_groups:
        groups = f"{facts.near_groups} group{'s' if facts.near_groups > 1 else ''}"
        advice = f"split by group, because {facts.near_images} images are copies in {groups} and would leak otherwise"
    else:
        advice = f"no copies were found ({_searched(facts)}), but two images of one patient can look different"
        advice += "; split by patient where known"
    also = "".join(f"; {caution}" for caution in cautions)
    return f"No split was published, so there is no score to judge. {advice[0].upper()}{advice[1:]}{also}."


def _plain(name: str) -> str:
    return {"border": "the border's content", "corners": "the corners' content"}.get(name, name.replace("_", " "))
