"""The recipe of the shipped model, from a folder to the file, its card, its export and its records; small."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fracturelab.models.files import load_model, read_card
from fracturelab.models.weights import resolve
from fracturelab.splits import fracatlas_parts
from fracturelab.training import calibration
from scripts import small
from tests.tiny_backbone import TINY

SIZE = 64


@pytest.fixture
def folder(tmp_path):
    """FracAtlas in small: names of its parts, squares with a bright spot where the fracture is."""
    root = tmp_path / "FracAtlas"
    rng = np.random.default_rng(0)
    parts = fracatlas_parts()
    names = [*parts.groupby("part").head(12)["image"]]
    names += [name for name in (f"IMG{number:07d}" for number in range(1, 99)) if name not in set(parts["image"])][:12]
    header = "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,frontal,lateral,oblique"
    lines, images, annotations = [header], [], []
    for number, name in enumerate(names):
        fractured = number % 2
        pixels = rng.integers(20, 90, (SIZE, SIZE), np.uint8)
        if fractured:
            pixels[16:32, 32:48] = 250
            corners = [32, 16, 48, 16, 48, 32, 32, 32]
            annotations.append({"image_id": number, "segmentation": [corners], "bbox": [32, 16, 16, 16]})
        images.append({"id": number, "width": SIZE, "height": SIZE, "file_name": f"{name}.jpg"})
        lines.append(f"{name}.jpg,1,0,0,0,0,0,0,{fractured},{fractured},1,0,0")
        path = root / "images" / ("Fractured" if fractured else "Non_fractured") / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "PNG")
    (root / "dataset.csv").write_text("\n".join(lines) + "\n")
    (root / "Annotations" / "COCO JSON").mkdir(parents=True)
    document = {"images": images, "annotations": annotations}
    (root / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json").write_text(json.dumps(document))
    return root


@pytest.mark.filterwarnings("ignore:RANDOM WEIGHTS")
@pytest.mark.usefixtures("tiny", "eager")
def test_the_whole_recipe(folder, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(calibration, "FEWEST", 2)
    monkeypatch.setattr(calibration, "fit_platt", lambda *_: calibration.PlattScaling(0.5, 0.25))
    work, out = tmp_path / "work", tmp_path / "tiny.keras"
    weights = resolve(TINY, "none")
    recipe = small.Recipe(size=SIZE, seeds=(0, 1), epochs=1, weights=weights)
    fit, heads = small.train_small(folder, work, recipe=recipe, progress=False)
    record = small.write_small(fit, heads, out, results=tmp_path)

    card, scores = read_card(out), json.loads(record.read_text())["results"]["scores"]
    assert card["recipe"]["seeds"] == [0, 1] and card["recipe"]["calibration"]["slope"] == 0.5
    assert card["data"]["parts"]["train"]["n"] == 12 and card["metrics"]["test"]["n"] == 12
    assert list(scores) == ["seed 0", "seed 1", "average of the heads"]
    assert (tmp_path / "tiny.openvino" / "float32.xml").exists()
    assert f"{scores['seed 1']['test']['roc_auc']['value']:.3f}" in small.heads_table([json.loads(record.read_text())])

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("fracturelab.training.maps.fit_head", never)
    again, _ = small.train_small(folder, work, recipe=recipe, progress=False)
    for ours, theirs in zip(again.model.get_weights(), load_model(out).get_weights(), strict=True):
        np.testing.assert_array_equal(ours.astype(np.float16), theirs.astype(np.float16))
    assert not list(work.rglob("*.npy"))
    with pytest.raises(AssertionError, match="trained again"):
        small.train_small(folder, work, recipe=replace(recipe, seeds=(0, 2)), progress=False)
