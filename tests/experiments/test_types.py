"""Training on fracture types: what is prepared, and that both frameworks learn, stop and repeat themselves."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.datasets import read_dataset
from fracturelab.errors import FracturelabError
from fracturelab.experiments.types import TYPES, prepare_types, score_types, train_types_cnn
from fracturelab.experiments.types_torch import train_types_torch
from fracturelab.models import types_torch
from fracturelab.training.epochs import predict
from fracturelab.training.saving import describe_data, evaluate_parts, record_fit

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=types_torch.HOW_TO_GET_IT)
KINDS = {"Oblique fracture": 20, "Spiral fracture": 100, "Hairline Fracture": 180}
FAST = replace(TYPES, epochs=4, batch_size=16, dropout=0.0, learning_rate=3e-3)
TINY = {"schedule": FAST, "block_dropout": 0.0}


def picture(seed: int, grey: int) -> Image.Image:
    """A smooth picture of its own, brighter or darker by its class."""
    coarse = np.random.default_rng(seed).integers(0, 70, (6, 6)) + grey
    return Image.fromarray(coarse.astype(np.uint8)).resize((40, 36), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The public ten-class layout with three classes, `Oblique fracture/Train/...` and `.../Test/...`."""
    root = tmp_path_factory.mktemp("types") / "Bone Break Classification"
    for number, (name, grey) in enumerate(KINDS.items()):
        for part, count in (("Train", 16), ("Test", 5)):
            (root / name / part).mkdir(parents=True)
            for i in range(count):
                picture(1000 * number + 100 * (part == "Test") + i, grey).save(root / name / part / f"{i}.png")
    (root / "Spiral fracture" / "Train" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    # A training image that is a copy of a test image.
    (root / "Oblique fracture" / "Train" / "copy.png").write_bytes(
        (root / "Oblique fracture" / "Test" / "0.png").read_bytes()
    )
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    with pytest.warns(UserWarning, match="1 images are left out: their group"):
        return prepare_types(read_dataset(folder), size=32, cache_dir=tmp_path_factory.mktemp("cache"))


def test_a_copy_in_the_test_part_is_not_trained_on_even_as_another_patient(folder, tmp_path):
    table = read_dataset(folder)
    table["group"] = pd.array([f"p{row}" for row in range(len(table))], dtype="string[python]")
    with pytest.warns(UserWarning, match="1 images are left out: their group"):
        prepare_types(table, size=32, cache_dir=tmp_path)


def test_the_published_test_part_stays_and_nothing_of_it_is_trained_on(prepared, folder):
    assert prepared.class_names == ("hairline", "oblique", "spiral")
    test = prepared.table.iloc[prepared.rows("test")]
    assert len(test) == 15
    assert all("/Test/" in path for path in test["path"])
    trained = {Path(path).name for path in prepared.paths("train") + prepared.paths("val")}
    assert "copy.png" not in trained
    assert [Path(path).name for path in prepared.unreadable["path"]] == ["cut.png"]
    for part in ("train", "val", "test"):
        assert set(prepared.labels[prepared.rows(part)]) == {0, 1, 2}
    labels = dict(zip(prepared.table["path"], prepared.labels, strict=True))
    assert labels[str(folder / "Spiral fracture" / "Test" / "1.png")] == 2


def test_the_description_counts_types(prepared):
    parts = describe_data(prepared)["parts"]
    assert parts["test"] == {"n": 15, "classes": {"hairline": 5, "oblique": 5, "spiral": 5}}


def test_too_few_types_are_refused(folder):
    table = read_dataset(folder)
    with pytest.raises(FracturelabError, match="at least 3 fracture types.*Received: oblique, spiral"):
        prepare_types(table[table["kind"] != "hairline"], size=32, cache_dir=False)
    with pytest.raises(FracturelabError, match="none with a known type"):
        prepare_types(table.assign(kind=pd.NA), size=32, cache_dir=False)
    missing = table[~((table["kind"] == "spiral") & (table["split"] == "test"))]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(FracturelabError, match="none of spiral"):
        prepare_types(missing, size=32, cache_dir=False)


def test_keras_learns_and_is_recorded(prepared, tmp_path):
    fit = train_types_cnn(prepared, seed=0, **TINY)
    assert fit.history["loss"].iloc[-1] < fit.history["loss"].iloc[0]
    found = evaluate_parts(fit)
    rows = prepared.rows("test")
    right = predict(fit.model, prepared.images, rows=rows).argmax(1) == prepared.labels[rows]
    assert found["test"]["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    probabilities, scores = score_types(fit)["test"]
    np.testing.assert_array_equal(probabilities.argmax(1) == prepared.labels[rows], right)
    assert scores.to_dict() == found["test"]
    from fracturelab.records import compare_records, read_record

    record = read_record(record_fit("05-keras", fit, evaluations=found, folder=tmp_path))
    assert record["results"]["parameters"] == fit.model.count_params()
    assert record["results"]["ms_per_image"] > 0
    table = compare_records([record])
    main = table[table["main"]].set_index("part")
    assert set(main["metric"]) == {"accuracy"} and set(main["parameters"]) == {fit.model.count_params()}
    assert main.loc["test", "n"] == len(prepared.rows("test"))


@needs_torch
def test_torch_learns_repeats_itself_and_its_twin_answers_the_same(prepared):
    import torch

    state = torch.get_rng_state()
    fit = train_types_torch(prepared, seed=0, **TINY)
    assert torch.equal(torch.get_rng_state(), state)
    assert fit.recipe["largest_difference"] < 1e-4
    assert fit.history["loss"].iloc[-1] < fit.history["loss"].iloc[0]
    again = train_types_torch(prepared, seed=0, **TINY)
    pd.testing.assert_frame_equal(again.history, fit.history)
    for ours, theirs in zip(again.model.get_weights(), fit.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_torch
def test_torch_ends_with_its_best_epoch(prepared, monkeypatch):
    from fracturelab.experiments import types_torch as types

    losses = iter([0.9, 0.5, 0.7, 0.8, 0.6, 0.1])
    answers: list[np.ndarray] = []
    ask = types.torch_probabilities
    monkeypatch.setattr(types, "torch_probabilities", lambda *a, **k: answers.append(ask(*a, **k)) or answers[-1])
    real = types.validation_scores
    monkeypatch.setattr(types, "validation_scores", lambda labels, p: (next(losses), real(labels, p)[1]))
    fit = train_types_torch(
        prepared, seed=1, schedule=replace(FAST, epochs=6, patience=3, plateau=2), block_dropout=0.0
    )
    assert fit.history["val_loss"].tolist() == [0.9, 0.5, 0.7, 0.8, 0.6]
    rates = fit.history["learning_rate"] / FAST.learning_rate
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.3])
    np.testing.assert_allclose(predict(fit.model, prepared.images, rows=prepared.rows("val")), answers[1], atol=1e-4)


def test_without_torch_nothing_is_trained(prepared, monkeypatch):
    monkeypatch.setattr("fracturelab.models.types_torch.torch_is_here", lambda: False)
    with pytest.raises(FracturelabError, match=r"requirements/torch\.txt"):
        train_types_torch(prepared, **TINY)
