from dataclasses import replace

import keras
import numpy as np
import pytest

from fracturelab.datasets.fractures import Fractures
from fracturelab.errors import FracturelabError
from fracturelab.explanations.gradcam import GradCam
from fracturelab.models.files import load_model, save_model
from fracturelab.models.maps import CELLS, average_heads, with_maps_head
from fracturelab.models.transfer import build_transfer_model, freeze_line, set_norm_moments
from fracturelab.models.weights import resolve
from fracturelab.training import maps
from fracturelab.training.epochs import Schedule
from fracturelab.training.features import FeatureStore
from fracturelab.training.prepare import prepare_arrays
from tests.tiny_backbone import TINY

pytestmark = pytest.mark.usefixtures("tiny")

SHORT = Schedule(epochs=8, learning_rate=1e-2, dropout=0.2, patience=None, plateau=None, batch_size=8)


@pytest.fixture(scope="module")
def transfer(spots):
    keras.utils.set_random_seed(0)
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        model = build_transfer_model(TINY, weights=None, input_size=64)
    set_norm_moments(model, spots[0].images[:32])
    return model


@pytest.fixture(scope="module")
def spots():
    """Dark squares; the fractured ones have a bright spot, and a mask says where."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.integers(20, 60, (48, 64, 64, 1)).astype(np.uint8)
    masks = np.zeros((48, 64, 64), np.uint8)
    for row in np.flatnonzero(labels):
        top, left = rng.integers(0, 3, 2) * 16
        images[row, top : top + 16, left : left + 16] = 250
        masks[row, top : top + 16, left : left + 16] = 1
    prepared = prepare_arrays(images, labels, np.arange(48), source="spots", val=0.34, seed=0)
    return prepared, masks


@pytest.fixture(scope="module")
def trained(transfer, spots, tmp_path_factory):
    prepared, masks = spots
    fractures = Fractures(masks, [], np.ones(len(masks), bool))
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    stored = maps.store_maps(transfer, prepared, fractures, views=2, store=store, progress=False)
    head = maps.fit_head(transfer, stored, prepared, schedule=SHORT, progress=False)
    return stored, head


def logits(model, images):
    p = np.clip(np.asarray(model(images.astype(np.float32))), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def test_the_soft_maximum_is_that_of_the_cells(transfer):
    model = with_maps_head(transfer)
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    parts = keras.Model(model.input, [model.get_layer(CELLS).output, model.get_layer("pooled_and_cells").output])
    cells, features = (np.asarray(part, np.float64) for part in parts(image))
    expected = -np.log1p(np.exp(2 * cells).sum((1, 2, 3)))
    np.testing.assert_allclose(features[:, -1], expected, rtol=1e-4)


def test_a_size_whose_maps_do_not_fit_is_refused():
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        transfer = build_transfer_model(TINY, weights=None, input_size=80)
    with pytest.raises(FracturelabError, match="that 32 divides. Received: 80"):
        with_maps_head(transfer)


def test_training_lowers_the_loss_and_the_fit_is_scored(trained):
    losses = [row["loss"] for row in trained[1].history]
    assert losses[-1] < 0.8 * losses[0]
    assert 0 <= trained[1].val_auc <= 1 and trained[1].val_loss > 0


def test_masks_move_with_their_view(trained, spots):
    masks, stored = spots[1], trained[0]
    expected = masks.reshape(-1, 4, 16, 4, 16).mean((2, 4)) > 0.5
    np.testing.assert_array_equal(stored.cells[0][..., 0] == 1, expected)
    np.testing.assert_array_equal(stored.cells[1][..., 0] == 1, expected[:, :, ::-1])


def test_cells_that_are_not_known_do_not_count():
    truth = np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1, 1)
    loss = np.asarray(maps.cell_loss(truth, np.zeros((3, 1, 1, 1))))[:, 0, 0, 0]
    np.testing.assert_allclose(loss, np.array([5, 1, 0]) * np.log(2), rtol=1e-6)


def test_one_seed_gives_one_head(transfer, trained, spots):
    stored, head = trained
    again = maps.fit_head(transfer, stored, spots[0], schedule=SHORT, progress=False)
    for ours, theirs in zip(again.model.get_weights(), head.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("eager")
def test_heads_are_averaged(transfer, trained, spots):
    stored, head = trained
    other = maps.fit_head(transfer, stored, spots[0], schedule=replace(SHORT, epochs=2), seed=1, progress=False)
    models, images = [head.model, other.model], spots[0].images[:4]
    one = average_heads(transfer, [head.model, head.model])
    np.testing.assert_allclose(logits(one, images), logits(head.model, images), rtol=1e-3, atol=1e-3)
    both = average_heads(transfer, models)
    cells = [np.asarray(keras.Model(m.input, m.get_layer(CELLS).output)(images)) for m in (*models, both)]
    np.testing.assert_allclose(cells[2], (cells[0] + cells[1]) / 2, rtol=1e-4, atol=1e-4)
    # The soft maximum is taken over averaged cells, so that Grad-CAM's maps are averaged nearly, not exactly.
    heats = [GradCam(model)(images)[1].ravel() for model in (*models, both)]
    assert np.corrcoef(heats[0] + heats[1], heats[2])[0, 1] > 0.99


def test_last_blocks_are_trained_from_the_head(transfer, trained, spots, tmp_path):
    stored, head = trained
    line = freeze_line(transfer, narrow=True)
    once = replace(SHORT, epochs=1)
    tuned = maps.fit_last_blocks(head.model, stored, spots[0], seed=0, schedule=once, progress=False)
    names = [operation.name for operation in head.model.operations]
    changed = {
        layer.name
        for layer, before in zip(tuned.model.layers, head.model.layers, strict=True)
        if any((a != b).any() for a, b in zip(layer.get_weights(), before.get_weights(), strict=True))
    }
    assert changed and all(names.index(name) > names.index(line) for name in changed)
    assert "tiny_convolution_32" in changed and "tiny_norm_32" not in changed
    path = save_model(tuned.model, tmp_path / "maps.keras", {})
    images = spots[0].images[:3].astype(np.float32)
    np.testing.assert_array_equal(np.asarray(load_model(path)(images)), np.asarray(tuned.model(images)))


@pytest.mark.usefixtures("eager")
def test_the_fit_names_its_map_and_keeps_no_activations(spots, tmp_path):
    prepared, masks = spots
    info = resolve(TINY, None)
    fractures = Fractures(masks, [], np.ones(len(masks), bool))
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        fit = maps.train_maps(
            prepared, fractures, weights=info, views=1, store=FeatureStore(tmp_path / "store"), progress=False
        )
    assert set(fit.candidates) == {"maps", "maps, last blocks"} and fit.chosen in fit.candidates
    assert not list((tmp_path / "store").glob("*.npy"))
    assert fit.model.get_layer(fit.recipe["map"]).output.shape == (None, 4, 4, 1)
