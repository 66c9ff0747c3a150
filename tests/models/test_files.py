import io
import json
import os
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import check_destination, load_model, read_card, save_model
from fracturelab.system.files import sha256_of, write_json

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return build_cnn(input_size=32)


@pytest.fixture
def saved(tmp_path, model):
    return save_model(model, tmp_path / "m.keras", {"threshold": 0.25, "name": "m"})


def rewritten(path, change, *, name="changed.keras"):
    """A copy of a model file whose members went through `change(members) -> members`."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    copy = path.with_name(name)
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in change(members).items():
            archive.writestr(member, content)
    return copy


def with_config(path, change):
    def members(found):
        config = json.loads(found["config.json"])
        change(config)
        return {**found, "config.json": json.dumps(config)}

    return rewritten(path, members)


def test_predictions_survive_saving(model, saved):
    np.testing.assert_array_equal(load_model(saved).predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


def test_card_stands_beside_the_model(saved):
    card = read_card(saved)
    assert card == {"threshold": 0.25, "name": "m", "file": "m.keras", "sha256": sha256_of(saved)}
    assert sorted(os.listdir(saved.parent)) == ["m.json", "m.keras"]


def test_a_failed_save_leaves_the_earlier_model_whole(saved, model, monkeypatch):
    before = saved.read_bytes(), saved.with_suffix(".json").read_bytes()

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    with pytest.raises(FracturelabError, match="No space left"):
        save_model(model, saved, {"threshold": 0.9})
    assert (saved.read_bytes(), saved.with_suffix(".json").read_bytes()) == before
    assert sorted(os.listdir(saved.parent)) == ["m.json", "m.keras"]


def test_lambda_is_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    with pytest.raises(FracturelabError, match=r"lambda.keras: holds a Lambda"):
        load_model(tmp_path / "lambda.keras")


def test_custom_objects_are_refused(tmp_path, saved):
    @keras.saving.register_keras_serializable(package="mine")
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((4,))
    keras.Model(inputs, Mine()(inputs)).save(tmp_path / "custom.keras")
    with pytest.raises(FracturelabError, match=r"custom.keras: holds Mine"):
        load_model(tmp_path / "custom.keras")


@pytest.mark.parametrize(
    "planted",
    [
        {"module": "os", "class_name": "system", "config": "true", "registered_name": None},
        {"module": "keras.utils", "class_name": "get_file", "config": {"fname": "x", "origin": "y"}},
        {"module": "builtins", "class_name": "function", "config": "print", "registered_name": "function"},
        {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
        {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
        {"module": "keras.src.ops.numpy", "class_name": "backend", "config": {}},
    ],
)
def test_planted_objects_are_refused_before_keras_sees_them(saved, planted, monkeypatch):
    def never(*_, **__):
        raise AssertionError("Keras was asked to open a refused file")

    monkeypatch.setattr(keras.saving, "load_model", never)
    path = with_config(saved, lambda config: config["config"]["layers"][2]["config"].update(activation=planted))
    with pytest.raises(FracturelabError, match=r"changed.keras: holds .*refused"):
        load_model(path)


def test_old_formats_and_other_files_are_refused(tmp_path, model):
    hdf5 = tmp_path / "old.keras"
    model.save(tmp_path / "old.h5")
    (tmp_path / "old.h5").rename(hdf5)
    pickled = tmp_path / "pickled.keras"
    pickled.write_bytes(pickle.dumps({"weights": 1}))
    for path, message in [
        (hdf5, "HDF5"),
        (pickled, "not a model"),
        (tmp_path / "absent.keras", "no such"),
        (tmp_path, "no such"),
    ]:
        with pytest.raises(FracturelabError, match=message) as caught:
            load_model(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("member", ["../climbs.py", "/absolute", "assets/code.py"])
def test_members_a_model_does_not_have_are_refused(saved, member):
    path = rewritten(saved, lambda members: {**members, member: b"x"})
    with pytest.raises(FracturelabError, match="which a Keras model does not"):
        load_model(path)


def test_incomplete_and_damaged_files_are_refused(saved):
    without = rewritten(saved, lambda members: {k: v for k, v in members.items() if k != "config.json"})
    with pytest.raises(FracturelabError, match=r"no config.json"):
        load_model(without)
    broken = rewritten(saved, lambda members: {**members, "config.json": b"{"})
    with pytest.raises(FracturelabError, match="not a Keras model"):
        load_model(broken)
    whole = saved.read_bytes()
    saved.with_name("cut.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FracturelabError, match="not a model"):
        load_model(saved.with_name("cut.keras"))


def test_bombs_are_refused(saved):
    path = rewritten(saved, lambda members: {**members, "metadata.json": b" " * 33 * 2**20})
    with pytest.raises(FracturelabError, match="would unpack"):
        load_model(path)


def test_links_in_the_weights_are_refused(saved):
    def linked(members):
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            file["more"] = h5py.ExternalLink("/etc/passwd", "/")
        return {**members, "model.weights.h5": content.getvalue()}

    with pytest.raises(FracturelabError, match="is a link"):
        load_model(rewritten(saved, linked))


def test_weights_of_another_shape_are_refused(saved):
    def other(members):
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            name = next(name for name in file["layers"] if "dense" in name)
            variables = file["layers"][name]["vars"]
            del variables["0"]
            variables["0"] = np.zeros((2, 2), np.float32)
        return {**members, "model.weights.h5": content.getvalue()}

    with pytest.raises(FracturelabError, match=r"changed.keras: cannot be loaded"):
        load_model(rewritten(saved, other))


def test_cards_that_are_none(tmp_path):
    with pytest.raises(FracturelabError, match="no such file"):
        read_card(tmp_path / "m.keras")
    for content in ("[]", "{", '{"threshold": 2}', '{"threshold": "high"}', '{"threshold": true}'):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(FracturelabError, match=r"m.json"):
            read_card(tmp_path / "m.keras")


def test_destination_is_checked_before_training(tmp_path):
    assert check_destination(tmp_path / "new" / "m.keras").parent.is_dir()
    with pytest.raises(FracturelabError, match=r"ends in .keras"):
        check_destination(tmp_path / "m.h5")
    (tmp_path / "d.keras").mkdir()
    with pytest.raises(FracturelabError, match="is a folder"):
        check_destination(tmp_path / "d.keras")
    (tmp_path / "file").write_text("")
    with pytest.raises(FracturelabError, match="cannot be written"):
        check_destination(tmp_path / "file" / "m.keras")


def test_json_knows_numpy_and_refuses_nan(tmp_path):
    path = write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": np.arange(2), "c": {"y", "x"}})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": ["x", "y"]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "y.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == ["x.json"]


def test_half_precision_takes_half_the_room(tmp_path):
    model = build_cnn(input_size=32)
    whole = save_model(model, tmp_path / "whole.keras", {})
    half = save_model(model, tmp_path / "half.keras", {}, half=True)
    assert half.stat().st_size < 0.62 * whole.stat().st_size
    ours, opened = model.predict(IMAGES, verbose=0), load_model(half)
    np.testing.assert_array_equal(opened.predict(IMAGES, verbose=0), ours)
    np.testing.assert_allclose(load_model(whole).predict(IMAGES, verbose=0), ours, atol=0.01)
    kernels = [array for array in opened.get_weights() if array.ndim > 1]
    assert all((kernel == kernel.astype(np.float16)).all() for kernel in kernels)
