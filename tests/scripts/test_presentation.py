"""The slides: their numbers are those of the records, and nothing on them is clipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.records import read_record, write_record
from scripts.__main__ import main
from scripts.presentation import Slide, write_deck
from scripts.presentation.deck import FOOTER, SYNTHETIC
from scripts.presentation.fitting import SMALLEST, fitting_size, needed, wrapped

pptx = pytest.importorskip("pptx", reason="python-pptx is not installed: pip install -r requirements/slides.txt")
INCH = 914400


def interval(value: float, by: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - by, "high": value + by}


def scores(auc: float, n: int) -> dict:
    metrics = {
        "roc_auc": interval(auc),
        "accuracy": interval(auc - 0.1),
        "recall": interval(0.61),
        "specificity": interval(0.72),
        "f1": interval(0.63),
    }
    return {"n": n, "threshold": 0.5, "metrics": metrics}


@pytest.fixture
def reports(tmp_path) -> Path:
    """Records of an audit, of trainings, of tests on real X-rays and of a comparison."""
    folder = tmp_path / "reports" / "results"
    traps = {
        "augment_first": {"share": 0.873, "of": 300},
        "four_images": {"value": 1.0, "low": 0.51, "high": 1.0},
        "remembering": {"split by image": {"metrics": {"accuracy": interval(0.914)}}},
    }
    shortcuts = [{"name": "file_size", "auc": 0.738}, {"name": "border", "auc": 0.52}]
    audit = {
        "images": 377,
        "normal": 200,
        "fractured": 177,
        "unreadable": 3,
        "exact_duplicates": 5,
        "near_duplicate_groups": 7,
        "label_conflicts": 1,
        "verdict": "Split by group.",
        "shortcuts": shortcuts,
        "traps": traps,
    }
    write_record("01-audit", kind="audit", data={"source": "phantoms-clinic-v4"}, results=audit, folder=folder)
    for name, auc, parameters in (("v1", 0.613, 423_521), ("v1-flawed", 0.958, 423_521)):
        evaluations = {"validation": scores(auc, 84), "another source (synthetic)": scores(0.527, 160)}
        results = {"model": name, "evaluations": evaluations, "parameters": parameters, "ms_per_image": 2.34}
        write_record(f"02-{name}", kind="training", data={"source": "clinic"}, results=results, folder=folder)
    types = {
        part: {"n": 90, "metrics": {"accuracy": interval(0.44), "macro_f1": interval(0.4)}}
        for part in ("train", "val", "test")
    }
    write_record(
        "05-types-keras",
        kind="training",
        data={"source": "clinic"},
        results={"model": "types-keras", "evaluations": types},
        folder=folder,
    )
    write_record(
        "evaluation-small-fracatlas-test",
        kind="evaluation",
        data={"source": "fracatlas", "split": "test"},
        weights={"name": "net"},
        results={"model": "small", **scores(0.894, 856)},
        folder=folder,
    )
    one = {
        "difference": interval(0.031),
        "auc_a": interval(0.5),
        "auc_b": interval(0.53),
        "n": 160,
        "mcnemar": {"p": 0.56, "only_a": 3, "only_b": 4},
    }
    compared = {"v1 against v2, another source (synthetic)": one}
    write_record(
        "04-comparison",
        kind="comparison",
        data={"source": "another source (synthetic)"},
        results={"comparisons": compared},
        folder=folder,
    )
    return tmp_path / "reports"


def made(reports: Path):
    assert main(["presentation", "--reports", str(reports)]) == 0
    return pptx.Presentation(str(reports / "fracturelab.pptx"))


def words(slide) -> str:
    texts = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
    texts += [cell.text for shape in slide.shapes if shape.has_table for row in shape.table.rows for cell in row.cells]
    return "\n".join(texts)


def titled(deck, beginning: str):
    (slide,) = (slide for slide in deck.slides if slide.shapes.title.text.startswith(beginning))
    return slide


def test_numbers_are_those_of_the_records(reports):
    deck = made(reports)
    data = words(titled(deck, "The data"))
    for said in ("377 images", "200 normal, 177 fractured", "3 unreadable", "5 exact copies", "7 groups", "of 0.74"):
        assert said in data
    flaws = words(titled(deck, "What makes"))
    assert "87% of the validation images" in flaws
    assert "accuracy 0.914 (0.86–0.96)" in flaws
    models = words(titled(deck, "The models"))
    assert "423,521" in models
    assert "2.34" in models
    fall = words(titled(deck, "What is left"))
    assert "v1-flawed: AUC 0.958 (0.91–1.01) on its validation images, 0.527" in fall
    assert "-0.43" in fall
    real = words(titled(deck, "On real X-rays"))
    assert "0.894 (0.84–0.94)" in real
    assert "856" in real
    assert "0.527" not in real
    assert "accuracy train 0.440 (0.39–0.49)" in words(titled(deck, "Which kind"))
    assert "+0.031 (-0.02 to 0.08), p 0.56: no difference of AUC shown" in words(titled(deck, "Is one model"))


def test_another_record_changes_the_slide(reports):
    record = read_record(reports / "results" / "evaluation-small-fracatlas-test.json")
    results = {**record["results"], **scores(0.777, 123)}
    write_record(record["name"], kind="evaluation", data=record["data"], results=results, folder=reports / "results")
    real = words(titled(made(reports), "On real X-rays"))
    assert "0.777 (0.73–0.83)" in real
    assert "123" in real
    assert "0.894" not in real


def test_every_slide_says_what_it_is_for_and_synthetic_ones_say_so(reports):
    deck = made(reports)
    titles = [slide.shapes.title.text for slide in deck.slides]
    for beginning in ("Finding", "The question", "The data", "The models", "Scores", "What fails", "Limits", "Next"):
        assert any(title.startswith(beginning) for title in titles), beginning
    assert all(FOOTER in words(slide) for slide in deck.slides)
    marked = {slide.shapes.title.text for slide in deck.slides if SYNTHETIC in words(slide)}
    assert {"The models", "Scores, with their intervals", "Which kind of fracture?"} <= marked
    assert "On real X-rays" not in marked
    assert "02-v1-flawed" in titled(deck, "What is left").notes_slide.notes_text_frame.text


def test_nothing_is_clipped_and_nothing_lies_over_something_else(reports):
    (reports / "figures").mkdir()
    Image.new("RGB", (900, 500), "white").save(reports / "figures" / "04-worst-mistakes.png")
    deck = made(reports)
    width, height = deck.slide_width / INCH, deck.slide_height / INCH
    pictures = 0
    for slide in deck.slides:
        boxes = []
        for shape in slide.shapes:
            left, top, across, down = (value / INCH for value in (shape.left, shape.top, shape.width, shape.height))
            assert left >= 0
            assert top >= 0
            assert left + across <= width + 0.01
            assert top + down <= height + 0.01
            boxes.append((left, top, left + across, top + down))
            pictures += shape.name == "picture"
            if shape.has_text_frame:
                runs = [paragraph.runs[0] for paragraph in shape.text_frame.paragraphs]
                size = runs[0].font.size.pt
                wide, high = needed(
                    [run.text for run in runs], width=across - 0.1, size=int(size), bold=bool(runs[0].font.bold)
                )
                assert wide <= across - 0.1 + 0.01, shape.text_frame.text
                assert high <= down + 0.01, shape.text_frame.text
                assert size >= SMALLEST
        for i, (l0, t0, r0, b0) in enumerate(boxes):
            for l1, t1, r1, b1 in boxes[i + 1 :]:
                apart = r0 <= l1 + 0.01 or r1 <= l0 + 0.01 or b0 <= t1 + 0.01 or b1 <= t0 + 0.01
                assert apart, slide.shapes.title.text
    assert pictures == 6


def test_a_figure_that_is_missing_is_named(reports):
    said = words(titled(made(reports), "What fails"))
    assert "make notebooks ONLY=04 writes reports/figures/04-worst-mistakes.png" in said


def test_without_records_the_slides_say_so(tmp_path):
    deck = made(tmp_path)
    text = "\n".join(words(slide) for slide in deck.slides)
    assert "No run has been recorded for this slide yet." in text
    assert not re.search(r"\d\.\d\d", text)


def test_many_models_take_several_slides(reports):
    for i in range(14):
        write_record(
            f"06-model{i:02d}",
            kind="training",
            data={"source": "clinic"},
            folder=reports / "results",
            results={
                "model": f"a backbone with a long name, number {i:02d}",
                "evaluations": {"validation": scores(0.7, 84), "elsewhere": scores(0.6, 9)},
            },
        )
    deck = made(reports)
    pages = [slide for slide in deck.slides if slide.shapes.title.text.startswith("The models")]
    assert [slide.shapes.title.text for slide in pages] == ["The models (1 of 2)", "The models (2 of 2)"]
    assert "number 13" in words(pages[1])
    assert "And 10 models more" in words(titled(deck, "What is left"))


def test_text_is_as_large_as_it_fits():
    text = ["one two three four five six seven eight nine ten"] * 3
    size = fitting_size(text, width=3.0, height=2.0, largest=40)
    assert SMALLEST < size < 40
    assert needed(text, width=3.0, size=size)[1] <= 2.0 < needed(text, width=3.0, size=size + 1)[1]
    assert " ".join(wrapped(text[0], width=1.0, size=12)) == text[0]
    with pytest.raises(FracturelabError, match="expected text that fits 1.0 x 0.2 inches"):
        fitting_size(text, width=1.0, height=0.2, largest=40)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(FracturelabError, match=r"ending in \.pptx"):
        write_deck([Slide("a")], tmp_path / "a.ppt", title="a")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FracturelabError, match="cannot write"):
        write_deck([Slide("a", ("b",))], tmp_path / "file" / "a.pptx", title="a")
