import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.images import load_images
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import save_model
from fracturelab.models.seen import REMARKS
from fracturelab.prediction import load_predictor
from fracturelab.prediction.predictor import RUNTIMES
from fracturelab.system.files import sha256_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model and x-rays")
    rng = np.random.default_rng(0)
    for index in range(5):
        pixels = rng.integers(0, 256, (40 + 10 * index, 60)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"x-ray {index}.png")
    (path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(path / "whole.jpg")
    (path / "cut.jpg").write_bytes((path / "whole.jpg").read_bytes()[:200])
    model = build_cnn(input_size=32)
    last = model.get_layer("p_fracture")
    last.set_weights([rng.normal(0, 3, last.kernel.shape), np.zeros(1)])
    save_model(model, path / "m.keras", {"threshold": 0.5, "name": "m"})
    return path


@pytest.fixture(scope="module")
def predictor(folder):
    return load_predictor(folder / "m.keras")


def paths(folder):
    return [folder / f"x-ray {index}.png" for index in range(5)]


def test_it_says_what_the_model_says(folder, predictor):
    import keras

    images = load_images(paths(folder), 32, cache_dir=False)
    expected = keras.saving.load_model(folder / "m.keras").predict(images.astype(np.float32), verbose=0)[:, 0]
    np.testing.assert_allclose(predictor.predict(images), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.predict(images, batch_size=2), expected, atol=1e-6)
    assert predictor.predict(images[:0]).shape == (0,)
    assert (predictor.input_size, predictor.threshold, predictor.runtime) == (32, 0.5, "keras")


def test_files_get_a_row_each_in_order(folder, predictor):
    good = paths(folder)
    asked = [good[0], folder / "text.png", good[1], folder / "absent.png", folder / "cut.jpg", good[2]]
    table = predictor.predict(asked, batch_size=4)
    assert table["path"].tolist() == [str(path) for path in asked]
    assert (table["problem"] != "").tolist() == [False, True, False, True, True, False]
    assert table["problem"].iloc[3].startswith("there is no such file")
    expected = predictor.predict(load_images([good[0], good[1], good[2]], 32, cache_dir=False))
    answers = table[table["problem"] == ""]
    np.testing.assert_allclose(answers["probability"], expected, atol=1e-6)
    assert answers["label"].tolist() == ["fractured" if p >= 0.5 else "normal" for p in answers["probability"]]
    bad = table[table["problem"] != ""]
    assert bad["probability"].isna().all() and set(bad["label"]) == {""}
    assert set(table["threshold"]) == {0.5}


def test_a_path_and_a_folder_are_read_like_a_list(folder, predictor, tmp_path):
    [name] = predictor.predict(str(paths(folder)[0]))["path"]
    assert name == str(paths(folder)[0])
    table = predictor.predict(folder)
    assert {Path(path).name for path in table["path"]} == {
        file.name for file in folder.iterdir() if "m." not in file.name
    }
    assert predictor.predict([]).empty
    with pytest.raises(FracturelabError, match="without an image in it"):
        predictor.predict(tmp_path)
    assert predictor.predict(folder / "text.png")["problem"].tolist() != [""]


def test_its_repr_is_one_line(predictor):
    assert repr(predictor).endswith("m.keras', 32 px, keras, threshold 0.500)")


def test_the_threshold_is_the_cards_or_the_one_given(folder, predictor):
    middle = predictor.predict(paths(folder))["probability"].median()
    copy = folder / "strict.keras"
    copy.write_bytes((folder / "m.keras").read_bytes())
    card = json.loads((folder / "m.json").read_text())
    (folder / "strict.json").write_text(json.dumps({**card, "threshold": middle}))
    for strict in (load_predictor(copy), load_predictor(folder / "m.keras", threshold=middle)):
        assert (strict.predict(paths(folder))["label"] == "fractured").sum() == 3
    with pytest.raises(FracturelabError, match="threshold from 0 to 1"):
        load_predictor(copy, threshold=1.5)


def test_files_that_the_model_was_trained_on_are_marked(folder, tmp_path):
    copy = tmp_path / "seen.keras"
    copy.write_bytes((folder / "m.keras").read_bytes())
    card = json.loads((folder / "m.json").read_text())
    hashes = [sha256_of(path) for path in paths(folder)]
    (tmp_path / "seen.json").write_text(json.dumps({**card, "train_hashes": hashes[:1], "val_hashes": hashes[1:2]}))
    remarks = load_predictor(copy).predict(paths(folder))["remark"].tolist()
    assert remarks[:2] == [REMARKS["training"], REMARKS["validation"]]
    assert set(remarks[2:]) == {""}


def test_images_of_another_size_are_refused(predictor):
    for shape in ((2, 64, 64, 1), (32, 32, 1), (2, 32, 32, 3)):
        with pytest.raises(FracturelabError, match="expected images of shape"):
            predictor.predict(np.zeros(shape, np.uint8))


def test_models_that_cannot_answer_are_refused(folder, tmp_path):
    save_model(build_cnn(input_size=32, classes=3), tmp_path / "ten.keras", {"threshold": 0.5})
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "text.json").write_text('{"threshold": 0.5}')
    alone = tmp_path / "alone.keras"
    alone.write_bytes((folder / "m.keras").read_bytes())
    other = tmp_path / "other.keras"
    other.write_bytes((folder / "m.keras").read_bytes())
    card = json.loads((folder / "m.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    bare = tmp_path / "bare.keras"
    bare.write_bytes((folder / "m.keras").read_bytes())
    (tmp_path / "bare.json").write_text("{}")
    for path, message in [
        (tmp_path / "ten.keras", "one output"),
        (tmp_path / "text.keras", "not a model"),
        (alone, "card that was saved beside it"),
        (other, "not the file its card describes"),
        (bare, "expected a threshold"),
        (tmp_path / "absent.keras", "no such"),
        (folder / "text.png", r"expected a .keras file"),
    ]:
        with pytest.raises(FracturelabError, match=message) as caught:
            load_predictor(path)
        assert path.stem in str(caught.value)


def test_answers_that_are_no_probabilities_are_refused(tmp_path):
    model = build_cnn(input_size=32)
    last = model.get_layer("p_fracture")
    last.set_weights([np.full(last.kernel.shape, np.nan), np.zeros(1)])
    save_model(model, tmp_path / "nan.keras", {"threshold": 0.5})
    with pytest.raises(FracturelabError, match="no probabilities"):
        load_predictor(tmp_path / "nan.keras").predict(np.full((1, 32, 32, 1), 9, np.uint8))


def test_unknown_runtimes_are_refused_and_others_may_be_added(folder, monkeypatch):
    with pytest.raises(FracturelabError, match="runtime out of auto, keras"):
        load_predictor(folder / "m.keras", runtime="abacus")
    opened = {"forward": lambda images: np.full(len(images), 0.5, np.float32), "input_size": 16}
    monkeypatch.setitem(RUNTIMES, "half", lambda path, card: opened)
    predictor = load_predictor(folder / "m.keras", runtime="half")
    assert predictor.predict(paths(folder)[0])["probability"].tolist() == [0.5]


def test_importing_it_does_not_import_tensorflow():
    code = (
        "import sys, fracturelab.prediction, fracturelab.pipeline, fracturelab.training\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
