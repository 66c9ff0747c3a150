"""A table and a report of answers to take home. Both carry the words "Not for clinical use"."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fracturelab.explanations.overlay import blend, on_radiograph
from fracturelab.prediction.answers import Answer
from fracturelab.prediction.predictor import Predictor
from fracturelab.prediction.uploads import Upload
from fracturelab.prediction.words import NOT_CLINICAL, in_words, model_facts, threshold_sentence

_BOX = np.array([0, 200, 255], np.uint8)
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>fracturelab report</title><style>
body {{ font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 0 1rem; color: #1a1a1a }}
.notice {{ background: #9b1c1c; color: white; padding: .5rem 1rem; font-weight: 600 }}
section {{ border-top: 1px solid #ccc; padding: 1rem 0; break-inside: avoid }}
img {{ max-width: 48%; max-height: 30rem }}
</style><p class="notice">{notice}. A research model's answers; it is wrong at times.</p>
<h1>Answers of {model}</h1><p>{facts}</p><p>Model file: sha256 {sha256}</p>{sections}</html>"""


def png(image: NDArray[np.uint8]) -> bytes:
    """A picture (h, w) or (h, w, 3) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def data_url(image: NDArray[np.uint8], *, side: int | None = None) -> str:
    """A picture (h, w) or (h, w, 3) as a `data:` address for HTML; `side` is the most pixels of its longer side."""
    picture, buffer = Image.fromarray(np.ascontiguousarray(image)).convert("RGB"), io.BytesIO()
    if side is not None:
        picture.thumbnail((side, side))
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay(
    upload: Upload, heat: NDArray | None, *, opacity: float, box: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """The radiograph with the heat over it, uint8 (h, w, 3).

    Args:
        upload: A readable upload.
        heat: (size, size) in 0..1, of the letterboxed square; None for none.
        opacity: 0 shows the radiograph alone.
        box: (x0, y0, x1, y1) in pixels of the picture, drawn as a frame.
    """
    if upload.shown is None:
        raise ValueError(f"expected an upload that could be read. Received: {upload.name}")
    warm = np.zeros(upload.shown.shape) if heat is None else np.clip(on_radiograph(heat, upload.shown.shape), 0, 1)
    mixed = blend(upload.shown, warm, opacity=opacity)
    if box is not None:
        x0, y0, x1, y1 = box
        frame = np.zeros(mixed.shape[:2], bool)
        frame[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = True
        frame[y0:y1, x0:x1] = False
        mixed[frame] = _BOX
    return mixed


def answers_csv(uploads: Sequence[Upload], answers: Sequence[Answer | None], predictor: Predictor) -> bytes:
    """One row a file, in UTF-8 with a byte order mark, so that spreadsheets read it."""
    import pandas as pd

    rows = []
    for upload, answer in zip(uploads, answers, strict=True):
        row = {"file": _no_formula(upload.name), "p_fracture": "", "label": "", "threshold": predictor.threshold}
        row |= {"in_words": "", "remark": "", "problem": _no_formula(upload.problem or "")}
        if answer is not None:
            row |= {"p_fracture": f"{answer.probability:.4f}", "label": answer.label}
            row |= {"in_words": in_words(answer.probability, predictor.threshold), "remark": remark(upload, answer)}
        row |= {"model": _no_formula(predictor.name), "model_sha256": predictor.card.get("sha256", "")}
        rows.append({**row, "note": NOT_CLINICAL})
    text = pd.DataFrame(rows).to_csv(index=False, float_format="%.4f", lineterminator="\r\n")
    return text.encode("utf-8-sig")


def remark(upload: Upload, answer: Answer) -> str:
    """Everything that should be known about one answer, or ""."""
    return " ".join(filter(None, (answer.remark, upload.remark)))


def _no_formula(text: str) -> str:
    """A spreadsheet would run a cell that starts like a formula; an apostrophe makes it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def answers_html(
    uploads: Sequence[Upload], answers: Sequence[Answer | None], predictor: Predictor, *, opacity: float
) -> bytes:
    """A report as one HTML file with its pictures in it, to read or to print.

    Args:
        uploads: The files.
        answers: Their answers, None for files that cannot be read.
        predictor: The model.
        opacity: Of the heat.
    """
    sections = []
    for upload, answer in zip(uploads, answers, strict=True):
        lines = [upload.problem or ""]
        pictures = ""
        if answer is not None and upload.shown is not None:
            verdict = f"P(fractured) {answer.probability:.2f}, threshold {predictor.threshold:.2f}: {answer.label}"
            lines = [verdict, in_words(answer.probability, predictor.threshold), remark(upload, answer)]
            shown = [("The X-ray", upload.shown)]
            if answer.heat is not None:
                shown.append(("What speaks for a fracture", overlay(upload, answer.heat, opacity=opacity)))
            pictures = " ".join(f'<img src="{data_url(image, side=700)}" alt="{name}">' for name, image in shown)
        text = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
        sections.append(f"<section><h2>{html.escape(upload.name)}</h2>{text}{pictures}</section>")
    facts = [threshold_sentence(predictor.card, predictor.threshold), *model_facts(predictor.card)]
    page = _PAGE.format(
        notice=NOT_CLINICAL,
        model=html.escape(predictor.name),
        facts=html.escape(" ".join(facts)),
        sha256=predictor.card.get("sha256", ""),
        sections="".join(sections),
    )
    return page.encode("utf-8")
