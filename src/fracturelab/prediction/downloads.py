"""What can be taken home: a table, and a sheet of pictures. Both say that they are not for clinical use."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fracturelab.explanations.overlay import blend, on_radiograph
from fracturelab.prediction.answers import Answer, Reader
from fracturelab.prediction.uploads import Upload
from fracturelab.prediction.words import NOT_CLINICAL, in_words

COLUMNS = ("file", "p_fracture", "label", "threshold", "in_words", "remark", "problem", "model", "model_sha256", "note")


def png(image: NDArray[np.uint8]) -> bytes:
    """A picture (h, w) or (h, w, 3) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def overlay(upload: Upload, answer: Answer, *, opacity: float) -> NDArray[np.uint8]:
    """The radiograph with the heat over it, uint8 (h, w, 3).

    Args:
        upload: A readable upload.
        answer: The model's answer to it.
        opacity: 0 shows the radiograph alone.
    """
    if upload.shown is None:
        raise ValueError(f"expected an upload that could be read. Received: {upload.name}")
    heat = np.clip(on_radiograph(answer.heat, upload.shown.shape), 0, 1)
    return blend(upload.shown, heat, opacity=opacity)


def answers_csv(uploads: Sequence[Upload], answers: Sequence[Answer | None], reader: Reader) -> bytes:
    """One row a file, in UTF-8 with a byte order mark, so that spreadsheets read it.

    Args:
        uploads: The files.
        answers: The answers, None for files that cannot be read.
        reader: The model.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    table.writeheader()
    for upload, answer in zip(uploads, answers, strict=True):
        row = {
            "file": _no_formula(upload.name),
            "threshold": f"{reader.threshold:.4f}",
            "model": _no_formula(reader.name),
            "model_sha256": str(reader.card.get("sha256", "")),
            "problem": _no_formula(upload.problem or ""),
            "note": NOT_CLINICAL,
        }
        if answer is not None:
            row |= {"p_fracture": f"{answer.probability:.4f}", "label": answer.label}
            row["in_words"] = in_words(answer.probability, reader.threshold)
            row["remark"] = " ".join(remark for remark in (answer.remark, upload.remark) if remark)
        table.writerow(row)
    return text.getvalue().encode("utf-8-sig")


def _no_formula(text: str) -> str:
    """A spreadsheet would run a cell that starts like a formula; an apostrophe makes it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def answers_sheet(
    uploads: Sequence[Upload], answers: Sequence[Answer | None], reader: Reader, *, opacity: float, width: int = 420
) -> bytes:
    """A PNG sheet: each readable picture beside its heat map, with the answer above.

    Args:
        uploads: The files.
        answers: Their answers.
        reader: The model.
        opacity: Of the heat.
        width: Of one picture, in pixels.
    """
    pairs = [(u, a) for u, a in zip(uploads, answers, strict=True) if a is not None and u.shown is not None]
    bold, plain, margin, head = ImageFont.load_default(size=17), ImageFont.load_default(size=14), 16, 64
    columns = 1 if len(pairs) <= 3 else 2
    cell = 2 * width + 3 * margin
    rows = [pairs[i : i + columns] for i in range(0, len(pairs), columns)]
    heights = [max(_height(u, width) for u, _ in row) + head + margin for row in rows]
    sheet = Image.new("RGB", (columns * cell, sum(heights) + 84), "white")
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, 0, sheet.width, 36), fill=(155, 28, 28))
    pen.text((margin, 8), f"{NOT_CLINICAL}. A research model's answers; it is wrong at times.", "white", font=bold)
    pen.text(
        (margin, 48),
        f"Model: {reader.name}, threshold {reader.threshold:.2f}. Warm: what speaks for a fracture.",
        "black",
        font=plain,
    )
    top = 78
    for row, height in zip(rows, heights, strict=True):
        for place, (upload, answer) in enumerate(row):
            left = place * cell + margin
            pen.text((left, top), _fitting(upload.name), "black", font=bold)
            pen.text((left, top + 26), f"P(fractured) {answer.probability:.2f}: {answer.label}", "black", font=plain)
            tall = _height(upload, width)
            mixed = overlay(upload, answer, opacity=opacity)
            for step, pixels in enumerate((np.asarray(upload.shown), mixed)):
                picture = Image.fromarray(pixels).convert("RGB").resize((width, tall), Image.Resampling.BILINEAR)
                sheet.paste(picture, (left + step * (width + margin), top + head - 12))
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _height(upload: Upload, width: int) -> int:
    assert upload.shown is not None
    tall, wide = upload.shown.shape
    return max(1, min(round(width * tall / wide), 3 * width))


def _fitting(name: str) -> str:
    """The default font has Latin letters only; others become question marks."""
    shown = name if len(name) <= 60 else f"{name[:40]}...{name[-17:]}"
    return shown.encode("latin-1", "replace").decode("latin-1")
