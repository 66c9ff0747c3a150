import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fracturelab.errors import FracturelabError
from fracturelab.models.transfer import FEATURES, build_transfer_model
from fracturelab.training import head


def made_up(classes=2, n=160, features=12, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.normal(3, 2, (n, features)).astype(np.float32)
    labels = np.digitize(first[:, 0] + rng.normal(0, 1, n), np.quantile(first[:, 0], np.arange(1, classes) / classes))
    second = first + rng.normal(0, 0.1, first.shape).astype(np.float32)
    return [first, second], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_solution_is_scikit_learns(classes):
    views, labels = made_up(classes)
    rows = np.random.default_rng(1).permutation(160)[:110]
    ours = head.solve(views, labels, rows=rows, strength=0.1, classes=classes, tolerance=1e-12)
    both = np.concatenate([view[rows] for view in views])
    scaler = StandardScaler().fit(both)
    theirs = LogisticRegression(C=1 / (0.1 * len(both)), class_weight="balanced", max_iter=5000, tol=1e-9)
    theirs.fit(scaler.transform(both), np.tile(labels[rows], 2))
    expected = theirs.decision_function(scaler.transform(views[0])).reshape(160, -1)
    np.testing.assert_allclose(ours.logits(views[0]), expected, atol=3e-3)


def test_features_that_do_not_fit_in_memory_give_the_same(monkeypatch, tmp_path):
    views, labels = made_up()
    rows = np.arange(5, 150)
    expected = head.solve(views, labels, rows=rows, strength=0.1)
    monkeypatch.setattr(head, "_MEMORY", 0)
    monkeypatch.setattr(head, "_CHUNK", 13)
    np.save(tmp_path / "v.npy", views[1])
    mapped = [views[0], np.load(tmp_path / "v.npy", mmap_mode="r")]
    found = head.solve(mapped, labels, rows=rows, strength=0.1)
    np.testing.assert_allclose(found.logits(views[0]), expected.logits(views[0]), atol=2e-3)
    groups = np.arange(160) // 2
    strength, losses = head.cross_validated_strength(mapped, labels, groups, rows=rows)
    monkeypatch.undo()
    again, in_memory = head.cross_validated_strength(views, labels, groups, rows=rows)
    assert strength == again
    assert losses == pytest.approx(in_memory, abs=1e-3)


def test_strength_follows_how_much_the_features_tell():
    views, labels = made_up()
    noise = [np.random.default_rng(2).normal(size=view.shape).astype(np.float32) for view in views]
    groups, rows = np.arange(160), np.arange(160)
    told, _ = head.cross_validated_strength(views, labels, groups, rows=rows)
    nothing, losses = head.cross_validated_strength(noise, labels, groups, rows=rows)
    assert told < nothing == max(head.STRENGTHS)
    assert min(losses.values()) > 0.6


def test_folds_keep_groups_whole():
    # Copies of one image on both sides of a fold would make memorising, hence no regularisation, look best.
    rng = np.random.default_rng(0)
    originals = rng.normal(size=(40, 60)).astype(np.float32)
    labels = np.tile(np.arange(40) % 2, 4)
    copies = np.tile(originals, (4, 1)) + rng.normal(0, 0.01, (160, 60)).astype(np.float32)
    rows = np.arange(160)
    grouped, _ = head.cross_validated_strength([copies], labels, np.tile(np.arange(40), 4), rows=rows)
    leaky, _ = head.cross_validated_strength([copies], labels, rows, rows=rows)
    assert leaky < grouped


def test_too_few_groups_take_the_strongest():
    views, labels = made_up()
    groups = np.where(labels == 1, "one", np.arange(160).astype(str))
    assert head.cross_validated_strength(views, labels, groups, rows=np.arange(160)) == (max(head.STRENGTHS), {})


def test_features_that_sleep_in_training_do_not_shout_later():
    views, labels = made_up()
    views = [np.hstack([view, np.zeros((160, 1), np.float32)]) for view in views]
    found = head.solve(views, labels, rows=np.arange(160), strength=0.1)
    awake = views[0].copy()
    awake[:, -1] = 1
    np.testing.assert_allclose(found.logits(awake), found.logits(views[0]), atol=1e-6)


def test_one_class_is_refused():
    views, _ = made_up()
    with pytest.raises(FracturelabError, match="none of class 1"):
        head.solve(views, np.zeros(160, int), rows=np.arange(160), strength=1.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_keras_model_answers_as_the_head(classes):
    import keras

    with pytest.warns(UserWarning, match="RANDOM"):
        model = build_transfer_model(
            "MobileNet", weights=None, input_size=32, backbone_options={"alpha": 0.25}, classes=classes
        )
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 1)).astype(np.float32)
    features = np.asarray(keras.Model(model.input, model.get_layer(FEATURES).output)(images))
    found = head.solve([features], np.arange(30) % classes, rows=np.arange(30), strength=0.1, classes=classes)
    head.write_head(model, found)
    logits = found.logits(features)
    if classes == 2:
        expected = 1 / (1 + np.exp(-logits))
    else:
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model(images, training=False), expected, atol=1e-5)


def test_features_that_do_not_fit_in_memory_give_the_same_head(monkeypatch, tmp_path):
    views, labels = made_up(n=300)
    groups, rows = np.arange(300).astype(str), np.random.default_rng(2).permutation(300)[:240]
    stores = []
    for number, view in enumerate(views):
        np.save(tmp_path / f"{number}.npy", view)
        stores.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    loaded = []
    real = head._loaded

    def spy(*arguments, **keywords):
        found = real(*arguments, **keywords)
        loaded.append(isinstance(found[0][0], np.memmap))
        return found

    monkeypatch.setattr(head, "_loaded", spy)
    answers = []
    for memory in (2**28, 100):
        monkeypatch.setattr(head, "_MEMORY", memory)
        monkeypatch.setattr(head, "_CHUNK", 4096 if memory > 100 else 50)
        strength, losses = head.cross_validated_strength(stores, labels, groups, rows=rows, seed=1)
        answers.append((strength, losses, head.solve(stores, labels, rows=rows, strength=strength)))
        assert set(loaded) == {memory == 100}
        loaded.clear()
    (strength, losses, first), (other_strength, other_losses, second) = answers
    assert strength == other_strength
    assert losses == pytest.approx(other_losses, rel=1e-4)
    np.testing.assert_allclose(first.kernel, second.kernel, atol=1e-3)
