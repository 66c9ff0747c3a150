"""What stays of a fit: where its checkpoints lie while it runs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.training import Prepared, checkpoints
from fracturelab.training.checkpoints import work_folder
from fracturelab.training.saving import describe_data


@pytest.fixture
def prepared(tmp_path):
    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.png"))
        (tmp_path / f"{i}.png").write_bytes(bytes([i]) * 10)
    split = pd.array(["train", "train", "train", "val", "test", pd.NA], dtype="string")
    table = pd.DataFrame(
        {
            "path": paths,
            "label": pd.array([0, 1, 1, 0, 1, 0], dtype="Int64"),
            "group": list("aabbcd"),
            "split": split,
            "source": ["ward"] * 6,
        }
    )
    pixels = np.zeros((6, 8, 8, 1), np.uint8)
    return Prepared(table, pixels, np.array([f"hash{i}" for i in range(6)]), pd.DataFrame({"path": [], "reason": []}))


def test_a_stopped_run_finds_its_folder_again_and_a_finished_one_leaves_nothing(tmp_path, prepared):
    with contextlib.suppress(KeyboardInterrupt), work_folder(tmp_path, prepared, {"seed": 1}) as first:
        (first / "state.json").write_text("{}")
        raise KeyboardInterrupt
    with work_folder(tmp_path, prepared, {"seed": 1}) as again:
        assert again == first
        assert (again / "state.json").exists()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_another_version_of_the_code_begins_anew(tmp_path, prepared, monkeypatch):
    folders = set()
    for code in ("one version", "another"):
        monkeypatch.setattr(checkpoints, "code_digest", lambda code=code: code)
        with work_folder(tmp_path, prepared, {"seed": 1}) as folder:
            folders.add(folder)
    assert len(folders) == 2


def test_another_seed_split_or_label_is_another_run(tmp_path, prepared):
    moved = replace(prepared, table=prepared.table.assign(split="train"))
    relabelled = replace(prepared, table=prepared.table.assign(label=pd.array([1, 0, 1, 0, 1, 0], dtype="Int64")))
    folders = set()
    for data, seed in ((prepared, 1), (prepared, 2), (moved, 1), (relabelled, 1)):
        with work_folder(tmp_path, data, {"seed": seed}) as folder:
            folders.add(folder)
    assert len(folders) == 4


def test_two_equal_runs_at_once_do_not_share_a_folder(tmp_path, prepared):
    with work_folder(tmp_path, prepared, {"seed": 1}) as first:
        (first / "mine").write_text("1")
        with work_folder(tmp_path, prepared, {"seed": 1}) as second:
            assert second != first
            assert not list(second.iterdir())
        assert not second.exists()
        assert (first / "mine").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, prepared):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FracturelabError, match="cannot be written"), work_folder(tmp_path / "file", prepared, {}):
        pass


def test_the_description_counts_each_part_and_lists_what_was_seen(prepared):
    found = describe_data(prepared)
    assert found["parts"] == {
        "train": {"n": 3, "fractured": 2},
        "val": {"n": 1, "fractured": 0},
        "test": {"n": 1, "fractured": 1},
    }
    assert found["train_hashes"] == ["hash0", "hash1", "hash2"]
    assert found["val_hashes"] == ["hash3"]
    assert (found["source"], found["n"]) == ("ward", 6)


def test_a_fit_is_saved_with_its_card_and_shown_in_one_line(tmp_path, prepared):
    from fracturelab.models.cnn import build_cnn
    from fracturelab.training.fitting import Fit

    data = replace(prepared, images=np.zeros((6, 32, 32, 1), np.uint8))
    scores = {"v1": {"val_loss": 0.6, "val_auc": 0.75}}
    history = pd.DataFrame({"loss": [0.7]})
    fit = Fit(build_cnn(input_size=32, filters=(2,)), data, 0.4, history, scores, "v1", None, {"recipe": "v1"}, 1.0, 3)
    card = json.loads(fit.save(tmp_path / "mine.keras", evaluations={}).with_suffix(".json").read_text())
    assert (card["name"], card["threshold"], card["seed"], card["input_size"]) == ("mine", 0.4, 3, 32)
    assert card["train_hashes"] == ["hash0", "hash1", "hash2"]
    assert repr(fit) == "Fit(v1: v1, validation AUC 0.750, threshold 0.400)"
    assert repr(data) == "Prepared(32 px; train 3, val 1, test 1; 3 normal, 3 fractured)"
    with pytest.raises(FracturelabError, match="Received: nothing, which has none"):
        fit.evaluate("nothing")
