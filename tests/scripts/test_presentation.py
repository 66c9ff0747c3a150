"""The slides: ten, one picture each, numbers of the records, nothing clipped."""

from __future__ import annotations

import io
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.records import read_record, write_record
from scripts.presentation import Slide, slides_of, write_deck
from scripts.presentation.content import MISSING, TITLES
from scripts.presentation.deck import HEIGHT, WIDTH
from scripts.presentation.fitting import SMALLEST, fitting_size, needed, wrapped

INCH = 914400


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def png(width: int = 90, height: int = 50) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def records(tmp_path) -> list:
    """Records of an audit, of v1 on two sets of images, and of a backbone."""
    traps = {"four_images": {"value": 1.0, "low": 0.51, "high": 1.0}}
    write_record("01-audit", kind="audit", data={"source": "clinic"}, results={"traps": traps}, folder=tmp_path)
    parts = {"validation": 0.913, "another source (synthetic)": 0.627}
    evaluations = {name: {"n": 84, "metrics": {"roc_auc": interval(auc)}} for name, auc in parts.items()}
    results = {"model": "v1", "evaluations": evaluations}
    write_record("02-v1", kind="training", data={"source": "clinic"}, results=results, folder=tmp_path)
    results = {"model": "net", "evaluations": {"test": {"n": 164, "metrics": {"roc_auc": interval(0.788)}}}}
    write_record("06-net", kind="training", data={"source": "clinic"}, results=results, folder=tmp_path)
    return [read_record(path) for path in sorted(tmp_path.glob("*.json"))]


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """One executed notebook with one picture."""
    import base64

    output = nbformat.v4.new_output("display_data", data={"image/png": base64.b64encode(png()).decode()})
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "06_backbones.ipynb")
    return tmp_path


def test_ten_slides_with_the_numbers_of_the_records(records, notebooks):
    slides = slides_of(records, front=notebooks / "none.png", notebooks=notebooks)
    assert len(slides) == 10
    by_number = dict(zip(TITLES, slides[1:], strict=True))
    assert by_number["01"].points == ("Four test images: four right answers: accuracy 51% to 100%.",)
    (fall,) = by_number["04"].points
    assert "0.913 (0.86–0.96), 84 X-rays at home" in fall and "0.627 (0.58–0.68), 84 X-rays elsewhere" in fall
    assert by_number["06"].points == ("net: ROC AUC 0.788 (0.74–0.84), test images.",)
    assert by_number["06"].picture == png() and by_number["06"].records == ("06-net",)
    assert by_number["08"].points == (MISSING,) and by_number["08"].picture is None


def test_nothing_is_clipped_and_notes_name_the_records(tmp_path):
    pptx = pytest.importorskip("pptx", reason="python-pptx is not installed: pip install -r requirements/slides.txt")
    points = ("A sentence of some length that has to be wrapped on a slide. " * 3,) * 3
    slides = [Slide("A title " * 8, points, png(900, 300), "white", ("02-v1",)), Slide("b", ("c",))]
    deck = pptx.Presentation(str(write_deck(slides, tmp_path / "a.pptx", title="a")))
    assert "02-v1" in deck.slides[0].notes_slide.notes_text_frame.text
    for slide in deck.slides:
        for shape in slide.shapes:
            left, top, across, down = (value / INCH for value in (shape.left, shape.top, shape.width, shape.height))
            assert left >= 0 and top >= 0 and left + across <= WIDTH + 0.01 and top + down <= HEIGHT + 0.01
            if shape.has_text_frame:
                runs = [paragraph.runs[0] for paragraph in shape.text_frame.paragraphs]
                size = int(runs[0].font.size.pt)
                texts = [run.text for run in runs]
                wide, high = needed(texts, width=across - 0.1, size=size, bold=bool(runs[0].font.bold))
                assert size >= SMALLEST and wide <= across - 0.09 and high <= down + 0.01, texts
    assert [shape.name for shape in deck.slides[0].shapes].count("picture") == 1


def test_text_is_as_large_as_it_fits():
    text = ["one two three four five six seven eight nine ten"] * 3
    size = fitting_size(text, width=3.0, height=2.0, largest=40)
    assert SMALLEST < size < 40
    assert needed(text, width=3.0, size=size)[1] <= 2.0 < needed(text, width=3.0, size=size + 1)[1]
    assert " ".join(wrapped(text[0], width=1.0, size=12)) == text[0]
    with pytest.raises(FracturelabError, match="expected text that fits 1.0 x 0.2 inches"):
        fitting_size(text, width=1.0, height=0.2, largest=40)


def test_what_cannot_be_written_is_refused(tmp_path):
    pytest.importorskip("pptx", reason="python-pptx is not installed: pip install -r requirements/slides.txt")
    with pytest.raises(FracturelabError, match=r"ending in \.pptx"):
        write_deck([Slide("a", ())], tmp_path / "a.ppt", title="a")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FracturelabError, match="cannot write"):
        write_deck([Slide("a", ("b",))], tmp_path / "file" / "a.pptx", title="a")
