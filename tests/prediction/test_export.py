"""Exported models: the same answers without TensorFlow, and a refusal where they are not their model."""

import json
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import choose_threshold
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import save_model
from fracturelab.prediction import export, load_predictor
from fracturelab.prediction.export import (
    AGREEMENT,
    CLOSE_AUC,
    CLOSE_PROBABILITY,
    export_folder,
    export_model,
    images_to_measure,
    read_export,
)

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'fracturelab[fast]'")


def saved(path, seed=0, threshold=0.5):
    import keras

    keras.utils.set_random_seed(seed)
    model = build_cnn(input_size=32)
    last = model.get_layer("p_fracture")
    last.set_weights([np.random.default_rng(seed).normal(0, 3, last.kernel.shape), np.zeros(1)])
    save_model(model, path, {"threshold": threshold, "name": path.stem, "input_size": 32})
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = saved(tmp_path_factory.mktemp("a model") / "m.keras")
    export_model(model)
    return model


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 1)).astype(np.uint8)


def test_export_answers_as_the_model_does(exported):
    own, keras = load_predictor(exported, runtime="float32"), load_predictor(exported, runtime="keras")
    assert (own.runtime, own.input_size, own.threshold) == ("float32", 32, 0.5)
    pixels = images(20, seed=3)
    np.testing.assert_allclose(own.predict(pixels), keras.predict(pixels), atol=AGREEMENT)
    assert np.ptp(keras.predict(pixels)) > 0.001
    alone = np.concatenate([own.predict(pixel[None]) for pixel in pixels])
    np.testing.assert_allclose(alone, own.predict(pixels), atol=1e-6)
    assert load_predictor(exported).runtime == "float32"


def test_predict_with_an_export_does_not_import_tensorflow(exported, tmp_path):
    Image.fromarray(images(1)[0, ..., 0]).save(tmp_path / "x.png")
    code = (
        "import sys; from fracturelab.cli import main\n"
        f"code = main(['predict', {str(exported)!r}, {str(tmp_path / 'x.png')!r}, '--json'])\n"
        "assert code == 0\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *answer, loaded = found.stdout.strip().splitlines()
    assert loaded == "[]"
    [row] = json.loads("\n".join(answer))
    expected = float(load_predictor(exported, runtime="keras").predict(images(1))[0])
    assert row["p_fracture"] == pytest.approx(expected, abs=AGREEMENT)


def test_a_processor_without_a_kernel_is_one_line(exported, monkeypatch):
    core = Mock()
    core.compile_model.return_value.side_effect = RuntimeError("bad combination")
    monkeypatch.setattr("openvino.Core", lambda: core)
    with pytest.raises(FracturelabError, match="OpenVINO cannot run it here; use the runtime keras"):
        load_predictor(exported).predict(images(1))


def test_export_of_another_model_is_refused_and_keras_answers(exported, tmp_path):
    import shutil

    other = saved(tmp_path / "other.keras", seed=1)
    shutil.copytree(export_folder(exported), export_folder(other))
    with pytest.raises(FracturelabError, match=r"export of another model than other\.keras"):
        load_predictor(other, runtime="float32")
    with pytest.warns(UserWarning, match="Keras answers instead"):
        predictor = load_predictor(other)
    assert predictor.runtime == "keras"


@pytest.mark.parametrize("damage", ["weights", "missing", "manifest", "climbs"])
def test_damaged_export_is_refused(exported, tmp_path, damage):
    import shutil

    model = tmp_path / "m.keras"
    shutil.copy(exported, model)
    shutil.copy(exported.with_suffix(".json"), model.with_suffix(".json"))
    folder = shutil.copytree(export_folder(exported), export_folder(model))
    assert read_export(model).input_size == 32
    manifest = json.loads((folder / "export.json").read_text())
    if damage == "weights":
        content = bytearray((folder / "float32.bin").read_bytes())
        content[100] ^= 1
        (folder / "float32.bin").write_bytes(bytes(content))
    elif damage == "missing":
        (folder / "float32.bin").unlink()
    elif damage == "manifest":
        (folder / "export.json").write_text("{")
    else:
        manifest["networks"]["float32"]["file"] = "../float32.xml"
        (folder / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(FracturelabError, match="fracturelab export"):
        read_export(model)


def test_no_export_no_guess(tmp_path):
    model = saved(tmp_path / "m.keras")
    with pytest.raises(FracturelabError, match="there is no export of m.keras"):
        load_predictor(model, runtime="fast")
    assert load_predictor(model).runtime == "keras"


def test_fast_network_is_close_and_brings_its_threshold(tmp_path, monkeypatch):
    pytest.importorskip("nncf", reason="nncf is not installed: make test-everything")
    model = saved(tmp_path / "m.keras")
    pixels = images(400, seed=1)
    pixels[::2] //= 3
    labels = np.arange(400) % 2
    validation = np.arange(400) < 200
    asked = []

    def choose(labels, answers):
        asked.append(labels)
        return choose_threshold(labels, answers)

    monkeypatch.setattr("fracturelab.evaluation.choose_threshold", choose)
    measured = {"images": pixels, "labels": labels, "calibration": pixels[:50]}
    fast = export_model(model, **measured, validation=validation).networks["fast"]
    assert {one["precision"] for one in fast["tried"]} >= {"int8"}
    assert fast["max_difference"] <= CLOSE_PROBABILITY and abs(fast["auc_difference"]) <= CLOSE_AUC
    predictor = load_predictor(model, runtime="fast")
    assert predictor.threshold == fast["threshold"]
    assert {one["threshold_images"] for one in fast["tried"]} == {200}
    for one in asked:
        np.testing.assert_array_equal(one, labels[:200])
    exact = load_predictor(model, runtime="keras").predict(pixels)
    assert np.abs(predictor.predict(pixels) - exact).max() <= CLOSE_PROBABILITY + AGREEMENT
    with pytest.raises(FracturelabError, match="at least 400 images"):
        export_model(model, images=pixels[:9], labels=labels[:9])
    kept = export_model(model, **measured).networks["fast"]
    assert {(one["threshold"], one["threshold_images"]) for one in kept["tried"]} == {(0.5, 0)}


def test_test_images_choose_no_threshold_and_are_measured_on_only_in_need():
    train, val, test = ([f"{kind}{number}" for number in range(n)] for kind, n in (("a", 700), ("b", 90), ("c", 500)))
    card = {"train_hashes": train, "val_hashes": val}
    files = np.array([*test, *train, *val])
    measured, validation, calibration = images_to_measure(files, card, seed=1)
    assert (len(measured), len(calibration)) == (590, 200)
    assert not set(files[measured]) & set(test) and not set(measured) & set(calibration)
    assert set(files[measured[validation]]) == set(val)
    assert set(files[calibration]) < set(train)
    measured, validation, _ = images_to_measure(files[:-1], card)
    assert not validation.any()  # one of its validation images is gone
    few = np.array([*test, *train[:50], *val])
    measured, validation, _ = images_to_measure(few, card, never=test[:100])
    assert len(measured) == 400 and not set(few[measured]) & set(test[:100])
    assert set(few[measured[validation]]) == set(val)
    measured, validation, _ = images_to_measure(test, card)
    assert len(measured) == 400 and not validation.any()


def test_the_command_chooses_no_threshold_on_strange_images(exported, tmp_path, monkeypatch, capsys):
    from fracturelab.cli import main

    lines = ["path,label,group"]
    for number, pixels in enumerate(images(12)):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    given = []

    def spy(model, **measured):
        given.append(measured)
        return read_export(model)

    monkeypatch.setattr(export, "export_model", spy)
    assert main(["export", str(exported), "--data", str(tmp_path), "--json"]) == 0
    assert "keeps its threshold" in capsys.readouterr().err
    assert len(given[0]["images"]) == len(given[0]["validation"]) == 12 and not given[0]["validation"].any()
