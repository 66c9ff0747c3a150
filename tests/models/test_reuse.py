import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import save_model
from fracturelab.models.reuse import backbone_weights
from fracturelab.models.transfer import FEATURES, build_transfer_model
from fracturelab.system.files import sha256_of

SIZE = 64


def test_a_model_built_from_the_weights_has_the_features_of_the_saved_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path))
    options = {"alpha": 0.25}
    keras.utils.set_random_seed(1)
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        model = build_transfer_model("MobileNet", weights=None, input_size=SIZE, backbone_options=options)
    card = {
        "name": "mine",
        "backbone": "MobileNet",
        "recipe": {"recipe": "v2", "backbone_options": options},
        "weights": {"origin": "somewhere", "scaling": None},
        "licence": {"weights": "CC0"},
        "data": {"source": "a set"},
    }
    path = save_model(model, tmp_path / "mine.keras", card)
    info = backbone_weights(path)
    assert (info.backbone, info.options, info.licence) == ("MobileNet", options, "CC0")
    assert info.origin == "somewhere; then trained on a set"
    assert info.sha256 == sha256_of(info.path)
    other = build_transfer_model("MobileNet", weights=info, input_size=SIZE, backbone_options=options)
    images = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 1)).astype(np.float32)
    ours, theirs = (
        keras.Model(one.input, one.get_layer(FEATURES).output)(images, training=False) for one in (model, other)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert [file.name for file in (tmp_path / "weights").iterdir()] == [info.to_dict()["path"]]


def test_a_model_without_a_backbone_is_refused(tmp_path):
    path = save_model(build_cnn(input_size=32), tmp_path / "v1.keras", {"kind": "v1", "recipe": {"recipe": "v1"}})
    with pytest.raises(FracturelabError, match=r"expected a transfer model with its card. Received: v1"):
        backbone_weights(path)
