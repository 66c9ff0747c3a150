"""Writes slides to a PowerPoint file: a title, a picture, and a few points below it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_file
from scripts.presentation.fitting import fitting_size

if TYPE_CHECKING:
    from scripts.presentation.content import Slide

WIDTH, HEIGHT = 13.333, 7.5  # inches, 16:9
FONT = "Arial"
FOOTER = "fracturelab · synthetic X-rays unless FracAtlas is named · not for clinical use"
LEFT, ACROSS = 0.6, WIDTH - 1.2
INK, BLUE, GREY = "222222", "0072B2", "666666"

Box = tuple[float, float, float, float]
"""Left, top, width, height in inches."""


def write_deck(slides: Sequence[Slide], path: str | Path, *, title: str) -> Path:
    """Write slides as a PowerPoint file, whole or not at all.

    Args:
        slides: From `slides_of`.
        path: The file, ending in `.pptx`; its folders are made.
        title: Of the file.

    Returns:
        The file.

    Raises:
        FracturelabError: The name does not end in `.pptx`, the place cannot be written, or a text does not fit.
    """
    from pptx import Presentation

    path = Path(path)
    if path.suffix.lower() != ".pptx":
        raise FracturelabError(f"expected a file name ending in .pptx. Received: {path.name}")
    deck = Presentation()
    deck.slide_width, deck.slide_height = _inches(WIDTH), _inches(HEIGHT)
    deck.core_properties.title, deck.core_properties.author = title, "fracturelab"
    for number, slide in enumerate(slides, start=1):
        _draw(deck, slide, number)
    with whole_file(path) as part:
        deck.save(str(part))
    return path


def _draw(deck: Any, slide: Slide, number: int) -> None:
    page = deck.slides.add_slide(deck.slide_layouts[5])  # a title and nothing else
    box = (LEFT, 0.4, ACROSS, 0.9)
    _place(page.shapes.title, box)
    _fill(page.shapes.title.text_frame, [slide.title], box, largest=30, colour=BLUE, bold=True)
    if slide.picture is not None:
        _picture(page, slide.picture, (LEFT, 1.4, ACROSS, 3.9), about=slide.about)
    top = 1.6 if slide.picture is None else 5.4
    _text(page, slide.points, (LEFT, top, ACROSS, 6.9 - top), largest=20, colour=INK, name="points")
    _text(page, [f"{number} · {FOOTER}"], (LEFT, 6.98, ACROSS, 0.34), largest=11, colour=GREY, name="footer")
    names = ", ".join(slide.records)
    page.notes_slide.notes_text_frame.text = f"Records: {names}." if names else "No number on this slide."


def _text(page: Any, paragraphs: Sequence[str], box: Box, *, largest: int, colour: str, name: str) -> None:
    shape = page.shapes.add_textbox(*(_inches(value) for value in box))
    shape.name = name
    _fill(shape.text_frame, paragraphs, box, largest=largest, colour=colour)


def _fill(frame: Any, paragraphs: Sequence[str], box: Box, *, largest: int, colour: str, bold: bool = False) -> None:
    """Write paragraphs into a frame, in the largest size that fits."""
    from pptx.dml.color import RGBColor
    from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
    from pptx.util import Pt

    size = fitting_size(paragraphs, width=box[2] - 0.1, height=box[3] - 0.05, largest=largest, bold=bold)
    frame.word_wrap, frame.auto_size, frame.vertical_anchor = True, MSO_AUTO_SIZE.NONE, MSO_ANCHOR.TOP
    frame.margin_left = frame.margin_right = _inches(0.05)
    frame.margin_top = frame.margin_bottom = _inches(0.02)
    for number, text in enumerate(paragraphs):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        paragraph.alignment, paragraph.space_after = PP_ALIGN.LEFT, Pt(round(0.3 * size))
        run = paragraph.add_run()
        run.text = text
        run.font.size, run.font.bold, run.font.name = Pt(size), bold, FONT
        run.font.color.rgb = RGBColor.from_string(colour)


def _picture(page: Any, picture: bytes, box: Box, *, about: str) -> None:
    """Place the picture in the middle of its box, as large as the box allows."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        across, down = opened.size
    scale = min(box[2] / across, box[3] / down)
    width, height = across * scale, down * scale
    left, top = box[0] + (box[2] - width) / 2, box[1] + (box[3] - height) / 2
    shape = page.shapes.add_picture(io.BytesIO(picture), *(_inches(value) for value in (left, top, width, height)))
    shape.name = "picture"
    shape._element.nvPicPr.cNvPr.set("descr", about)


def _place(shape: Any, box: Box) -> None:
    shape.left, shape.top, shape.width, shape.height = (_inches(value) for value in box)


def _inches(value: float) -> int:
    from pptx.util import Inches

    return Inches(value)
