"""Exported models: the same answers without TensorFlow, and a refusal where they are not their model."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.exporting import AGREEMENT, CLOSE_AUC, CLOSE_PROBABILITY, export_folder, export_model, read_export
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import save_model
from fracturelab.prediction import load_predictor

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'fracturelab[fast]'")


def saved(path, seed=0, threshold=0.5):
    import keras

    keras.utils.set_random_seed(seed)
    model = build_cnn(input_size=32)
    model.get_layer("p_fracture").set_weights([np.random.default_rng(seed).normal(0, 3, (128, 1)), np.zeros(1)])
    save_model(model, path, {"threshold": threshold, "name": path.stem})
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
    assert load_predictor(exported).runtime == "float32"


def test_predict_with_an_export_does_not_import_tensorflow(exported, tmp_path):
    Image.fromarray(images(1)[0, ..., 0]).save(tmp_path / "x.png")
    code = (
        "import sys; from fracturelab.cli import main\n"
        f"code = main(['predict', {str(exported)!r}, {str(tmp_path / 'x.png')!r}, '--json'])\n"
        "assert code == 0\n"
        "print([name for name in ('tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *answer, loaded = found.stdout.strip().splitlines()
    assert loaded == "[]"
    [row] = json.loads("\n".join(answer))
    expected = float(load_predictor(exported, runtime="keras").predict(images(1))[0])
    assert row["p_fracture"] == pytest.approx(expected, abs=AGREEMENT)


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


def test_fast_network_is_close_and_brings_its_threshold(tmp_path):
    pytest.importorskip("nncf", reason="nncf is not installed: pip install 'fracturelab[export]'")
    model = saved(tmp_path / "m.keras")
    pixels = images(400, seed=1)
    pixels[::2] //= 3
    labels = np.arange(400) % 2
    fast = export_model(model, images=pixels, labels=labels, calibration=pixels[:50]).networks["fast"]
    assert {one["precision"] for one in fast["tried"]} >= {"int8"}
    assert fast["max_difference"] <= CLOSE_PROBABILITY and abs(fast["auc_difference"]) <= CLOSE_AUC
    predictor = load_predictor(model, runtime="fast")
    assert predictor.threshold == fast["threshold"]
    exact = load_predictor(model, runtime="keras").predict(pixels)
    assert np.abs(predictor.predict(pixels) - exact).max() <= CLOSE_PROBABILITY + AGREEMENT
    with pytest.raises(FracturelabError, match="at least 400 images"):
        export_model(model, images=pixels[:9], labels=labels[:9])
