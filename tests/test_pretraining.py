"""Pretraining: views follow from their seed, stores are whole or absent, a stopped run ends like one never stopped."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.pretraining import stores, views

SIZE = 40  # of the stored views; a multiple of stores.MAP_SIDE


def radiograph(seed=0, shape=(90, 60)):
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.uint8)
    image[10:80, 25:35] = 200
    return image + rng.integers(0, 20, shape, dtype=np.uint8)


def chunk(number, *, teacher=False):
    rng = np.random.default_rng(number)
    n = 24
    arrays = {
        "image": rng.integers(0, 255, (n, SIZE, SIZE), dtype=np.uint8),
        "fracture": rng.integers(0, 2, n).astype(np.int8),
    }
    for name in ("kind", "region", "hardware", "cast"):
        arrays[name] = np.full(n, stores.UNKNOWN, np.int8) if teacher else rng.integers(0, 2, n).astype(np.int8)
    if teacher:
        arrays["number"] = np.arange(n, dtype=np.int32)
        arrays["teacher_map"] = rng.normal(3, 2, (n, 2, 2, 5)).astype(np.float16)
        arrays["teacher_pool"] = rng.normal(-1, 4, (n, 7)).astype(np.float16)
    else:
        arrays["maps"] = rng.integers(0, 255, (n, stores.MAP_SIDE, stores.MAP_SIDE, 2), dtype=np.uint8)
        arrays["fracture"] = np.tile([1, 0], n // 2).astype(np.int8)  # twins
        arrays["place"] = np.repeat(rng.random((n // 2, stores.MAP_SIDE, stores.MAP_SIDE)) < 0.05, 2, axis=0)
        arrays["maps"][..., 1] = 255 * arrays["place"] * arrays["fracture"][:, None, None]
    return arrays


@pytest.fixture
def two_stores(tmp_path):
    phantoms = stores.write_chunks(tmp_path / "phantoms", 2, chunk, settings={"n": 1}, label="t")
    real = stores.write_chunks(tmp_path / "real", 2, lambda k: chunk(k + 9, teacher=True), settings={"n": 2}, label="t")
    return phantoms, real


def stages(run):
    return (
        run.Stage(0, "first", 32, 32, 1e-3, batch_size=8),
        run.Stage(1, "second", 40, 48, 1e-3, 0.5, True, 0.3, batch_size=8),
    )


def test_a_view_follows_from_its_seed():
    image = radiograph()
    one = views.random_view(image, size=64, rng=np.random.default_rng([1, 2]))
    again = views.random_view(image, size=64, rng=np.random.default_rng([1, 2]))
    other = views.random_view(image, size=64, rng=np.random.default_rng([1, 3]))
    assert one.shape == (64, 64) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(int) - other).mean() > 1


def test_views_keep_the_bone_in_sight():
    image = radiograph()
    shown = [views.random_view(image, size=64, rng=np.random.default_rng(k)).max() > 90 for k in range(50)]
    assert all(shown)


def test_exposure_keeps_black_black():
    image = radiograph()
    image[:5] = 0
    for seed in range(20):
        assert views.expose(image, rng=np.random.default_rng(seed))[:5].max() == 0


def test_chunks_are_made_once_and_other_settings_are_refused(tmp_path):
    made = []

    def make(number):
        made.append(number)
        return chunk(number)

    stores.write_chunks(tmp_path / "s", 2, make, settings={"a": 1}, label="t")
    stores.write_chunks(tmp_path / "s", 3, make, settings={"a": 1}, label="t")
    assert made == [0, 1, 2]
    assert len(stores.open_chunks(tmp_path / "s")) == 3
    with pytest.raises(FracturelabError, match=r"other settings \(a was 1, now 2\)"):
        stores.write_chunks(tmp_path / "s", 3, make, settings={"a": 2}, label="t")


def test_two_processes_may_make_one_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)

    def make(number):
        stores.write_chunks(tmp_path / "s", 1, chunk, settings={}, label="t")  # another container, meanwhile
        return chunk(number)

    stores.write_chunks(tmp_path / "s", 1, make, settings={}, label="t")
    (found,) = stores.open_chunks(tmp_path / "s")
    np.testing.assert_array_equal(found["image"], chunk(0)["image"])
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["00000", stores.SETTINGS]


def test_views_of_other_images_or_another_teacher_are_refused(tmp_path, monkeypatch):
    import keras
    import pandas as pd
    from PIL import Image

    def teacher(activation="relu"):
        inputs = keras.Input((SIZE, SIZE, 1))
        middle = keras.layers.Conv2D(2, 3, 2, "same", kernel_initializer="ones", activation=activation)(inputs)
        return keras.Model(inputs, [middle, keras.layers.AveragePooling2D(2)(middle)])

    monkeypatch.setattr(stores, "CHUNK", 2)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for seed, path in enumerate(paths):
        Image.fromarray(radiograph(seed)).save(path)
    table = pd.DataFrame({"path": list(map(str, paths)), "label": pd.array([0, 1], dtype="Int64")})

    def write(table=table, teacher_=None):
        stores.write_real_views(tmp_path / "v", table, views=1, size=SIZE, seed=0, teacher=teacher_ or teacher())

    write()
    write()
    with pytest.raises(FracturelabError, match="teacher_weights was"):
        write(teacher_=teacher("tanh"))
    with pytest.raises(FracturelabError, match="images_sha256 was"):
        write(table.iloc[::-1])
    Image.fromarray(radiograph(7)).save(paths[0])
    with pytest.raises(FracturelabError, match="images_sha256 was"):
        write()
    described = tmp_path / "v" / stores.SETTINGS
    early = {
        k: v for k, v in json.loads(described.read_text()).items() if k not in ("images_sha256", "teacher_weights")
    }
    described.write_text(json.dumps(early))
    write()  # a folder of an earlier version, which did not say that much


def test_weights_of_other_settings_are_refused(two_stores, tmp_path, monkeypatch):
    from fracturelab.pretraining import bundle, run

    stage = run.Stage(0, "first", 32, 16, 1e-3, batch_size=8)
    common = {"backbone": "MobileNet", "options": {"alpha": 0.25}, "phantoms": two_stores[0], "real": None}
    folder = tmp_path / "run"
    trained = []
    for name in ("build_student", "soften_residuals", "quicken_norms", "compile_student", "_load_by_name"):
        monkeypatch.setattr(run, name, lambda *_, **__: None)
    monkeypatch.setattr(run, "run_stage", lambda _, stage, **__: run._checkpoint(folder, stage).touch())
    monkeypatch.setattr(run, "_save_weights", lambda _, path: (path.touch(), trained.append(path.name)))
    run.pretrain(folder, stages=[stage], **common)
    run.pretrain(folder, stages=[stage], **common)
    assert trained == ["first.weights.h5"]
    larger = replace(stage, images=1600)
    with pytest.raises(FracturelabError, match=r"'first' was made with other settings \(images was 16, now 1600\); go"):
        run.pretrain(folder, stages=[larger], **common)
    with pytest.raises(FracturelabError, match="images was 16, now 1600"):
        bundle.export(folder, [larger], backbone="MobileNet", options={"alpha": 0.25}, name="n", origin="", licence="",
                      into=tmp_path / "out")  # fmt: skip
    for change, said in (({"seed": 1}, "seed was 0, now 1"), ({"options": {"alpha": 0.5}}, "options.alpha was 0.25"),
                         ({"phantoms": two_stores[1]}, "phantoms.n was 1, now 2")):  # fmt: skip
        with pytest.raises(FracturelabError, match=said):
            run.pretrain(folder, stages=[stage], **{**common, **change})
    (folder / "first.weights.h5").unlink()
    with pytest.raises(FracturelabError, match="images was 16"):  # of a stage in progress too
        run.pretrain(folder, stages=[larger], **common)
    (folder / "first.weights.h5").touch()
    (folder / "first.json").write_text(json.dumps(asdict(stage)))  # as an earlier version wrote it
    run.pretrain(folder, stages=[stage], **{**common, "seed": 1})
    with pytest.raises(FracturelabError, match="images was 16"):
        run.pretrain(folder, stages=[larger], **common)
    assert trained == ["first.weights.h5"]


def test_norms_follow_a_short_run_and_quick_ones_stay():
    import keras

    from fracturelab.pretraining import student

    norms = [keras.layers.BatchNormalization(momentum=momentum) for momentum in (0.999, 0.9)]
    student.quicken_norms(keras.Sequential([keras.Input((4,)), *norms]))
    assert [norm.momentum for norm in norms] == [0.99, 0.9]


def test_a_chunk_that_was_not_finished_is_not_taken(tmp_path):
    folder = stores.write_chunks(tmp_path / "s", 1, chunk, settings={}, label="t")
    (folder / "00001.part-77").mkdir()
    np.save(folder / "00001.part-77" / "image.npy", np.zeros(3))
    assert len(stores.open_chunks(folder)) == 1


def test_batches_standardise_mirror_and_weigh(two_stores):
    from fracturelab.pretraining import run, student

    phantoms, real = (stores.open_chunks(folder) for folder in two_stores)
    stage = stages(run)[1]
    model = student.build_student(
        "MobileNet", size=stage.size, options={"alpha": 0.25}, scaling="tf", teacher=real[0]
    )  # fmt: skip
    statistics = student.teacher_statistics(real)
    settings = {"phantoms": phantoms, "real": real, "statistics": statistics, "stage": stage, "seed": 0}
    images, targets, weights = student.Batches(model, first=3, steps=2, **settings)[0]
    later = student.Batches(model, first=0, steps=5, **settings)[3]
    np.testing.assert_array_equal(images, later[0])
    assert images.shape == (8, 40, 40, 1) and images.min() >= 0 and images.max() <= 255
    # Four phantoms, then four real views: each teaches what it knows and no more.
    np.testing.assert_array_equal(weights["teacher_pool"], [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(weights["region"], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(weights["maps"][:4], 1 + student.FRACTURE_CELLS * targets["maps"][:4, ..., 1])
    assert (weights["maps"][4:] == 0).all()
    expected = np.where(targets["fracture"][4:, 0] == 1, 2.5, 0.7) * stage.supervision
    np.testing.assert_allclose(weights["fracture"][4:], expected, rtol=1e-6)
    everything = np.concatenate([c["teacher_pool"].astype(np.float32) for c in real])
    assert abs(((everything - statistics["teacher_pool_mean"]) / statistics["teacher_pool_std"]).std() - 1) < 0.01


@pytest.mark.parametrize("first", [1, pytest.param(0, marks=pytest.mark.long)])
@pytest.mark.usefixtures("eager")
def test_a_stopped_run_ends_like_one_that_was_not(first, two_stores, tmp_path, monkeypatch):
    from fracturelab.pretraining import bundle, run

    chain = stages(run)[first:]
    settings = {
        "backbone": "MobileNet", "options": {"alpha": 0.25}, "phantoms": two_stores[0], "real": two_stores[1],
        "stages": chain, "block": 2,
    }  # fmt: skip
    run.pretrain(tmp_path / "whole", **settings)

    original = run.Batches

    def broken(*args, **keywords):
        if keywords["stage"].name == "second" and keywords["first"] == 4:
            raise KeyboardInterrupt
        return original(*args, **keywords)

    monkeypatch.setattr(run, "Batches", broken)
    with pytest.raises(KeyboardInterrupt):
        run.pretrain(tmp_path / "stopped", **settings)
    monkeypatch.setattr(run, "Batches", original)
    run.pretrain(tmp_path / "stopped", **settings)

    logs = [
        [json.loads(x) for x in (tmp_path / f / "log.jsonl").read_text().splitlines()] for f in ("whole", "stopped")
    ]
    assert [(x["stage"], x["step"]) for x in logs[0]] == [(x["stage"], x["step"]) for x in logs[1]]
    models = [
        bundle.pretrained_backbone(tmp_path / f, chain, backbone="MobileNet", options={"alpha": 0.25})
        for f in ("whole", "stopped")
    ]
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


@pytest.mark.usefixtures("eager")
def test_exported_weights_give_the_features_of_the_run(two_stores, tmp_path):
    from fracturelab.models import weights
    from fracturelab.models.backbones import build_backbone
    from fracturelab.pretraining import bundle, run

    options = {"alpha": 0.25}
    first = stages(run)[:1]
    run.pretrain(
        tmp_path / "run", backbone="MobileNet", options=options, phantoms=two_stores[0], real=None, stages=first
    )
    info = bundle.export(
        tmp_path / "run", first, backbone="MobileNet", options=options, name="tiny", origin="a test",
        licence="Apache-2.0", into=tmp_path / "weights",
    )  # fmt: skip
    model = build_backbone("MobileNet", input_size=32, options=options, scaling=info.scaling)
    weights.load_into(model, info.path, sha256=info.sha256)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    expected = bundle.pretrained_backbone(tmp_path / "run", first, backbone="MobileNet", options=options)(images)
    np.testing.assert_allclose(model(images), expected, atol=0.02)
    assert np.asarray(expected).std() > 0


def test_twins_come_together_through_one_window_and_say_only_what_it_shows(two_stores):
    from fracturelab.pretraining import run, student

    phantom = chunk(0)
    maps = phantom["maps"]
    maps[...] = 0
    maps[:, 3:7, :, 0] = 200  # bone across the image
    maps[0, 5, 8, 1] = 255  # row 0 is broken there
    phantom["place"][:2] = maps[0, ..., 1] > 0
    phantom["kind"][:2] = 4
    phantom["image"][1] = phantom["image"][0]
    cell = SIZE // stores.MAP_SIDE
    phantom["image"][0, 5 * cell : 6 * cell, 8 * cell : 9 * cell] = 0
    stage = run.Stage(0, "windows", 5 * cell, 16, 1e-3, batch_size=8, window=1.0)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf", teacher=None)
    batches = student.Batches(
        model, phantoms=[phantom], real=[], statistics=None, stage=stage, first=0, steps=1, seed=0
    )
    batches.size = stage.size
    for seed in range(20):
        (broken, _), (whole, _) = batches._twins(phantom, 0, np.random.default_rng(seed))
        assert broken["image"].shape == (1, 5 * cell, 5 * cell) and broken["maps"].shape == (1, 10, 10, 2)
        assert (broken["fracture"][0], broken["kind"][0]) == (1, 4)
        assert (whole["fracture"][0], whole["kind"][0]) == (0, 0)
        assert broken["maps"][0, ..., 1].max() == 255 and whole["maps"][0, ..., 1].max() == 0
        assert whole["maps"][0, ..., 0].max() == 200
        assert (broken["image"] != whole["image"]).sum() <= cell * cell  # nothing but the fracture
        part = whole["image"][0]
        assert any(
            np.array_equal(part, phantom["image"][1, top : top + len(part), left : left + len(part)])
            for top in range(0, SIZE, cell) for left in range(0, SIZE, cell)
        )  # fmt: skip


def test_a_batch_holds_each_fracture_and_its_twin(two_stores):
    from fracturelab.pretraining import run, student

    stage = run.Stage(0, "half windows", 32, 64, 1e-3, batch_size=8, window=0.5)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf", teacher=None)
    phantoms = stores.open_chunks(two_stores[0])
    batches = student.Batches(model, phantoms=phantoms, real=[], statistics=None, stage=stage, first=0, steps=8, seed=0)
    whole = 0
    for step in range(8):
        _, targets, weights = batches[step]
        np.testing.assert_array_equal(targets["region"][::2] >= 0, targets["region"][1::2] >= 0)
        assert (targets["fracture"][1::2] == 0).all()
        assert (targets["fracture"][::2, 0] <= 1).all()
        whole += int(weights["hardware"].sum())
    assert 0 < whole < 64  # some pairs come whole, some through a window


def test_phantoms_are_written_as_twins(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "CHUNK", 4)
    folder = stores.write_phantoms(tmp_path / "p", count=4, size=80, seed=3, difficulty=(0.0, 0.2), zoom=(1.5, 2))
    (chunk_,) = stores.open_chunks(folder)
    np.testing.assert_array_equal(chunk_["fracture"], [1, 0, 1, 0])
    np.testing.assert_array_equal(chunk_["place"][::2], chunk_["place"][1::2])
    assert chunk_["place"].any((1, 2)).all()
    assert (chunk_["maps"][1::2, ..., 1] == 0).all()
    cell = 80 // stores.MAP_SIDE
    for k in (0, 2):
        difference = np.abs(chunk_["image"][k].astype(int) - chunk_["image"][k + 1])
        at = np.kron(chunk_["place"][k], np.ones((cell, cell), bool))
        assert difference[at].mean() > 5 * difference[~at].mean()


def test_a_stage_of_windows_weighs_cells_of_fractures_more(two_stores):
    from fracturelab.pretraining import run, student

    stage = run.Stage(0, "windows", 32, 16, 1e-3, batch_size=8, window=1.0)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf", teacher=None)
    phantoms = stores.open_chunks(two_stores[0])
    batches = student.Batches(model, phantoms=phantoms, real=[], statistics=None, stage=stage, first=0, steps=1, seed=0)
    images, targets, weights = batches[0]
    assert images.shape == (8, 32, 32, 1)
    np.testing.assert_allclose(weights["maps"], 1 + student.FRACTURE_CELLS * targets["maps"][..., 1])
    assert (weights["hardware"] == 0).all() and (weights["fracture"] == 1).all()


def test_real_views_stay_whole_beside_windows_of_phantoms(two_stores):
    from fracturelab.pretraining import run, student

    phantoms, real = (stores.open_chunks(folder) for folder in two_stores)
    stage = run.Stage(1, "mixed", 32, 16, 1e-3, 0.5, True, 0.3, batch_size=8, window=1.0)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf", teacher=real[0])
    statistics = student.teacher_statistics(real)
    batches = student.Batches(
        model, phantoms=phantoms, real=real, statistics=statistics, stage=stage, first=0, steps=1, seed=0
    )
    _, targets, weights = batches[0]
    # The teacher saw the whole of a real view, so its features are targets for the four real views alone.
    np.testing.assert_array_equal(weights["teacher_pool"], [0, 0, 0, 0, 1, 1, 1, 1])
    drawn = [chunk["teacher_pool"][row] for chunk, row in batches._draw(real, 0, 4)]
    expected = (np.array(drawn, np.float32) - statistics["teacher_pool_mean"]) / statistics["teacher_pool_std"]
    np.testing.assert_allclose(targets["teacher_pool"][4:], expected, rtol=1e-5)
    assert (weights["hardware"][:4] == 0).all()  # a window may not show it
