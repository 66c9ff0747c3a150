from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.models.seen import REMARKS
from fracturelab.prediction import load_predictor
from fracturelab.prediction.answers import answer_uploads, available_models
from fracturelab.prediction.uploads import Limits, read_upload, too_many
from fracturelab.prediction.words import NOT_CLINICAL, in_words, model_facts, threshold_sentence
from page.downloads import answers_csv, answers_html, overlay, png

SIZE = 64


def picture(height: int = 90, width: int = 140) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small v1 with a card, as training leaves it."""
    from fracturelab.models.cnn import build_cnn
    from fracturelab.models.files import save_model

    folder = tmp_path_factory.mktemp("models")
    card = {"name": "tiny", "threshold": 0.4, "input_size": SIZE, "data": {"source": "phantoms"}}
    return save_model(build_cnn(input_size=SIZE), folder / "tiny.keras", card)


@pytest.fixture(scope="module")
def predictor(saved):
    return load_predictor(saved)


def test_an_upload_takes_the_path_that_prediction_takes(predictor, tmp_path):
    path = tmp_path / "bone.png"
    path.write_bytes(png(picture()))
    upload = read_upload("bone.png", path.read_bytes(), size=SIZE)
    assert upload.problem is None
    assert upload.pixels.shape == (SIZE, SIZE, 1)
    np.testing.assert_array_equal(upload.shown, picture())
    answer = answer_uploads(predictor, [upload])[0]
    row = predictor.predict(path).iloc[0]
    assert answer.probability == pytest.approx(row["probability"], abs=1e-5)
    assert answer.label == row["label"]
    assert answer.heat.shape == (SIZE, SIZE)
    assert 0 <= answer.heat.min() <= answer.heat.max() <= 1.0001


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("note.txt", b"not a picture at all, only words\n" * 5, "not an image"),
        ("cut.png", png(picture())[:2000], "truncated|damaged"),
        ("empty.jpg", b"", "empty"),
        ("page.png", b"<!DOCTYPE html><html><body>404</body></html>", "not an image"),
    ],
)
def test_a_wrong_file_gets_a_sentence(name, data, reason):
    import re

    upload = read_upload(name, data, size=SIZE)
    assert upload.pixels is None
    assert upload.problem.startswith(f"{name} cannot be read: ")
    assert upload.problem.endswith(".")
    assert re.search(reason, upload.problem)


def test_uploads_are_bounded_before_they_are_decoded():
    data = png(picture(100, 300))
    assert "30 x" not in str(read_upload("fine.png", data, size=SIZE).problem)
    heavy = read_upload("heavy.png", data, size=SIZE, limits=Limits(file_bytes=1000))
    assert "up to 0 MB" in heavy.problem
    large = read_upload("large.png", data, size=SIZE, limits=Limits(pixels=20_000))
    assert "300 x 100 pixels" in large.problem
    small = read_upload("shown.png", data, size=SIZE, limits=Limits(shown=60))
    assert small.shown.shape == (20, 60)
    assert too_many(3, Limits(files=3)) is None
    assert "first 3" in too_many(4, Limits(files=3))


def test_names_are_shown_without_folders_and_control_characters():
    upload = read_upload("../..\\etc/\x1b[31mpass\nwd.png", b"x", size=SIZE)
    assert upload.name == "?[31mpass?wd.png"
    assert len(read_upload("a" * 500 + ".png", b"x", size=SIZE).name) == 80


def test_what_should_be_known_about_a_picture_is_said():
    flat = read_upload("flat.png", png(np.full((200, 200), 90, np.uint8)), size=SIZE)
    assert "one shade of grey" in flat.remark
    assert "very small" in read_upload("small.png", png(picture(40, 50)), size=SIZE).remark
    moving = io.BytesIO()
    frames = [Image.fromarray(picture(120, 120)) for _ in range(2)]
    frames[0].save(moving, "GIF", save_all=True, append_images=[Image.fromarray(255 - picture(120, 120))])
    assert "only the first" in read_upload("moving.gif", moving.getvalue(), size=SIZE).remark


def test_answers_keep_their_order_around_unreadable_files(predictor):
    good = read_upload("good.png", png(picture()), size=SIZE)
    other = read_upload("other.png", png(255 - picture()), size=SIZE)
    bad = read_upload("bad.png", b"nothing", size=SIZE)
    alone = [answer_uploads(predictor, [upload])[0].probability for upload in (good, other)]
    together = answer_uploads(predictor, [good, bad, other])
    assert together[1] is None
    assert [together[0].probability, together[2].probability] == pytest.approx(alone, abs=1e-6)
    assert answer_uploads(predictor, [bad]) == [None]


def test_an_upload_from_the_training_set_is_marked(predictor):
    upload = read_upload("bone.png", png(picture()), size=SIZE)
    trained = replace(predictor, card={**predictor.card, "train_hashes": [upload.key]})
    assert [answer.remark for answer in answer_uploads(trained, [upload])] == [REMARKS["training"]]
    started = {**predictor.card, "weights": {"origin": "training X-rays of FracAtlas"}}
    others = [read_upload(f"IMG000{n}.png", png(picture()), size=SIZE) for n in ("0000", "0012")]
    remarks = [answer.remark for answer in answer_uploads(replace(predictor, card=started), others)]
    assert remarks == [REMARKS["starting weights"], ""]  # the second is in the fixed test part


def test_the_heat_lies_over_the_picture_and_not_over_its_bars():
    upload = read_upload("wide.png", png(np.full((100, 200), 80, np.uint8)), size=SIZE)
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[18:22, 10:14] = 1  # just below the bar above the picture, to the left
    mixed = overlay(upload, heat, opacity=0.8)
    assert mixed.shape == (100, 200, 3)
    warm = np.argwhere(np.ptp(mixed.astype(int), axis=2) > 60)
    assert warm.mean(axis=0) == pytest.approx([12, 37], abs=4)
    np.testing.assert_array_equal(overlay(upload, heat, opacity=0.0)[..., 0], upload.shown)


def test_a_box_is_drawn_around_what_it_holds():
    upload = read_upload("wide.png", png(np.full((100, 200), 80, np.uint8)), size=SIZE)
    framed = overlay(upload, None, opacity=0.5, box=(50, 20, 90, 60))
    assert framed[18, 70].tolist() == framed[40, 48].tolist() == [0, 200, 255]
    assert framed[40, 70].tolist() == [80, 80, 80]


def test_table_and_report_can_be_taken_home(predictor):
    uploads = [read_upload("=cmd()<b>.png", png(picture()), size=SIZE), read_upload("bad.png", b"no", size=SIZE)]
    answers = answer_uploads(predictor, uploads)
    rows = list(csv.DictReader(io.StringIO(answers_csv(uploads, answers, predictor).decode("utf-8-sig"))))
    assert rows[0]["file"] == "'=cmd()<b>.png"
    assert float(rows[0]["p_fracture"]) == pytest.approx(answers[0].probability, abs=1e-4)
    assert rows[1]["p_fracture"] == ""
    assert "cannot be read" in rows[1]["problem"]
    assert {row["note"] for row in rows} == {NOT_CLINICAL}
    assert rows[0]["model_sha256"] == predictor.card["sha256"]
    report = answers_html(uploads, answers, predictor, opacity=0.5).decode()
    for part in (NOT_CLINICAL, f"P(fractured) {answers[0].probability:.2f}, threshold 0.40", "bad.png cannot be read"):
        assert part in report
    assert report.count('<img src="data:image/jpeg;base64,') == 2
    assert "<b>" not in report and "http" not in report


def test_words_say_less_the_nearer_the_threshold():
    assert "toss-up" in in_words(0.41, 0.4)
    assert "Leaning towards fractured" in in_words(0.6, 0.4)
    assert "Leaning towards fractured" in in_words(0.64, 0.2)  # far above a low threshold, and yet 1 in 3 is normal
    assert "Clearly fractured" in in_words(0.99, 0.4)
    assert "Clearly normal" in in_words(0.01, 0.4)
    assert "Clearly" in in_words(1.0, 0.0)


def test_facts_come_from_the_card_alone():
    def interval(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.05}

    metrics = {"roc_auc": interval(0.9), "recall": interval(0.8), "specificity": interval(0.85), "precision": None}
    card = {"data": {"source": "SomeSet", "licence": "CC-BY"}, "metrics": {"test": {"n": 1856, "metrics": metrics}}}
    text = " ".join(model_facts(card))
    for part in (
        "1,856 images kept out of its training",
        "SomeSet",
        "finds 80 (70 to 85)",
        "AUC 0.90 (0.80 to 0.95)",
        "CC-BY",
    ):
        assert part in text
    meaning = threshold_sentence({**card, "threshold": 0.2}, 0.2)
    assert "finds 8 of 10 fractures and raises 2 false alarms on 10 normal X-rays, on its test part" in meaning
    assert threshold_sentence({**card, "threshold": 0.2}, 0.3) == threshold_sentence({"threshold": 0.2}, 0.2) == ""
    validation = model_facts({"metrics": {"val": card["metrics"]["test"]}})
    assert "flatter" in validation[0]
    assert "no test result" in model_facts({})[0]


def test_models_without_a_card_or_threshold_are_not_offered(saved, tmp_path):
    folder = tmp_path / "models"
    (folder / "local").mkdir(parents=True)
    for name in ("one", "local/two", "no_threshold"):
        (folder / f"{name}.keras").write_bytes(saved.read_bytes())
        (folder / f"{name}.json").write_text(json.dumps({"threshold": None if "no" in name else 0.5}))
    (folder / "bare.keras").write_bytes(b"x")
    assert [path.stem for path in available_models(folder)] == ["one", "two"]
    assert available_models(tmp_path / "nowhere") == []
    with pytest.raises(FracturelabError, match="threshold"):
        load_predictor(folder / "no_threshold.keras")
    (folder / "one.json").write_text(json.dumps({"threshold": 0.5, "sha256": "0" * 64}))
    with pytest.raises(FracturelabError, match="not the file its card describes"):
        load_predictor(folder / "one.keras")


def test_nothing_is_written_to_disk(predictor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = []
    real = open

    def watching(file, mode="r", *args, **kwargs):
        if any(letter in mode for letter in "wax+"):
            opened.append(file)
        return real(file, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", watching)
    uploads = [read_upload("bone.png", png(picture()), size=SIZE)]
    answers = answer_uploads(predictor, uploads)
    answers_csv(uploads, answers, predictor)
    answers_html(uploads, answers, predictor, opacity=0.4)
    assert opened == []
    assert list(tmp_path.iterdir()) == []
