"""What a score would pass over in silence is said: in the verdict, in the record, in the card, on the command line."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.datasets import file_hashes, make_table
from fracturelab.evaluation import evaluate, verdict
from fracturelab.models.cnn import build_cnn
from fracturelab.models.weights import WeightsInfo
from fracturelab.records import read_record, write_record
from fracturelab.splits import holdout_split
from fracturelab.training import Prepared
from fracturelab.training.fitting import finished_fit
from fracturelab.training.prepare import shared_groups
from fracturelab.training.saving import card_of, record_fit
from tests.hostile.cases import xray
from tests.hostile.test_files import command, model, stand_in  # noqa: F401 - model is a fixture

LABELS = np.arange(40) % 2


def kept(found: Any, folder: Path) -> list[str]:
    """The warnings of an evaluation that its record holds."""
    path = write_record("run", kind="evaluation", results=found.to_record(), folder=folder)
    return read_record(path)["results"]["warnings"]


@pytest.mark.parametrize(("threshold", "name"), [(0.1, "fractured"), (0.9, "normal")])
def test_predictions_of_one_class(threshold, name, tmp_path, model, happened):  # noqa: F811
    rng = np.random.default_rng(0)
    found = evaluate(LABELS, 0.3 + 0.2 * LABELS + 0.05 * rng.random(40), threshold=threshold, n_bootstrap=50)
    assert verdict(found).endswith(f" At the threshold {threshold:.3f} it calls all of them {name}.")
    assert kept(found, tmp_path)[0] == f"All 40 predictions are {name} at the threshold {threshold:.3f}."
    paths = []
    for seed in range(12):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(xray(seed)).save(paths[-1])
    card = model.with_suffix(".json")
    text = card.read_text()
    card.write_text(json.dumps({**json.loads(text), "threshold": {0.1: 0.001, 0.9: 0.999}[threshold]}))
    with stand_in():
        code, out, said = command("predict", model, *paths, "--json", "--runtime", "keras")
        few = command("predict", model, *paths[:5], "--json", "--runtime", "keras")[2]
    card.write_text(text)
    assert code == 0
    assert len(json.loads(out)) == 12
    assert f"warning: All 12 predictions are {name}" in said
    assert "warning" not in few
    happened("one-class", "said by all three")


def test_both_classes_are_not_said_to_be_one():
    found = evaluate(LABELS, 0.3 + 0.3 * LABELS, threshold=0.5, n_bootstrap=50)
    assert "calls all" not in verdict(found)


def test_an_interval_too_wide(tmp_path, happened):
    labels = LABELS[:12]
    p = np.where(labels, 0.6, 0.4) + np.tile([0.0, 0.0, 0.3, -0.3], 3)
    found = evaluate(labels, p, threshold=0.5, n_bootstrap=200)
    assert "too wide to say how good" in verdict(found) or "not shown to be better than guessing" in verdict(found)
    assert any("too wide to conclude" in sentence for sentence in kept(found, tmp_path))
    happened("wide", "said in both")


@pytest.fixture
def prepared(tmp_path) -> Prepared:
    """Sixty radiographs of thirty patients, two each, whole patients on one side."""
    paths = []
    for seed in range(60):
        paths.append(str(tmp_path / f"{seed:02d}.png"))
        Image.fromarray(xray(seed)).save(paths[-1])
    side = np.repeat(["train", "val", "test"], 20)
    table = make_table(
        {"path": path, "label": seed // 2 % 2, "group": f"patient {seed // 2}", "split": side[seed], "source": "ward"}
        for seed, path in enumerate(paths)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 1)).astype(np.uint8)
    nothing = pd.DataFrame({"path": [], "reason": []})
    return Prepared(table, pixels, np.array(file_hashes(paths)), nothing)


def torn(prepared: Prepared) -> Prepared:
    """The same with the second image of three test patients in training."""
    split = prepared.table["split"].copy()
    split.iloc[[41, 43, 45]] = "train"
    return replace(prepared, table=prepared.table.assign(split=split))


def fitted(prepared: Prepared, weights: WeightsInfo | None = None) -> Any:
    network = build_cnn(input_size=prepared.size, filters=(2,))
    return finished_fit(network, prepared, [], chosen="v1", weights=weights, recipe={"recipe": "v1"})


def test_parts_that_share_patients(prepared, tmp_path, happened):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(prepared).warnings == ()
    assert shared_groups(prepared) == []
    expected = (
        "3 of the 17 test images share a group (a patient, or copies) with train images: scores on test are too good."
    )
    with pytest.warns(UserWarning, match="3 of the 17 test images share a group"):
        fit = fitted(torn(prepared))
    assert fit.warnings == (expected,)
    assert card_of(fit, name="m", evaluations={})["warnings"] == [expected]
    path = record_fit("run", fit, evaluations={}, folder=tmp_path / "results")
    assert read_record(path)["results"]["warnings"] == [expected]
    with warnings.catch_warnings():  # torn on purpose, to show what it does: recorded, not warned of
        warnings.simplefilter("error")
        assert fitted(replace(torn(prepared), leaks_on_purpose=True)).warnings == (expected,)
    happened("groups", "said in all three")


def test_weights_that_have_seen_the_validation_images(prepared):
    seen = WeightsInfo("resnet50", "bundled", "ResNet50", "training X-rays of FracAtlas, their labels", "CC BY 4.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(prepared, seen).warnings == ()  # other images than FracAtlas's
    prepared = replace(prepared, table=prepared.table.assign(fixed="name"))
    assert fitted(prepared, replace(seen, origin="ImageNet")).warnings == ()
    with pytest.warns(UserWarning, match="The resnet50 weights have learned from training X-rays of FracAtlas"):
        (said,) = fitted(prepared, seen).warnings
    assert "validation images" in said


def test_a_published_split_that_tears_patients(prepared, happened):
    with pytest.warns(UserWarning, match="3 images are left out: their group"):
        table = holdout_split(torn(prepared).table)
    assert table["split"].isna().sum() == 3
    assert shared_groups(replace(prepared, table=table)) == []
    happened("published-groups", "left out, and it was said")


def test_a_card_describes_what_its_training_images_look_like(prepared):
    from fracturelab.prediction.likeness import of_card

    found = of_card(card_of(fitted(prepared), name="m", evaluations={}))
    assert found is not None
    assert found.calibrated_on == 20
    assert not any(found.remarks(prepared.images[20:40]))
    assert all(found.remarks(np.full((2, 32, 32, 1), 250, np.uint8)))
