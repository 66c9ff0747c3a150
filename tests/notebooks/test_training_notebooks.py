"""Notebooks 02 and 03, executed on a few small images through their parameters."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from fracturelab.models.files import load_model, read_card
from fracturelab.records import read_records
from fracturelab.system.folders import MODELS, REPORTS
from fracturelab.training import prepare_with_external
from fracturelab.training.epochs import predict
from scripts.notebooks import run_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def xrays(tmp_path_factory) -> Path:
    """Class folders of 40 pictures of blobs each; the fractured ones have a dark line."""
    from scipy.ndimage import gaussian_filter

    root = tmp_path_factory.mktemp("xrays") / "ward"
    rng = np.random.default_rng(0)
    for label in ("normal", "fractured"):
        (root / label).mkdir(parents=True)
        for i in range(40):
            picture = 130 + 60 * gaussian_filter(rng.normal(size=(48, 48)), 3) / 0.09
            if label == "fractured":
                picture[20:26, 8:40] = 5
            Image.fromarray(np.clip(picture, 1, 254).astype(np.uint8)).save(root / label / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory, xrays) -> dict[str, str]:
    """Environment of a run of its own, in which notebook 02 has been executed."""
    root = tmp_path_factory.mktemp("run")
    environment = {
        REPORTS: str(root),
        MODELS: str(root / "models"),
        "FRACTURELAB_CACHE": str(root / "cache"),
        "FRACTURELAB_OFFLINE": "1",
    }
    parameters = {"DATA": str(xrays), "SIZE": 32, "COPIES": 200, "COPIES_EPOCHS": 1, "EPOCHS": 2, "HARD": 8}
    failure = run_notebook(
        NOTEBOOKS / "02_cnn_from_scratch.ipynb", root / "02.ipynb", parameters=parameters, environment=environment
    )
    assert failure is None, failure
    return environment


def said(path: Path) -> str:
    """All that an executed notebook printed or displayed as text."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts.append(output.get("text", "") or data.get("text/markdown", "") or data.get("text/plain", ""))
    return "\n".join(parts)


def test_02_saves_both_networks_and_counts_the_leak(place, xrays):
    root = Path(place[REPORTS])
    assert "of the twenty" in said(root / "02.ipynb")
    honest, flawed = (read_card(root / "models" / "local" / f"{name}.keras") for name in ("v1", "v1-flawed"))
    assert not set(honest["train_hashes"]) & set(honest["val_hashes"])
    assert len(set(flawed["train_hashes"]) & set(flawed["val_hashes"])) > 20
    assert honest["input_size"] == 32
    assert {record["name"]: record["results"]["model"] for record in read_records(root / "results")}.items() >= {
        "02-v1": "v1",
        "02-v1-flawed": "v1-flawed",
    }.items()
    assert {"02-curves.png", "02-looks.png", "02-leak-plot.png"} <= {p.name for p in (root / "figures").iterdir()}


def test_02_evaluates_the_saved_networks_on_images_neither_has_seen(place, xrays, monkeypatch):
    root = Path(place[REPORTS])
    monkeypatch.setenv("FRACTURELAB_CACHE", place["FRACTURELAB_CACHE"])
    _, outside = prepare_with_external(xrays, size=32)
    from fracturelab.datasets import file_hashes
    from fracturelab.evaluation import evaluate

    for name in ("v1", "v1-flawed"):
        path = root / "models" / "local" / f"{name}.keras"
        card = read_card(path)
        assert not set(file_hashes(outside.paths)) & {*card["train_hashes"], *card["val_hashes"]}
        answers = predict(load_model(path), outside.images)
        found = evaluate(outside.labels, answers, threshold=card["threshold"], groups=outside.groups)
        assert card["metrics"][outside.name]["confusion_matrix"] == found.confusion_matrix


def test_03_saves_a_frozen_network_that_was_validated_on_the_images_of_v1(place, xrays):
    root = Path(place[REPORTS])
    few = {"SIZE": 32, "SIZES": [10, 20], "CONTROL": 10, "DRAWS": 1, "TUNED": 16, "TUNED_SIZE": 32, "TUNED_EPOCHS": 1}
    notebook = NOTEBOOKS / "03_resnet50_transfer_learning.ipynb"
    failure = run_notebook(notebook, root / "03.ipynb", parameters={"DATA": str(xrays), **few}, environment=place)
    assert failure is None, failure
    card = read_card(root / "models" / "local" / "v2.keras")
    assert card["weights"]["kind"] == "bundled"
    assert "ResNet50 starts from resnet50 weights" in said(root / "03.ipynb")
    v1 = read_card(root / "models" / "local" / "v1.keras")
    assert card["val_hashes"] == v1["val_hashes"]
    records = {record["name"]: record["results"] for record in read_records(root / "results")}
    assert records["03-v2"]["model"] == "v2"
    starts = records["03-starts"]
    assert {name: len(curve["value"]) for name, curve in starts["learning_curve"].items()} == {
        "random weights": 1,
        "v2": 2,
        "ImageNet": 2,
    }
    assert [len(found["loss"]) for found in starts["fine_tuning"].values()] == [2, 2]
