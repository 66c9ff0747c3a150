"""Pretraining: views follow from their seed, stores are whole or absent, a stopped run ends like one never stopped."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from scripts.pretraining import stores, views
from tests.tiny_backbone import TINY

SIZE = 40  # of the stored views; a multiple of stores.MAP_SIDE


def radiograph(seed=0, shape=(90, 60)):
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.uint8)
    image[10:80, 25:35] = 200
    return image + rng.integers(0, 20, shape, dtype=np.uint8)


def chunk(number):
    rng = np.random.default_rng(number)
    n = 24
    arrays = {
        "image": rng.integers(0, 255, (n, SIZE, SIZE), dtype=np.uint8),
        "fracture": np.tile([1, 0], n // 2).astype(np.int8),  # twins
        "maps": rng.integers(0, 255, (n, stores.MAP_SIDE, stores.MAP_SIDE, 2), dtype=np.uint8),
        "place": np.repeat(rng.random((n // 2, stores.MAP_SIDE, stores.MAP_SIDE)) < 0.05, 2, axis=0),
    }
    for name in ("kind", "region", "hardware", "cast"):
        arrays[name] = rng.integers(0, 2, n).astype(np.int8)
    arrays["maps"][..., 1] = 255 * arrays["place"] * arrays["fracture"][:, None, None]
    return arrays


@pytest.fixture
def phantoms(tmp_path):
    return stores.write_chunks(tmp_path / "phantoms", 2, chunk, settings={"n": 1}, label="t")


@pytest.fixture
def real(tmp_path):
    import pandas as pd
    from PIL import Image

    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for seed, path in enumerate(paths):
        Image.fromarray(radiograph(seed)).save(path)
    return views.Radiographs(pd.DataFrame({"path": list(map(str, paths)), "label": [0, 1, 0, 1, 0, 0]}))


def teach(size):
    """A small teacher with maps at strides 4 and 8, and their averages."""
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((size, size, 1))
    first = keras.layers.Conv2D(5, 3, 4, "same", activation="relu")
    second = keras.layers.Conv2D(7, 3, 2, "same", activation="relu")
    maps = {"teacher_4": (x := first(inputs)), "teacher_8": second(x)}
    pool = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(map_) for map_ in maps.values()])
    return keras.Model(inputs, {**maps, "teacher_pool": pool}, name="teacher")


def stages(run):
    return (
        run.Stage(0, "first", 32, 32, 1e-3, batch_size=8),
        run.Stage(1, "second", 32, 32, 1e-3, 0.5, 0.3, batch_size=8, window=0.5),
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


def test_a_close_view_shows_a_part_and_keeps_thin_lines():
    image = np.zeros((400, 400), np.uint8)
    image[:, 200:202] = 240  # as wide as half a pixel of the view
    turns = [np.random.default_rng(k) for k in range(60)]
    whole = [views.random_view(image, size=80, rng=rng).astype(float).max((0, 1)) for rng in turns]
    assert np.median(whole) > 40
    image[:] = 0
    image[150:250, 150:250] = 255
    shares = {
        zoom: np.max([(views.random_view(image, size=80, rng=rng, zoom=zoom) > 99).mean() for rng in turns])
        for zoom in (views.WHOLE, views.CLOSE)
    }
    assert shares[views.CLOSE] > 3 * shares[views.WHOLE]


def test_radiographs_are_told_apart_by_files_and_labels(real, tmp_path):
    import pandas as pd
    from PIL import Image

    def again(labels):
        return views.Radiographs(pd.DataFrame({"path": real.paths, "label": labels})).digest()

    before = real.digest()
    assert again(real.labels) == before and again(1 - real.labels) != before
    Image.fromarray(radiograph(9)).save(real.paths[0])
    assert again(real.labels) != before


def test_weights_of_other_settings_are_refused(phantoms, real, tmp_path, monkeypatch):
    from scripts.pretraining import bundle, run

    stage = run.Stage(0, "first", 32, 16, 1e-3, batch_size=8)
    common = {"backbone": "MobileNet", "options": {"alpha": 0.25}, "phantoms": phantoms}
    others = stores.write_chunks(tmp_path / "others", 1, chunk, settings={"n": 2}, label="t")
    weights = tmp_path / "some.weights.h5"
    weights.write_bytes(b"other weights")
    folder = tmp_path / "run"
    trained = []
    for name in ("build_student", "compile_student", "_load_by_name"):
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
        bundle.export(
            folder,
            [larger],
            backbone="MobileNet",
            options={"alpha": 0.25},
            name="n",
            origin="",
            licence="",
            into=tmp_path / "out",
        )
    for change, said in (
        ({"seed": 1}, "seed was 0, now 1"),
        ({"options": {"alpha": 0.5}}, "options.alpha was 0.25"),
        ({"phantoms": others}, "phantoms.n was 1, now 2"),
        ({"real": real}, "real was None, now"),
        ({"teacher": teach}, "teacher was None, now"),
        ({"weights_path": weights}, "weights was None, now"),
    ):
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

    from scripts.pretraining import student

    norms = [keras.layers.BatchNormalization(momentum=momentum) for momentum in (0.999, 0.9)]
    student.quicken_norms(keras.Sequential([keras.Input((4,)), *norms]))
    assert [norm.momentum for norm in norms] == [0.99, 0.9]


def test_a_chunk_that_was_not_finished_is_not_taken(tmp_path):
    folder = stores.write_chunks(tmp_path / "s", 1, chunk, settings={}, label="t")
    (folder / "00001.part-77").mkdir()
    np.save(folder / "00001.part-77" / "image.npy", np.zeros(3))
    assert len(stores.open_chunks(folder)) == 1


def test_batches_standardise_mirror_and_weigh(phantoms, real):
    from scripts.pretraining import run, student
    from scripts.pretraining.teacher import channel_statistics

    stage, teacher = stages(run)[1], teach(32)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf", teacher=teacher)
    fixed = {"phantoms": stores.open_chunks(phantoms), "real": real, "stage": stage, "seed": 0}
    plain = student.Batches(model, first=0, steps=8, **fixed)
    statistics = channel_statistics(teacher, (plain.undisturbed(index) for index in range(8)))
    settings = {**fixed, "teacher": teacher, "statistics": statistics}
    images, targets, weights = student.Batches(model, first=3, steps=2, **settings)[0]
    later = student.Batches(model, first=0, steps=5, **settings)[3]
    np.testing.assert_array_equal(images, later[0])
    assert images.shape == (8, 32, 32, 1) and images.min() >= 0 and images.max() <= 255
    assert set(targets) == set(model.output) and {"teacher_4", "teacher_8"} <= set(targets)
    # Four phantoms, then four real views: each teaches what it knows and no more; the teacher sees all, undisturbed.
    np.testing.assert_array_equal(weights["region"], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(weights["maps"][:4], 1 + student.FRACTURE_CELLS * targets["maps"][:4, ..., 1])
    assert (weights["maps"][4:] == 0).all()
    assert all((weights[name] == 1).all() for name in ("teacher_4", "teacher_8", "teacher_pool"))
    seen = teacher.predict_on_batch(plain.undisturbed(3))["teacher_8"]
    mean, deviation = statistics["teacher_8"]
    np.testing.assert_allclose(targets["teacher_8"] * deviation + mean, seen, atol=1e-3)
    assert np.abs(images - plain.undisturbed(3)).mean() > 1
    taught = student.Batches(model, first=0, steps=8, **settings)
    everything = np.concatenate([taught[k][1]["teacher_8"] for k in range(8)])
    assert abs(everything.mean()) < 0.01 and abs(everything[..., everything.std((0, 1, 2)) > 0.5].std() - 1) < 0.02


def test_labels_of_real_views_count_where_the_whole_is_seen(phantoms, real):
    from scripts.pretraining import run, student

    for window, known in ((0.0, True), (1.0, False)):
        stage = run.Stage(0, "one", 32, 80, 1e-3, 0.5, 0.3, batch_size=8, window=window)
        model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf")
        batches = student.Batches(
            model, phantoms=stores.open_chunks(phantoms), real=real, stage=stage, first=0, steps=3, seed=0
        )
        numbers = [number for step in range(3) for number in batches._numbers(step, 4, of=6)]
        assert sorted(numbers[:6]) == list(range(6)) and sorted(numbers[6:]) == list(range(6))
        for step in range(3):
            _, targets, weights = batches[step]
            labels = real.labels[batches._numbers(step, 4, of=6)]
            if known:
                np.testing.assert_array_equal(targets["fracture"][4:, 0], labels)
            expected = np.where(labels == 1, 2.5, 0.7) * stage.supervision * known
            np.testing.assert_allclose(weights["fracture"][4:], expected, rtol=1e-6)


def test_a_student_has_an_output_for_each_of_its_teacher():
    from scripts.pretraining import student

    model = student.build_student("MobileNet", size=64, options={"alpha": 0.25}, scaling="tf", teacher=teach(64))
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in model.output.items() if name.startswith("teacher")}
    assert shapes == {"teacher_4": (16, 16, 5), "teacher_8": (8, 8, 7), "teacher_pool": (12,)}


def test_a_teacher_gives_four_maps_and_what_a_probe_sees(tmp_path):
    from fracturelab.models.backbones import build_backbone
    from scripts.pretraining.teacher import build_teacher, teacher_digest

    build_backbone("MobileNet", input_size=32, options={"alpha": 0.25}).save_weights(path := tmp_path / "t.weights.h5")
    teacher = build_teacher(path, backbone="MobileNet", options={"alpha": 0.25}, size=64)
    images = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 1)).astype(np.float32)
    found = teacher.predict_on_batch(images)
    assert {name: values.shape[1:3] for name, values in found.items() if values.ndim == 4} == {
        "teacher_4": (16, 16),
        "teacher_8": (8, 8),
        "teacher_16": (4, 4),
        "teacher_32": (2, 2),
    }
    averages = [found[name].mean((1, 2)) for name in ("teacher_16", "teacher_32")]
    np.testing.assert_allclose(found["teacher_pool"], np.concatenate(averages, 1), rtol=1e-4, atol=1e-5)
    larger = build_teacher(path, backbone="MobileNet", options={"alpha": 0.25}, size=96)
    assert teacher_digest(larger) != teacher_digest(teacher)


def test_weights_to_start_from_are_taken_and_random_residuals_start_small(tmp_path):
    from fracturelab.models.backbones import build_backbone
    from scripts.pretraining import student

    base = build_backbone("ResNet50", input_size=32, scaling="tf")
    base.save_weights(path := tmp_path / "r.weights.h5")
    started = student.build_student("ResNet50", size=32, options=None, scaling="tf", weights_path=path)
    name = "conv2_block1_3_bn"
    for one, other in zip(started.get_layer(name).weights, base.get_layer(name).weights, strict=True):
        np.testing.assert_array_equal(one, other)
    fresh = student.build_student("ResNet50", size=32, options=None, scaling="tf")
    assert np.unique(fresh.get_layer(name).gamma) == np.float32(0.2)


@pytest.mark.parametrize("first", [1, pytest.param(0, marks=pytest.mark.long)])
@pytest.mark.usefixtures("eager")
def test_a_stopped_run_ends_like_one_that_was_not(first, phantoms, real, tmp_path, monkeypatch):
    from scripts.pretraining import bundle, run

    chain = stages(run)[first:]
    settings = {
        "backbone": "MobileNet",
        "options": {"alpha": 0.25},
        "phantoms": phantoms,
        "real": real,
        "teacher": teach,
        "stages": chain,
        "block": 2,
    }
    run.pretrain(tmp_path / "whole", **settings)

    original = run.Batches

    def broken(*args, **keywords):
        if keywords["stage"].name == "second" and keywords["first"] == 2:
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


@pytest.mark.usefixtures("tiny", "eager")
def test_exported_weights_give_the_features_of_the_run(phantoms, tmp_path):
    from fracturelab.models import weight_files
    from fracturelab.models.backbones import build_backbone
    from scripts.pretraining import bundle, run

    options: dict[str, object] = {}
    first = stages(run)[:1]
    run.pretrain(tmp_path / "run", backbone=TINY, options=options, phantoms=phantoms, stages=first)
    info = bundle.export(
        tmp_path / "run",
        first,
        backbone=TINY,
        options=options,
        name="tiny",
        origin="a test",
        licence="Apache-2.0",
        into=tmp_path / "weights",
    )
    said = json.loads((tmp_path / "weights" / "tiny.json").read_text())["recipe"]
    assert said.startswith("first: 32 views at 32 px") and "magnified" not in said
    described = tmp_path / "run" / "first.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"weights": "ab" * 32}))
    again = bundle.export(
        tmp_path / "run",
        first,
        backbone=TINY,
        options=options,
        name="more",
        origin="",
        licence="",
        into=tmp_path / "weights",
    )
    recipe = json.loads((tmp_path / "weights" / "more.json").read_text())["recipe"]
    assert again.sha256 == info.sha256 and recipe.startswith("from weights with sha256 abababababababab on; first: 32")
    model = build_backbone(TINY, input_size=32, options=options, scaling=info.scaling)
    weight_files.load_into(model, info.path, sha256=info.sha256)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    expected = bundle.pretrained_backbone(tmp_path / "run", first, backbone=TINY, options=options)(images)
    np.testing.assert_allclose(model(images), expected, atol=0.02)
    assert np.asarray(expected).std() > 0


def test_one_stage_of_the_recipe_alone(tmp_path, monkeypatch, capsys):
    from scripts.__main__ import main
    from scripts.pretraining import bundle, run

    asked = ["pretrain", "--work", str(tmp_path), "--only"]
    assert main([*asked, "both-160"]) == 2
    assert "one of phantoms-96, phantoms-128, phantoms-160. Received: both-160" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # no phantoms were made for nothing

    ran = []
    monkeypatch.setattr(bundle, "prepare_phantoms", lambda *args, **keywords: tmp_path)
    monkeypatch.setattr(run, "pretrain", lambda *args, stages, **keywords: ran.extend(stages))
    assert main([*asked, "phantoms-128", "--json"]) == 0
    assert ran == [run.recipe(real=False)[1]] and ran[0].size == 128
    assert json.loads(capsys.readouterr().out)["stages"] == ["phantoms-128"]


def test_twins_come_together_through_one_window_and_say_only_what_it_shows():
    from scripts.pretraining import run, student

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
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf")
    batches = student.Batches(model, phantoms=[phantom], stage=stage, first=0, steps=1, seed=0)
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
            for top in range(0, SIZE, cell)
            for left in range(0, SIZE, cell)
        )


def test_a_batch_holds_each_fracture_and_its_twin(phantoms):
    from scripts.pretraining import run, student

    stage = run.Stage(0, "half windows", 32, 64, 1e-3, batch_size=8, window=0.5)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf")
    chunks = stores.open_chunks(phantoms)
    batches = student.Batches(model, phantoms=chunks, stage=stage, first=0, steps=8, seed=0)
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


def test_a_stage_of_windows_weighs_cells_of_fractures_more(phantoms):
    from scripts.pretraining import run, student

    stage = run.Stage(0, "windows", 32, 16, 1e-3, batch_size=8, window=1.0)
    model = student.build_student("MobileNet", size=32, options={"alpha": 0.25}, scaling="tf")
    chunks = stores.open_chunks(phantoms)
    batches = student.Batches(model, phantoms=chunks, stage=stage, first=0, steps=1, seed=0)
    images, targets, weights = batches[0]
    assert images.shape == (8, 32, 32, 1)
    np.testing.assert_allclose(weights["maps"], 1 + student.FRACTURE_CELLS * targets["maps"][..., 1])
    assert (weights["hardware"] == 0).all() and (weights["fracture"] == 1).all()
