import json
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models import weight_files, weights
from fracturelab.models.backbones import SCALINGS, build_backbone
from scripts.pretraining.bundled_files import save_bundled

SMALL = {"alpha": 0.25}


def small_backbone(**arguments):
    return build_backbone("MobileNet", input_size=32, options=SMALL, **arguments)


def described(name, **further):
    """What a small backbone's weights are described by."""
    return weights.WeightsInfo(
        name, "bundled", "MobileNet", "a test", "none needed", input_size=32, options=SMALL, **further
    )


@pytest.fixture(scope="module")
def backbone():
    model = small_backbone()
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0.5, 0.2, array.shape)) for array in model.get_weights()])
    return model


@pytest.fixture
def shelf(tmp_path, backbone, monkeypatch):
    """A folder of bundled weights with one set in it, and no other."""
    info = described("small", scaling=SCALINGS["torch"])
    info = save_bundled(backbone, tmp_path, info, recipe="by hand", measured={"auc": 0.5})
    monkeypatch.setattr(weights, "bundled_folders", lambda: [tmp_path])
    return info


def test_bundled_weights_come_back_in_single_precision(shelf, backbone):
    model = small_backbone(scaling=shelf.scaling)
    weight_files.load_into(model, shelf.path, sha256=shelf.sha256)
    for ours, stored in zip(model.get_weights(), backbone.get_weights(), strict=True):
        assert ours.dtype == np.float32
        if stored.ndim > 1:
            np.testing.assert_array_equal(ours, stored.astype(np.float16).astype(np.float32))
        else:
            np.testing.assert_array_equal(ours, stored)


def test_description_holds_what_a_reader_needs(shelf):
    description = json.loads(Path(shelf.path).with_name("small.json").read_text())
    assert description["sha256"] == weights.sha256_of(shelf.path) == shelf.sha256
    assert description["scaling"] == SCALINGS["torch"]
    assert (description["recipe"], description["measured"]) == ("by hand", {"auc": 0.5})
    assert shelf.to_dict()["path"] == "small.weights.h5"


def test_auto_takes_bundled_where_imagenet_cannot_be_had(shelf):
    assert weights.resolve("MobileNet", "auto", SMALL) == shelf
    assert weights.resolve("MobileNet", "bundled", SMALL) == shelf


def test_auto_without_any_is_random_and_says_so(shelf):
    info = weights.resolve("MobileNet", "auto", {"alpha": 0.5})
    assert info.kind == "none"
    assert "RANDOM" in info.sentence


def test_bundled_for_another_backbone_names_those_there_are(shelf):
    with pytest.raises(FracturelabError, match=r"ResNet50; MobileNet\(alpha=0.25\) has them"):
        weights.resolve("ResNet50", "bundled")


def test_imagenet_by_name_fails_fast_offline():
    started = time.perf_counter()
    with pytest.raises(FracturelabError, match="ImageNet weights of ResNet50 cannot be had"):
        weights.resolve("ResNet50", "imagenet")
    assert time.perf_counter() - started < 30


def test_no_network_is_noticed_without_the_switch(monkeypatch):
    monkeypatch.delenv(weights.OFFLINE, raising=False)
    monkeypatch.setattr(weights, "DOWNLOAD_HOST", "http://127.0.0.1:9/")
    assert not weights._reachable(seconds=1)


def test_a_file_of_keras_is_loaded(tmp_path, backbone):
    path = tmp_path / "mine.weights.h5"
    backbone.save_weights(path)
    info = weights.resolve("MobileNet", path, SMALL)
    assert (info.kind, info.sha256) == ("file", weights.sha256_of(path))
    model = small_backbone(weights_path=info.path)
    for ours, theirs in zip(model.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_may_be_described(tmp_path, backbone):
    path = tmp_path / "mine.weights.h5"
    backbone.save_weights(path)
    description = {
        "name": "mine",
        "backbone": "MobileNet",
        "options": SMALL,
        "origin": "me",
        "licence": "MIT",
        "sha256": weights.sha256_of(path),
        "input_size": 96,
        "scaling": SCALINGS["tf"],
    }
    (tmp_path / "mine.json").write_text(json.dumps(description))
    info = weights.resolve("MobileNet", path, SMALL)
    assert (info.name, info.input_size, info.licence) == ("mine", 96, "MIT")
    with pytest.raises(FracturelabError, match=r"says MobileNet\(alpha=0.25\)"):
        weights.resolve("ResNet50", path)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(FracturelabError, match=r"mine.json: not a description"):
        weights.resolve("MobileNet", path, SMALL)


def test_another_shape_is_refused_by_name(shelf, tmp_path, backbone):
    other = build_backbone("MobileNet", input_size=32, options={"alpha": 0.5})
    with pytest.raises(FracturelabError, match=r"small.weights.h5: expected .* of shape"):
        weight_files.load_into(other, shelf.path)
    keras_file = tmp_path / "k.weights.h5"
    backbone.save_weights(keras_file)
    with pytest.raises(FracturelabError, match=r"k.weights.h5: these weights do not fit"):
        weight_files.load_into(other, keras_file)
    resnet = build_backbone("ResNet50", input_size=32)
    with pytest.raises(FracturelabError, match=r"expected \d+ arrays"):
        weight_files.load_into(resnet, shelf.path)


def test_a_changed_file_is_refused(shelf, tmp_path):
    with h5py.File(shelf.path, "r+") as file:
        file["0000"][...] = 0
    with pytest.raises(FracturelabError, match="sha256"):
        weight_files.load_into(small_backbone(), shelf.path, sha256=shelf.sha256)


def test_hostile_and_broken_files_are_refused(tmp_path, backbone):
    model = small_backbone()
    text = tmp_path / "text.weights.h5"
    text.write_text("not weights")
    empty = tmp_path / "empty.weights.h5"
    with h5py.File(empty, "w"):
        pass
    linked = tmp_path / "linked.weights.h5"
    with h5py.File(linked, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    outside = tmp_path / "outside.weights.h5"
    with h5py.File(outside, "w") as file:
        file.create_dataset("x", (4,), "u1", external=[(str(text), 0, 4)])
    huge = tmp_path / "huge.weights.h5"
    with h5py.File(huge, "w") as file:
        file.create_dataset("x", (2**40,), "u1", chunks=(2**20,))
    for path, message in [
        (text, "are no weights"),
        (empty, "do not fit|needs"),
        (linked, "is a link"),
        (outside, "not a plain array"),
        (huge, "no backbone"),
        (tmp_path / "absent.weights.h5", "no such"),
    ]:
        with pytest.raises(FracturelabError, match=message) as caught:
            weight_files.load_into(model, path)
        assert str(path) in str(caught.value)


def test_values_that_are_not_finite_are_refused(tmp_path):
    model = small_backbone()
    arrays = model.get_weights()
    arrays[0][0] = np.nan
    model.set_weights(arrays)
    with pytest.raises(FracturelabError, match="finite"):
        save_bundled(model, tmp_path, described("nan"))
    assert os.listdir(tmp_path) == []
    path = tmp_path / "nan.weights.h5"
    model.save_weights(path)
    with pytest.raises(FracturelabError, match="not finite"):
        weight_files.load_into(small_backbone(), path)


def test_missing_file_by_name():
    with pytest.raises(FracturelabError, match="no such weights file"):
        weights.resolve("ResNet50", "somewhere/else.weights.h5")


def test_digest_follows_the_arrays(backbone):
    other = small_backbone()
    assert weights.digest_of(other) != weights.digest_of(backbone)
    other.set_weights(backbone.get_weights())
    assert weights.digest_of(other) == weights.digest_of(backbone)


def test_bundled_weights_of_this_checkout_are_what_they_say():
    for info in weights.bundled():
        assert weights.sha256_of(info.path) == info.sha256
        model = build_backbone(info.backbone, input_size=64, options=info.options, scaling=info.scaling)
        weight_files.load_into(model, info.path, sha256=info.sha256)
