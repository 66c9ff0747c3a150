"""Cross-validation: who is on which side, what is kept of a stopped run, and what studies and folds add up to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from fracturelab.datasets import file_hashes, make_table, read_dataset
from fracturelab.errors import FracturelabError
from fracturelab.experiments import fold_process, folds
from fracturelab.experiments.fold_scores import SCORES, mixed_studies, record_folds, score_part
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.phantoms.studies import write_studies
from fracturelab.pipeline import Augmentation
from fracturelab.training import FINE_TUNING, FROM_SCRATCH, FeatureStore, Prepared, train_v2
from tests.tiny_backbone import TINY

SIZE = 32


def made_up(folder, *, patients=24, views=2) -> Prepared:
    """Patients with a study of some views each; a fractured one is brighter. A sixth of them is held out."""
    rows, images = [], []
    for patient in range(patients):
        for view in range(views):
            path = folder / f"{patient:02d}-{view}.png"
            path.write_bytes(bytes([patient, view]) * 20)
            split = {1: "test", 4: "test", 2: "val", 5: "val"}.get(patient % 12, "train")
            rows.append(
                {
                    "path": str(path),
                    "label": patient // 3 % 2,
                    "group": f"p{patient:02d}",
                    "split": split,
                    "study": "study1",
                    "source": "ward",
                }
            )
            noise = np.random.default_rng([patient, view]).integers(0, 90, (SIZE, SIZE, 1))
            images.append(noise + 100 * (patient // 3 % 2))
    table = make_table(rows)
    hashes = np.array(file_hashes(table["path"].tolist()))
    return Prepared(table, np.array(images, np.uint8), hashes, pd.DataFrame({"path": [], "reason": []}))


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "images").mkdir()
    return made_up(tmp_path / "images")


def answer_of(job) -> dict:
    """Stands for a fit: it answers from the files' checksums, so that everybody gets the same."""

    def said(side):
        rows = np.flatnonzero((job.table["split"] == side).fillna(False))
        return [(int(job.hashes[i][:6], 16) / 2**24 + job.table["label"].iloc[i]) / 2 for i in rows]

    return {
        "p_test": said("test"),
        "p_val": said("val"),
        "threshold": 0.45,
        "chosen": "v1",
        "candidates": {},
        "history": [{"epoch": 0}],
        "recipe": {},
        "weights": None,
        "seconds": 1.0,
        "warnings": [],
    }


@pytest.fixture
def fits(monkeypatch):
    """Names of the fits that were made, instead of making them."""
    made: list[str] = []

    def fit(job):
        made.append(job.name)
        return answer_of(job)

    monkeypatch.setattr(fold_process, "fit_in_process", fit)
    return made


def run(prepared, folder, **changes):
    return folds.cross_validate(prepared, **{"folds": 4, "recipe": "v1", "work_dir": folder, **changes})


def test_every_patient_is_on_one_side_and_tested_once(prepared):
    splits = folds.fold_splits(prepared, folds=4, seed=3)
    held = prepared.table["split"] == "test"
    assert list(splits) == ["fold 1", "fold 2", "fold 3", "fold 4", "holdout"]
    tested = np.zeros(len(held), int)
    for name, split in splits.items():
        side = np.array(split, object)
        patients = pd.Series(side).groupby(prepared.groups).nunique()
        assert (patients == 1).all()
        for part in ("train", "val", "test"):
            assert set(prepared.labels[side == part]) == {0, 1}
        if name == "holdout":
            np.testing.assert_array_equal(side == "test", held)
        else:
            assert set(side[held]) == {""}  # no fold sees the holdout
            tested += side == "test"
    np.testing.assert_array_equal(tested, ~held)
    assert folds.fold_splits(prepared, folds=4, seed=4) != splits


def test_folds_without_a_test_part_or_with_too_few_patients_are_refused(prepared):
    alone = replace(prepared, table=prepared.table.assign(split="train"))
    with pytest.raises(FracturelabError, match="expected a test part to hold out"):
        folds.fold_splits(alone, folds=4, seed=0)
    assert "holdout" not in folds.fold_splits(alone, folds=4, seed=0, holdout=False)
    with pytest.raises(FracturelabError, match="of 11 would have no"):
        folds.fold_splits(prepared, folds=11, seed=0)
    few = replace(prepared, table=prepared.table.assign(split=["train"] * 12 + ["test"] * 36))  # three patients a class
    with pytest.raises(FracturelabError, match="fold 1: expected both classes .* to choose by"):
        folds.fold_splits(few, folds=2, seed=0)


def test_scores_and_their_spread_are_those_of_scikit_learn(prepared, fits, tmp_path):
    found = run(prepared, tmp_path / "work")
    assert fits == ["fold 1", "fold 2", "fold 3", "fold 4", "holdout"]
    table = found.scores()
    for part in found.folds:
        labels, said = prepared.labels[part.rows], part.probabilities >= 0.45
        row = table.loc[part.name]
        assert row["roc_auc"] == pytest.approx(roc_auc_score(labels, part.probabilities))
        assert row["kappa"] == pytest.approx(cohen_kappa_score(labels, said))
        assert row["f1"] == pytest.approx(f1_score(labels, said))
    spread = found.spread()
    assert set(spread) == set(SCORES)
    assert spread["accuracy"].mean == pytest.approx(table["accuracy"].mean())
    assert spread["accuracy"].sd == pytest.approx(table["accuracy"].std(ddof=1))
    assert (
        sorted(np.concatenate([part.rows for part in found.folds]))
        == np.flatnonzero(prepared.table["split"] != "test").tolist()
    )


def test_a_study_is_the_mean_of_its_images(prepared, fits, tmp_path):
    found = run(prepared, tmp_path / "work")
    assert found.levels == ("images", "studies")
    part = found.folds[1]
    rows = prepared.table.iloc[part.rows].assign(p=part.probabilities).groupby("group")
    means, labels = rows["p"].mean(), rows["label"].first().astype(int)
    assert part.studies.n == len(means) == part.images.n // 2
    assert part.studies.metrics["roc_auc"].value == pytest.approx(roc_auc_score(labels, means))
    right = (means >= part.studies.threshold) == labels
    assert part.studies.metrics["accuracy"].value == pytest.approx(right.mean())


def test_images_of_no_study_or_of_mixed_studies_are_scored_as_images_alone(prepared, fits, tmp_path):
    none = replace(prepared, table=prepared.table.assign(study=pd.NA))
    assert run(none, tmp_path / "1").levels == ("images",)
    mixed = prepared.table.copy()
    mixed.loc[0, "label"] = 1 - mixed.loc[0, "label"]
    found = run(replace(prepared, table=mixed), tmp_path / "2")
    assert found.levels == ("images",)
    assert found.warnings == ("1 studies hold images of both labels: studies are not scored.",)
    assert mixed_studies(prepared) == []


def test_a_stopped_run_goes_on_at_the_first_missing_fold(prepared, tmp_path, monkeypatch):
    made: list[str] = []

    def stops(job):
        if job.name == "fold 3":
            raise KeyboardInterrupt
        made.append(job.name)
        return answer_of(job)

    monkeypatch.setattr(fold_process, "fit_in_process", stops)
    with pytest.raises(KeyboardInterrupt):
        run(prepared, tmp_path / "work")
    assert made == ["fold 1", "fold 2"]
    monkeypatch.setattr(fold_process, "fit_in_process", lambda job: made.append(job.name) or answer_of(job))
    said: list[str] = []
    found = run(prepared, tmp_path / "work", report=said.append)
    assert made == ["fold 1", "fold 2", "fold 3", "fold 4", "holdout"]
    assert said[0].endswith("fold 1, fold 2")
    fresh = run(prepared, tmp_path / "other")
    assert found.to_results() == fresh.to_results()
    assert len(made) == 10
    again = run(prepared, tmp_path / "work")
    assert len(made) == 10  # all of it was there
    assert again.to_results() == fresh.to_results()


def test_another_seed_setting_image_or_code_is_another_fold(prepared, fits, tmp_path, monkeypatch):
    work = tmp_path / "work"
    run(prepared, work)
    fits.clear()
    other = prepared.hashes.copy()
    other[0] = "0" * 64
    for data, changes in (
        (prepared, {"seed": 1}),
        (prepared, {"parallel": folds.Parallel(threads=1)}),
        (prepared, {"options": {"schedule": replace(FROM_SCRATCH, epochs=2)}}),
        (prepared, {"options": {"augmentation": Augmentation()}}),
        (replace(prepared, hashes=other), {}),
    ):
        run(data, work, **changes)
        assert len(fits) == 5, changes
        fits.clear()
    monkeypatch.setattr(fold_process, "code_digest", lambda: "another version")
    run(prepared, work)
    assert len(fits) == 5


def test_weights_of_another_scaling_are_another_fit(prepared, monkeypatch):
    info = WeightsInfo("w", "bundled", "MobileNet", "", "", "ab", "w.h5", scaling={"scale": 1.0, "offset": 0.0})
    other = replace(info, scaling={"scale": 1 / 255, "offset": 0.0})
    options = {"augmentation": {}, "schedule": asdict(FINE_TUNING)}
    job = job_of(prepared, weights=info, settings={"recipe": "v2", "options": options, "seed": 0})
    assert job.key != replace(job, weights=other).key
    monkeypatch.setattr(fold_process, "resolve", lambda *_: other)
    with pytest.raises(FracturelabError, match="are others on this worker"):
        fold_process._train(job, None, store=FeatureStore(), work_dir=None)


def test_a_fold_that_was_edited_is_named_and_fitted_again(prepared, fits, tmp_path):
    expected = run(prepared, tmp_path / "work").to_results()
    [path] = (tmp_path / "work").glob("fold-2-*.json")
    record = json.loads(path.read_text())
    record["results"]["answer"]["p_test"][0] = 0.999
    path.write_text(json.dumps(record))
    fits.clear()
    with pytest.warns(UserWarning, match="fold 2 is fitted again.*fold-2-"):
        found = run(prepared, tmp_path / "work")
    assert fits == ["fold 2"]
    assert found.to_results() == expected


def test_by_default_a_finished_run_leaves_only_its_record(prepared, fits, tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURELAB_REPORTS", str(tmp_path / "reports"))
    found = run(prepared, None)
    assert list((tmp_path / "reports" / "checkpoints").iterdir()) == []
    path = record_folds("cross-validation-x", found, folder=tmp_path / "results")
    record = json.loads(path.read_text())
    assert record["kind"] == "cross-validation"
    assert (record["data"]["in_folds"], record["data"]["held_out"], record["data"]["groups"]) == (40, 8, 24)
    assert set(record["results"]["evaluations"]) == {"holdout", "holdout, studies"}
    assert "p_test" not in record["results"]["folds"][0]["fit"]
    assert str(tmp_path) not in path.read_text()


def test_two_runs_in_one_folder_are_refused_and_so_is_a_place_that_cannot_be_written(prepared, fits, tmp_path):
    with folds._work_folder(tmp_path / "work", prepared, {}), pytest.raises(FracturelabError, match="another run"):
        run(prepared, tmp_path / "work")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FracturelabError, match="cannot be written"):
        run(prepared, tmp_path / "file")


def test_weights_that_saw_the_folds_are_said(prepared, fits, tmp_path):
    prepared = replace(prepared, table=prepared.table.assign(fixed="name"))
    info = WeightsInfo("small", "bundled", "ResNet50", "trained on FracAtlas", "CC BY 4.0", "0" * 64)
    found = run(prepared, tmp_path / "work", recipe="v2", weights=info)
    assert "scores on validation images or folds of them are too good" in found.warnings[0]
    with pytest.raises(FracturelabError, match="expected weights for v2 and none for v1"):
        run(prepared, tmp_path / "work", weights=info)


def job_of(prepared, **changes) -> fold_process.Job:
    settings = folds._settings(
        "v1", {"schedule": replace(FROM_SCRATCH, epochs=1)}, weights=None, folds=4, seed=0, threads=1
    )
    split = folds.fold_splits(prepared, folds=4, seed=0)["fold 1"]
    return replace(folds._job(prepared, "fold 1", split, settings, None, prepared.table["path"][0]), **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "another"}, "fold 1: fracturelab's code is another one where this fit runs"),
        ({"table": make_table([{"path": "/nowhere/1.png"}])}, "fold 1: this worker does not see .*1.png"),
        ({"hashes": np.array(["0" * 64])}, "fold 1: the images changed, or are others on this worker"),
        ({}, "fold 1: .*cannot be read|not an image"),  # these files are no images
    ],
)
def test_a_worker_that_cannot_do_the_same_says_so(prepared, change, words):
    with pytest.raises(FracturelabError, match=words):
        fold_process.fit_in_process(job_of(prepared, **change))


def test_a_fit_whose_process_is_killed_is_one_line(prepared):
    failed: list[Exception] = []

    def fit():
        try:
            fold_process.fit_in_process(job_of(prepared))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    while not fold_process._running:
        time.sleep(0.01)
    fold_process.stop()
    thread.join()
    assert "fold 1: its process was killed (signal 9)" in str(failed[0])


@pytest.mark.filterwarnings("ignore:RANDOM WEIGHTS")
@pytest.mark.usefixtures("tiny", "eager")
def test_shared_features_give_the_same_model_and_are_computed_once(prepared, tmp_path, monkeypatch):
    weights = resolve(TINY, "none")
    monkeypatch.setattr(
        "fracturelab.training.v2.set_norm_moments", lambda *_: None
    )  # it follows from the training part
    settings = {
        "weights": weights,
        "views": 3,
        "schedule": replace(FINE_TUNING, epochs=1),
        "progress": False,
        "augmentation": folds.FOLD_AUGMENTATION,
    }
    splits = folds.fold_splits(prepared, folds=4, seed=0)
    data = [
        replace(
            prepared, table=prepared.table.assign(split=pd.array([side or None for side in splits[name]], "string"))
        )
        for name in ("fold 1", "fold 2")
    ]
    own = train_v2(data[1], store=FeatureStore(tmp_path / "own"), **settings)
    train_v2(data[0], store=FeatureStore(tmp_path / "shared", shared=True), **settings)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").glob("*.npy")}
    assert len(made) == 3 + 3  # views of the features and of the activations
    shared = train_v2(data[1], store=FeatureStore(tmp_path / "shared", shared=True), **settings)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").glob("*.npy")} == made
    assert shared.recipe == own.recipe
    # Other batches, other rounding in half precision; the same images, views and order.
    np.testing.assert_allclose(shared.history["loss"], own.history["loss"], rtol=2e-3)
    np.testing.assert_allclose(shared.history["val_loss"], own.history["val_loss"], rtol=2e-3)


def test_a_part_is_scored_at_the_fits_own_threshold(prepared):
    split = folds.fold_splits(prepared, folds=4, seed=0)["fold 1"]
    part = score_part(prepared, "fold 1", split, {**answer_of(job_of(prepared)), "threshold": 0.0})
    assert part.images.metrics["recall"].value == 1.0
    assert part.images.metrics["specificity"].value == 0.0


def test_synthetic_studies_are_two_views_of_one_label_and_written_once(tmp_path):
    folder = write_studies(tmp_path / "set", patients=8, size=(60, 100))
    table = read_dataset(folder)
    assert table["group"].nunique() == 8
    assert table.groupby("group")["label"].nunique().max() == 1
    assert set(table.groupby("group").size()) == {2}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_studies(folder, patients=8, size=(60, 100)) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(FracturelabError, match="holds something else"):
        write_studies(folder, patients=9, size=(60, 100))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_is_held_out_is_said(prepared):
    table = prepared.table
    assert folds.with_holdout(table, "test")["split"].value_counts()["test"] == 8
    assert set(folds.with_holdout(table, "none")["split"].dropna()) == {"train", "val"}
    published = folds.with_holdout(table, "val")["split"]
    assert (published == "test").fillna(False).tolist() == (table["split"] == "val").tolist()
    with pytest.raises(FracturelabError, match="expected a published validation part"):
        folds.with_holdout(table.assign(split="train"), "val")
