"""What the label columns of a table mean: words, answers such as 1 and 0, one column a class, boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.choices import EMPTY, IGNORE, SKIP, Choices, ask_labels, word_for
from fracturelab.datasets.names import FRACTURED, NORMAL, UNSURE, Meaning, answer_of, is_finding, meaning_of, words_of
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

_Meanings = dict[str, dict[str, Meaning | None]]


def flag_of(name: str) -> Meaning | None:
    """Return what a 1 in a column of this name means, such as "spiral fracture"; "oblique" alone may be a view."""
    meaning = meaning_of(name)
    return None if not meaning or meaning.label is None or (meaning.kind and len(words_of(name)) < 2) else meaning


def line_meanings(
    path: Path, cells: pd.DataFrame, columns: Iterable[str], choices: Choices, *, boxes: bool, unlabelled: bool
) -> Callable[[int], Meaning]:
    """Return what the label of each line means, where the label columns agree.

    Args:
        path: The table's file.
        cells: Its cells as text; the index is the number of the line.
        columns: The label columns, the surest first. Those whose words are all unknown are left aside if another
            one's are known.
        choices: What words mean, by the user.
        boxes: Each line is a box, which may mark something other than a fracture.
        unlabelled: A line without a label is `UNSURE` instead of being an error.

    Returns:
        A function of a line's number, which raises `FracturelabError` where columns disagree, and where a label is
        missing or unknown.
    """
    meanings = _meanings(path, cells, list(columns), choices, boxes=boxes)
    asked = [text or EMPTY for known in list(meanings.values())[:1] for text, m in known.items() if m in (None, UNSURE)]

    def meaning_at(line: int) -> Meaning:
        texts = {name: cells.at[line, name] for name in meanings}
        read = {name: meanings[name][text] for name, text in texts.items()}
        labels = {name: meaning for name, meaning in read.items() if meaning and meaning.label is not None}
        if SKIP in read.values():
            return SKIP
        if len({meaning.label for meaning in labels.values()}) > 1:
            both = " but ".join(f"{name} = {texts[name]!r} ({word_for(meaning)})" for name, meaning in labels.items())
            raise FracturelabError(
                f"{path}, line {line}: {both}; mend it, or {ask_labels(texts[name] or EMPTY for name in labels)}"
            )
        if labels:
            return max(labels.values(), key=lambda meaning: meaning.kind is not None)
        unknown = [texts[name] for name, meaning in read.items() if meaning is None]
        if not unknown and (IGNORE in read.values() or unlabelled):
            return IGNORE if IGNORE in read.values() else UNSURE
        raise FracturelabError(
            f"{path}, line {line}: expected a label that means fractured or normal. "
            f"Received: {[*unknown, *texts.values()][0]!r}; {ask_labels(sorted(asked))}"
        )

    return meaning_at


def _meanings(path: Path, cells: pd.DataFrame, columns: list[str], choices: Choices, *, boxes: bool) -> _Meanings:
    """For each label column with a known word, what each of its texts means; None for texts without a known meaning."""
    flags = {name: flag_of(name) for name in columns}
    opposite = (
        len({flag.label for flag in flags.values() if flag}) > 1
    )  # "fractured" beside "normal": a 0 means nothing
    ours = path.name.lower() == "labels.csv"  # 0 is normal there and 1 fractured, as this project documents
    graz = {"filestem", "fracture_visible"} <= set(cells)  # GRAZPEDWRI-DX is published with 1 or nothing

    def read(text: str, flag: Meaning | None) -> Meaning | None:
        answer = answer_of(text)
        if text == EMPTY:
            return Meaning(NORMAL) if graz and flag else UNSURE
        if answer is None:
            return IGNORE if boxes and is_finding(text) else meaning_of(text)
        if flag is None:
            return Meaning(answer) if ours else None
        if answer == 1:
            return flag
        return UNSURE if opposite or flag.kind else Meaning(1 - int(flag.label or 0))

    meanings = {
        name: {text: choices.label(text or EMPTY, partial(read, flag=flag)) for text in sorted(set(cells[name]))}
        for name, flag in flags.items()
    }
    readable = {name: known for name, known in meanings.items() if any(m not in (None, UNSURE) for m in known.values())}
    for name, known in (readable := readable or dict(list(meanings.items())[:1])).items():
        choices.words.update(dict.fromkeys(text for text in known if answer_of(text) is not None))
        for text, meaning in known.items():
            if meaning:
                choices.reading.note(f"{name}={text or EMPTY}" if flags[name] else text or EMPTY, word_for(meaning))
    return readable


def merged(before: dict[str, Any], row: dict[str, Any], *, boxes: bool) -> Meaning:
    """Return the meaning of an image that two lines name. One fracture among its boxes is enough.

    Raises:
        FracturelabError: They contradict each other.
    """
    old, new = before["meaning"], row["meaning"]
    if boxes:
        return max(old, new, key=lambda meaning: (meaning.label == FRACTURED, meaning == SKIP, meaning.label == NORMAL))
    if old.label != new.label:
        raise FracturelabError(
            f"{row['where']}: names the same file as line {before['where'].rpartition(' ')[2]} and says "
            f"{word_for(new)} where that says {word_for(old)}; keep one of them"
        )
    return old
