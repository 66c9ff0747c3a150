import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import load_model, save_model
from fracturelab.models.inference import in_openvino
from fracturelab.models.transfer import FEATURES, build_transfer_model, freeze_line, split_at
from fracturelab.models.weights import resolve
from fracturelab.pipeline import augment, image_seeds
from fracturelab.training import (
    FINE_TUNING,
    FROM_SCRATCH,
    FeatureStore,
    Prepared,
    Schedule,
    choose,
    epochs,
    features,
    fitting,
    set_seed,
    train_v1,
    train_v2,
    v2,
)
from tests.tiny_backbone import TINY

pytestmark = pytest.mark.usefixtures("tiny")
SMALL = {"weights": resolve(TINY, None), "progress": False}
TUNED = {"views": 3, "schedule": replace(FINE_TUNING, epochs=2, learning_rate=1e-3)}


def made_up(n=60, size=32, seed=0):
    """Grey noise with a bright bar where fractured: learnable, and small."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(20, 120, (n, size, size, 1)).astype(np.uint8)
    for index in np.flatnonzero(labels):
        row = rng.integers(size // 4, size // 2)
        images[index, row : row + 6] = 250
    split = np.array(["train"] * (n // 2) + ["val"] * (n // 4) + ["test"] * (n - n // 2 - n // 4))
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "label": pd.array(labels, dtype="Int64"),
            "group": pd.array([str(i) for i in range(n)], dtype="string"),
            "split": pd.array(split, dtype="string"),
            "source": "made up",
        }
    )
    hashes = np.array([f"{seed}-{i:060d}" for i in range(n)])
    return Prepared(table, images, hashes, pd.DataFrame({"path": [], "reason": []}))


@pytest.fixture(scope="module")
def prepared():
    return made_up()


def quiet(train, *arguments, **keywords):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RANDOM WEIGHTS")
        return train(*arguments, **keywords)


@pytest.fixture(scope="module")
def fitted(prepared, tmp_path_factory):
    return quiet(train_v2, prepared, store=FeatureStore(tmp_path_factory.mktemp("stores")), **TUNED, **SMALL)


def test_parts_of_prepared(prepared):
    images, labels, groups = prepared.part("val")
    assert (len(images), len(labels), len(groups)) == (15, 15, 15)
    assert prepared.paths("val")[0] == "30.png"
    assert prepared.size == 32
    np.testing.assert_array_equal(images, prepared.images[30:45])


LONGER = {"schedule": replace(FROM_SCRATCH, epochs=4), "progress": False}


@pytest.fixture(scope="module")
def from_scratch(prepared):
    return train_v1(prepared, seed=3, **LONGER)


def test_v1_learns_and_its_seed_matters(prepared, from_scratch):
    other = train_v1(prepared, seed=2, schedule=replace(FROM_SCRATCH, epochs=1), progress=False)
    losses = from_scratch.history["loss"].tolist()
    assert other.history["loss"].iloc[0] != losses[0]
    assert losses[3] < losses[0]
    assert 0 <= from_scratch.threshold <= 1
    assert from_scratch.weights is None


def test_v1_shows_as_many_images_of_each_class(monkeypatch):
    shown = []

    def spy(model, epoch_data, validate, **arguments):
        shown.extend(label for _, labels in epoch_data(0).as_numpy_iterator() for label in labels)
        return [{"stage": "v1"}]

    monkeypatch.setattr(fitting, "run_epochs", spy)
    uneven = made_up()
    table = uneven.table.copy()
    table.loc[:20, "label"] = 0
    train_v1(Prepared(table, uneven.images, uneven.hashes, uneven.unreadable), progress=False)
    assert (len(shown), sum(shown)) == (30, 15)


def test_v2_is_never_worse_than_its_probe(fitted):
    scores = {name: found["val_auc"] for name, found in fitted.candidates.items()}
    assert set(scores) == {"probe", "fine-tuned"}
    assert scores[fitted.chosen] == max(scores.values())
    assert fitted.history["stage"].tolist() == ["probe", "fine-tuned", "fine-tuned"]
    assert fitted.weights.kind == "none"


@pytest.mark.parametrize(
    ("probe", "tuned", "chosen"),
    [
        (0.8, 0.9, "fine-tuned"),
        (0.9, 0.8, "probe"),
        (0.8, 0.8, "probe"),
        (None, None, "probe"),
        (None, 0.6, "fine-tuned"),
    ],
)
def test_the_better_candidate_wins(probe, tuned, chosen):
    pair = [v2.Candidate("probe", None, 0.5, probe, []), v2.Candidate("fine-tuned", None, 0.5, tuned, [])]
    assert choose(pair).name == chosen


def test_v2_repeats_itself(prepared, fitted, tmp_path):
    again = quiet(train_v2, prepared, store=FeatureStore(tmp_path), **TUNED, **SMALL)
    assert again.candidates == fitted.candidates
    pd.testing.assert_frame_equal(again.history, fitted.history)
    for ours, theirs in zip(again.model.get_weights(), fitted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_random_weights_are_said_loudly(prepared, tmp_path):
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        fit = train_v2(prepared, schedule=replace(FINE_TUNING, epochs=0), store=FeatureStore(tmp_path), **SMALL)
    assert fit.chosen == "probe"
    assert set(fit.candidates) == {"probe"}


def test_fitted_model_predicts_the_same_after_saving(prepared, fitted, tmp_path):
    expected = epochs.predict(fitted.model, prepared.images)
    path = save_model(fitted.model, tmp_path / "v2.keras", {})
    np.testing.assert_array_equal(epochs.predict(load_model(path), prepared.images), expected)
    np.testing.assert_allclose(epochs.predict(fitted.model, prepared.images, batch_size=7), expected, atol=1e-6)


def transfer_model():
    set_seed(0)
    return quiet(build_transfer_model, TINY, weights=None, input_size=32)


@pytest.mark.parametrize("runtime", ["tensorflow", "openvino"])
def test_stored_features_are_the_whole_models(prepared, tmp_path, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    model = transfer_model()
    trunk, top = split_at(model, freeze_line(model))
    rows = prepared.rows("train")
    parts = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output), "line": trunk}
    found = features.compute(
        parts,
        prepared,
        rows=rows,
        views=3,
        seed=5,
        half=("line",),
        runtime=runtime,
        store=FeatureStore(tmp_path),
        progress=False,
    )
    images = prepared.images[rows].astype(np.float32)
    random = augment(images, seeds=image_seeds(seed=5, epoch=2, images=rows), augmentation=None)
    for view, pixels in enumerate([images, images[:, :, ::-1], np.asarray(random)]):
        np.testing.assert_allclose(found[FEATURES][view], parts[FEATURES](pixels, training=False), atol=1e-4)
        answers = top(found["line"][view].astype(np.float32), training=False)
        np.testing.assert_allclose(answers, model(pixels, training=False), atol=2e-3)
    assert found["line"][0].dtype == np.float16


def test_openvino_converts_a_network_once_for_its_weights():
    pytest.importorskip("openvino")
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, kernel_initializer="ones")(inputs))
    batch = np.ones((2, 4, 4, 1), np.float32)
    first = in_openvino(model)
    np.testing.assert_array_equal(first(batch)[0], batch)
    assert in_openvino(model) is first
    model.set_weights([3 * array for array in model.get_weights()])
    np.testing.assert_array_equal(in_openvino(model)(batch)[0], 3 * batch)


def test_stores_are_reused_and_never_mistaken(prepared, tmp_path, monkeypatch):
    model = transfer_model()
    parts = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output)}
    arguments = {"rows": prepared.rows("train"), "views": 2, "store": FeatureStore(tmp_path), "progress": False}
    first = features.compute(parts, prepared, **arguments)[FEATURES]
    made = sorted(os.listdir(tmp_path))
    assert len(made) == 2

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(features, "view_of", never)
        np.testing.assert_array_equal(features.compute(parts, prepared, **arguments)[FEATURES][1], first[1])
        for change in ({"rows": prepared.rows("val")}, {"views": 3}):
            with pytest.raises(AssertionError, match="computed again"):
                features.compute(parts, prepared, **{**arguments, **change})
        other = transfer_model()
        other.set_weights([array * 1.01 for array in other.get_weights()])
        with pytest.raises(AssertionError, match="computed again"):
            features.compute(
                {FEATURES: keras.Model(other.input, other.get_layer(FEATURES).output)}, prepared, **arguments
            )
        with pytest.raises(AssertionError, match="computed again"):
            features.compute(parts, made_up(seed=1), **arguments)
    assert sorted(os.listdir(tmp_path)) == made
    damaged = tmp_path / made[0]
    half = tmp_path / "half"
    half.write_bytes(damaged.read_bytes()[:200])
    os.replace(half, damaged)
    for found, expected in zip(features.compute(parts, prepared, **arguments)[FEATURES], first, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_store_follows_from_the_pixels_and_from_the_whole_network(prepared, tmp_path, monkeypatch):
    def network(scale=1 / 255, activation="relu"):
        inputs = keras.Input((32, 32, 1))
        x = keras.layers.Rescaling(scale)(inputs)
        x = keras.layers.Conv2D(2, 3, kernel_initializer="ones", activation=activation)(x)
        return {"seen": keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))}

    arguments = {"rows": prepared.rows("val"), "views": 1, "store": FeatureStore(tmp_path), "progress": False}
    first = features.compute(network(), prepared, **arguments)["seen"][0]
    assert first.max() > 1

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(features, "view_of", never)
        again = network()  # its layers have other names, which Keras counts up
        np.testing.assert_array_equal(features.compute(again, prepared, **arguments)["seen"][0], first)
        save_model(again["seen"], tmp_path / "m.keras", {})
        reloaded = {"seen": load_model(tmp_path / "m.keras")}
        np.testing.assert_array_equal(features.compute(reloaded, prepared, **arguments)["seen"][0], first)
    black = replace(prepared, images=np.zeros_like(prepared.images))
    assert features.compute(network(), black, **arguments)["seen"][0].max() == 0
    np.testing.assert_allclose(
        features.compute(network(scale=1.0), prepared, **arguments)["seen"][0], 255 * first, rtol=1e-5
    )
    assert features.compute(network(activation="tanh"), prepared, **arguments)["seen"][0].max() <= 1


def test_two_processes_of_one_number_do_not_write_one_file(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    reserved, written = features._reserved, []

    def spy(path, *rest):
        written.append(path)
        if len(written) == 1:  # another container computes the same meanwhile
            features.compute(parts, prepared, **arguments)
        return reserved(path, *rest)

    model = transfer_model()
    parts = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output)}
    arguments = {"rows": prepared.rows("val"), "views": 1, "store": FeatureStore(tmp_path), "progress": False}
    monkeypatch.setattr(features, "_reserved", spy)
    features.compute(parts, prepared, **arguments)
    assert len(set(written)) == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]
    leftover = tmp_path / "killed.tmp123"
    leftover.touch()
    os.utime(leftover, (1, 1))
    features._make_room(tmp_path, 0)
    assert not leftover.exists()


def test_stores_are_refused_where_there_is_no_room(prepared, tmp_path, monkeypatch):
    model = transfer_model()
    parts = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output)}
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    settings = {"store": FeatureStore(tmp_path), "progress": False}
    with pytest.raises(FracturelabError, match="need 0 MB, the disk has 0 MB"):
        features.compute(parts, prepared, rows=prepared.rows("train"), views=1, **settings)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("eager")
def test_the_cap_on_activations_is_kept(prepared, tmp_path, monkeypatch):
    sizes = []
    remove = features.remove

    def spy(stores):
        sizes.append(sum(Path(store.filename).stat().st_size for store in stores))
        remove(stores)

    monkeypatch.setattr(v2, "remove", spy)
    line = 2 * 2 * 16 * 2 * 45  # bytes of one view of 30 + 15 images in half precision
    for limit, kept in ((int(line * 1.5), 1), (line // 2, 0)):
        store, once = FeatureStore(tmp_path, limit=limit), replace(FINE_TUNING, epochs=1)
        fit = quiet(train_v2, prepared, schedule=once, store=store, **SMALL)
        assert fit.recipe["views_kept_for_fine_tuning"] == kept
        assert "fine-tuned" in fit.candidates
    assert len(sizes) == 1
    assert 0.9 * line < sizes[0] < 1.1 * line


class Stopped(Exception):
    """Stands for a kill."""


def test_a_stopped_run_goes_on_and_ends_the_same(prepared, from_scratch, tmp_path, monkeypatch):
    real, calls = epochs.validation_scores, []

    def stops(*found):
        calls.append(1)
        if len(calls) == 3:
            raise Stopped
        return real(*found)

    with monkeypatch.context() as patch:
        patch.setattr("fracturelab.training.fitting.validation_scores", stops)
        with pytest.raises(Stopped):
            train_v1(prepared, seed=3, work_dir=tmp_path, **LONGER)
    assert json.loads((tmp_path / "v1" / "state.json").read_text())["state"]["next"] == 2
    calls.clear()
    trained = []
    fit = keras.Model.fit
    monkeypatch.setattr(keras.Model, "fit", lambda self, *a, **k: trained.append(1) or fit(self, *a, **k))
    resumed = train_v1(prepared, seed=3, work_dir=tmp_path, **LONGER)
    assert len(trained) == 2
    pd.testing.assert_frame_equal(resumed.history, from_scratch.history)
    for ours, theirs in zip(resumed.model.get_weights(), from_scratch.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def scripted(losses, tmp_path, plateau=2):
    """Run epochs whose validation losses are given."""
    set_seed(0)
    model = build_cnn(input_size=32)
    epochs.compile_model(model, learning_rate=1e-3)
    images, labels = made_up().images[:8].astype(np.float32), made_up().labels[:8].astype(np.float32)
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    answers = iter(losses)
    snapshots = []

    def validate():
        snapshots.append(model.get_weights())
        return next(answers), 0.5

    history = epochs.run_epochs(
        model,
        lambda _: data,
        validate,
        stage="s",
        schedule=Schedule(epochs=len(losses), learning_rate=1e-3, dropout=0.0, patience=3, plateau=plateau),
        seed=0,
        work_dir=tmp_path,
        progress=False,
    )
    return model, history, snapshots


def test_best_epoch_is_what_remains(tmp_path):
    model, history, snapshots = scripted([0.7, 0.5, 0.6, 0.9, 0.8, 0.1], tmp_path)
    assert [row["val_loss"] for row in history] == [0.7, 0.5, 0.6, 0.9, 0.8]
    np.testing.assert_allclose([row["learning_rate"] for row in history], [1e-3] * 4 + [3e-4], rtol=1e-5)
    for weight, best in zip(model.get_weights(), snapshots[1], strict=True):
        np.testing.assert_array_equal(weight, best)
    assert len(list(tmp_path.glob("s/*.weights.h5"))) == 2


def test_without_a_plateau_the_learning_rate_is_half_a_cosine(tmp_path):
    _, history, _ = scripted([0.7, 0.5, 0.6, 0.4], tmp_path, plateau=None)
    rates = [1e-3, 1e-3 * (1 + 0.5**0.5) / 2, 5e-4, 1e-3 * (1 - 0.5**0.5) / 2]
    np.testing.assert_allclose([row["learning_rate"] for row in history], rates, rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_training(tmp_path, happened):
    with pytest.warns(UserWarning, match="not finite"):
        model, history, snapshots = scripted([0.7, 0.6, float("nan"), 0.1], tmp_path)
    assert len(history) == 2
    for weight, best in zip(model.get_weights(), snapshots[1], strict=True):
        np.testing.assert_array_equal(weight, best)
    assert [row.get("warning", "") for row in history] == [
        "",
        "s: the loss of epoch 2 is not finite; training stops, the best epoch, 1, stands",
    ]
    _, resumed, _ = scripted([0.9, 0.9, 0.9, 0.9], tmp_path)  # what is stopped stays stopped, and says why
    assert resumed == history
    fit = fitting.finished_fit(model, made_up(), history, recipe={"recipe": "s"})
    assert fit.warnings == (history[1]["warning"],)
    happened("not-finite", "training stopped, the best epoch stands; said then, in the record and in the card")
    with pytest.raises(FracturelabError, match="from the first epoch"):
        scripted([float("inf")], tmp_path / "other")


def test_a_missing_class_is_refused(prepared):
    table = prepared.table.copy()
    table.loc[table["split"] == "val", "label"] = 0
    one = Prepared(table, prepared.images, prepared.hashes, prepared.unreadable)
    for train in (train_v1, train_v2):
        with pytest.raises(FracturelabError, match="validation images. Received: 15, none of class 1"):
            train(one, progress=False)


def test_scores_of_validation_are_scikit_learns():
    from sklearn.metrics import log_loss, roc_auc_score

    labels, probabilities = np.array([0, 1, 1, 0, 0, 0]), np.array([0.1, 0.8, 0.4, 0.5, 0.2, 0.3])
    loss, auc = epochs.validation_scores(labels, probabilities)
    weights = np.where(labels == 1, 2.0, 1.0)
    assert loss == pytest.approx(log_loss(labels, probabilities, sample_weight=weights))
    assert auc == pytest.approx(roc_auc_score(labels, probabilities))
    assert epochs.validation_scores([1, 1], np.array([0.5, 0.6]))[1] is None
    table = np.eye(3)[[0, 1, 2, 0]] * 0.7 + 0.1
    assert epochs.validation_scores([0, 1, 2, 0], table)[1] == 1.0
    assert np.isnan(epochs.validation_scores([0, 1], np.array([0.5, np.nan]))[0])


def test_an_epoch_on_stored_activations_is_an_epoch_of_the_whole_network(prepared, tmp_path):
    """The same batches, once as activations at the freeze line and once as images: the same weights come out."""
    from fracturelab.models.transfer import set_norm_moments, unfreeze

    trained = []
    rows, labels = prepared.rows("train"), prepared.labels
    for stored in (True, False):
        model = transfer_model()
        set_norm_moments(model, prepared.images[rows])
        line = freeze_line(model)
        trunk, top = split_at(model, line)
        unfreeze(model, after=line)
        network = top if stored else model
        network.compile(keras.optimizers.SGD(0.05), "binary_crossentropy")
        before = [np.array(weight) for weight in network.trainable_weights]
        settings = {"store": FeatureStore(tmp_path), "progress": False}
        stores = features.compute({"line": trunk}, prepared, rows=rows, views=2, **settings)["line"]
        inputs = (
            stores
            if stored
            else [
                features.view_of(prepared.images[rows], view=view, rows=rows, seed=0, augmentation=v2.VIEW_AUGMENTATION)
                for view in (0, 1)
            ]
        )
        losses = [
            network.train_on_batch(inputs[view][start : start + 10], labels[rows][start : start + 10])
            for view in (0, 1)
            for start in range(0, 30, 10)
        ]
        after = [np.array(weight) for weight in network.trainable_weights]
        trained.append((losses, before, after))
    (losses, before, after), (whole_losses, _, whole_after) = trained
    np.testing.assert_allclose(losses, whole_losses, rtol=1e-4)
    assert max(np.abs(new - old).max() for old, new in zip(before, after, strict=True)) > 1e-3
    for ours, whole in zip(after, whole_after, strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-4)
