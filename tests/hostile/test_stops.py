"""Kills, full disks, folders that may not be written, and runs at once: nothing half done is taken for whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fracturelab.datasets import extract_archive
from fracturelab.errors import FracturelabError
from fracturelab.images import cache, load_image, load_images, store
from fracturelab.models.files import save_model
from fracturelab.prediction import load_predictor
from fracturelab.records import read_record, write_record
from fracturelab.training import Schedule, checkpoints
from tests.datasets.test_archives import make_zip
from tests.hostile.cases import plain, xray
from tests.hostile.test_files import FIXTURE, SIZE, stand_in
from tests.images.test_decode import as_nobody

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(40):
        Image.fromarray(xray(seed)).save(folder / f"{seed:02d}.png")
    return sorted(folder.iterdir())


def killed(child: Callable[[], object]) -> None:
    """Run a function in a child process that must end itself with SIGKILL."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def deadly(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The function, but its call number `at`, from 0, kills the process instead."""
    calls = iter(range(10**9))

    def call(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return call


def noting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The function, with the first argument of each call added to a list."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments[0])
        return function(*arguments, **keywords)

    return call


# --- kills ------------------------------------------------------------------------------------------------------------


def test_killed_while_caching(files, tmp_path, happened):
    expected = np.stack([load_image(path, SIZE) for path in files])
    for number, (place, name, at) in enumerate(
        ((cache, "load_image", 33), (store.os, "replace", 0), (store.os, "replace", 1))
    ):
        folder = tmp_path / str(number)

        def child(place: Any = place, name: str = name, at: int = at, folder: Path = folder) -> None:
            setattr(place, name, deadly(getattr(place, name), at))
            cache._ROUND = cache._THREADS = 1
            load_images(files, SIZE, cache_dir=folder)

        killed(child)
        assert not list(folder.glob("*.json"))  # nothing that could be taken for a finished cache
        again: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache, "load_image", noting(cache.load_image, again))
            np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=folder), expected)
        assert len(again) < len(files) or name == "replace"
        assert not list(folder.glob("*.partial*"))
    happened("kill-caching", "no cache was taken for whole; the next run had the same pixels")


def large_xrays(folder: Path, n: int, *, different: int) -> list[Path]:
    """Files that take a while to read."""
    folder.mkdir()
    for seed in range(n):
        Image.fromarray(xray(seed % different)).resize((512, 400)).save(folder / f"{seed:03d}.png")
    return sorted(folder.iterdir())


@pytest.mark.long
def test_killed_at_random_moments_while_caching(tmp_path, happened):
    files = large_xrays(tmp_path / "images", 400, different=40)
    code = (
        "import sys; from fracturelab.images import load_images; load_images(sys.argv[2:], 96, cache_dir=sys.argv[1])"
    )
    rng = np.random.default_rng(0)
    began = time.monotonic()
    expected = np.array(load_images(files, 96, cache_dir=False))
    whole = time.monotonic() - began
    for number in range(25):
        place = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", code, str(place), *map(str, files)])
        wait_for(lambda place=place, process=process: place.exists() or process.poll() is not None)
        time.sleep(rng.uniform(0, 1.2 * whole))
        process.kill()
        process.wait()
        np.testing.assert_array_equal(load_images(files, 96, cache_dir=place), expected)
        assert not list(place.glob("*.partial*"))
        shutil.rmtree(place)
    happened("long-kill-caching", "25 times the next run had the same pixels")


def wait_for(condition: Callable[[], object], *, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Copied:
    """Saves itself as a model does: by a copy of one that is there."""

    def __init__(self, extra: bytes = b"") -> None:
        self.extra = extra

    def save(self, path: Path) -> None:
        shutil.copy(FIXTURE / "model.keras", path)
        with open(path, "ab") as file:  # after a zip's end whatever follows is not looked at
            file.write(self.extra)


def test_killed_while_a_model_is_saved(tmp_path, happened):
    outcomes = set()
    for at in (0, 1):  # before the model, and before its card, is put in place
        path = save_model(Copied(), tmp_path / str(at) / "m.keras", {"threshold": 0.25, "name": "earlier"})  # type: ignore[arg-type]

        def child(path: Path = path, at: int = at) -> None:
            os.replace = deadly(os.replace, at)
            save_model(Copied(b"\0"), path, {"threshold": 0.5, "name": "new"})  # type: ignore[arg-type]

        killed(child)
        left = [one for one in path.parent.iterdir() if ".tmp" in one.name]
        assert len(left) == 1
        os.utime(left[0], (1, 1))  # a day later
        with stand_in():
            try:
                outcomes.add(load_predictor(path, runtime="keras").card["name"])
            except FracturelabError as error:
                outcomes.add(str(error).split(": ")[1].split(" (")[0])
            path = save_model(Copied(b"\0"), path, {"threshold": 0.5, "name": "new"})  # type: ignore[arg-type]
            assert load_predictor(path, runtime="keras").card["name"] == "new"
        assert sorted(one.name for one in path.parent.iterdir()) == ["m.json", "m.keras"]
    assert outcomes == {"earlier", "is not the file its card describes"}
    happened("kill-saving", "the earlier model answered, or one line refused a model without its own card")


# --- full disks -------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"
    }


def one_line(function: Callable[[], object], *words: str) -> str:
    with pytest.raises(FracturelabError) as caught:
        function()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


def fill(folder: Path, leave: int) -> None:
    """Fill a disk up to some bytes."""
    free = shutil.disk_usage(folder).free
    with open(folder / "ballast", "wb") as file:
        file.write(bytes(max(0, free - leave)))


def test_full_disks(files, small_disk, happened):
    kept = load_images(files[:4], SIZE, cache_dir=small_disk / "cache")
    write_record("run", kind="evaluation", results={"auc": 0.7}, folder=small_disk)
    save_model(Copied(), small_disk / "m.keras", {"threshold": 0.5})  # type: ignore[arg-type]
    fill(small_disk, 20_000)
    before = contents(small_disk)

    one_line(lambda: load_images(files, 256, cache_dir=small_disk / "cache"), "image cache", "No space left")
    assert contents(small_disk) == before
    np.testing.assert_array_equal(kept, np.stack([load_image(path, SIZE) for path in files[:4]]))
    happened("full-cache", "one line; the earlier cache is whole")

    large = {"values": list(range(20_000))}
    one_line(lambda: write_record("run", kind="evaluation", results=large, folder=small_disk), "run.json", "No space")
    assert contents(small_disk) == before
    assert read_record(small_disk / "run.json")["results"] == {"auc": 0.7}
    happened("full-record", "one line; the earlier record is whole")

    one_line(lambda: save_model(Copied(), small_disk / "m.keras", {}), "m.keras", "No space left")  # type: ignore[arg-type]
    assert contents(small_disk) == before

    archive = make_zip(small_disk.parent / "x.zip", {"a.png": os.urandom(400_000)})
    one_line(lambda: extract_archive(archive, small_disk / "out"), "unpacking needs")
    assert contents(small_disk) == before
    happened("full-archive", "one line; nothing is left behind")


# --- folders that may not be written ----------------------------------------------------------------------------------


def test_folders_that_may_not_be_written(files, happened):
    home = Path(tempfile.mkdtemp())
    try:
        sources = [shutil.copy(path, home) for path in files[:3]]
        write_record("run", kind="evaluation", results={"auc": 0.7}, folder=home)
        save_model(Copied(), home / "m.keras", {"threshold": 0.5})  # type: ignore[arg-type]
        archive = make_zip(home / "x.zip", {"a.png": plain()})
        for path in [home, *home.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = contents(home)

        def attempts() -> list[str]:
            said = []
            prepared = SimpleNamespace(table={"split": _Column()}, hashes=np.array(["a"]), labels=np.array([0]), size=8)
            from fracturelab.training.checkpoints import work_folder

            for attempt in (
                lambda: load_images(sources, SIZE, cache_dir=home / "cache"),
                lambda: write_record("run", kind="evaluation", results={}, folder=home),
                lambda: save_model(Copied(), home / "m.keras", {}),  # type: ignore[arg-type]
                lambda: work_folder(home, prepared, {}).__enter__(),  # type: ignore[arg-type]
                lambda: extract_archive(archive, home / "out"),
            ):
                try:
                    attempt()
                    said.append("written")
                except FracturelabError as error:
                    said.append(str(error))
            return said

        said = as_nobody(attempts)
        assert len(said) == 5
        for line in said:
            assert "cannot" in line
            assert "ermission denied" in line
            assert "\n" not in line
        assert contents(home) == before
        happened("read-only", "one line each; what was there is whole")
    finally:
        shutil.rmtree(home)


class _Column:
    """A table's column, as far as a work folder looks at it."""

    def fillna(self, _: str) -> _Column:
        return self

    def tolist(self) -> list[str]:
        return ["train"]


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_an_edited_checkpoint_is_named_and_not_used(tmp_path, happened):
    model = SimpleNamespace(save_weights=lambda path: Path(path).write_bytes(b"weights"))
    state = {
        "stage": "v1",
        "next": 2,
        "since": 0,
        "best": {"epoch": 1, "val_loss": 0.5},
        "stopped": False,
        "history": [{"epoch": 0}, {"epoch": 1}],
        "last": None,
    }

    def written() -> None:
        checkpoints.write_state(model, tmp_path, json.loads(json.dumps(state)))  # type: ignore[arg-type]

    written()
    assert checkpoints.read_state(tmp_path, "v1")["next"] == 2
    path = tmp_path / "state.json"
    for change in (
        lambda: path.write_text(path.read_text().replace('"val_loss": 0.5', '"val_loss": 0.1')),
        lambda: path.write_text(path.read_text()[:40]),
        lambda: path.write_text("[" * 100_000),
        lambda: path.write_text(path.read_text().replace("epoch0001", "../epoch0001")),
        lambda: (tmp_path / "epoch0001.weights.h5").write_bytes(b"weights of another"),
        lambda: (tmp_path / "epoch0001.weights.h5").unlink(),
    ):
        written()
        change()
        with pytest.warns(UserWarning, match=r"state\.json cannot be used .*trained from its first epoch"):
            assert checkpoints.read_state(tmp_path, "v1")["next"] == 0
    happened("checkpoint", "named, and trained from the first epoch")


# --- with TensorFlow --------------------------------------------------------------------------------------------------

EPOCHS = {"schedule": Schedule(4, 1e-3, dropout=0.4, patience=None, plateau=None), "progress": False, "seed": 3}
TRAIN = """
import os, signal, sys
from tests.training.test_recipes import made_up
from fracturelab.training import Schedule, fitting, train_v1
real, calls = fitting.validation_scores, []
def kills(*found):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*found)
fitting.validation_scores = kills
train_v1(made_up(), work_dir=sys.argv[1], **{settings})
"""


def test_killed_in_the_third_epoch_training_goes_on_and_ends_the_same(tmp_path, happened):
    import keras
    import pandas as pd

    from fracturelab.training import train_v1
    from tests.training.test_recipes import made_up

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    code = TRAIN.replace("{settings}", repr(EPOCHS))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((tmp_path / "v1" / "state.json").read_text())["state"]["next"] == 2
    trained: list[int] = []
    fit = keras.Model.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", lambda self, *a, **k: trained.append(1) or fit(self, *a, **k))
        resumed = train_v1(made_up(), work_dir=tmp_path, **EPOCHS)  # type: ignore[arg-type]
    assert len(trained) == 2
    never = train_v1(made_up(), **EPOCHS)  # type: ignore[arg-type]
    assert resumed.candidates == never.candidates
    assert resumed.threshold == never.threshold
    pd.testing.assert_frame_equal(resumed.history, never.history)
    for ours, theirs in zip(resumed.model.get_weights(), never.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    happened("kill-training", "two epochs were trained, not four; weights and metrics equal to the last digit")


def test_full_disks_while_keras_writes(small_disk, happened):
    from fracturelab.models.cnn import build_cnn
    from fracturelab.training import features
    from tests.training.test_recipes import made_up

    model = build_cnn(input_size=32)
    save_model(Copied(), small_disk / "m.keras", {"threshold": 0.5})  # type: ignore[arg-type]
    fill(small_disk, 300_000)
    before = contents(small_disk)
    one_line(lambda: save_model(model, small_disk / "m.keras", {"threshold": 0.1}), "m.keras", "cannot write")
    assert contents(small_disk) == before
    happened("full-model", "one line; the earlier model is whole")
    state: dict[str, Any] = {
        "stage": "v1",
        "next": 1,
        "since": 0,
        "best": {"epoch": 0, "val_loss": 0.5},
        "stopped": False,
        "history": [],
        "last": None,
    }
    (small_disk / "work").mkdir()
    one_line(lambda: checkpoints.write_state(model, small_disk / "work", state), "checkpoint cannot be written")
    assert contents(small_disk) == before
    happened("full-checkpoint", "one line")
    prepared = made_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_make_room", lambda folder, need: None)  # the disk fills after it was asked
        one_line(
            lambda: features.compute(
                {"scaled": _scaling(400)},
                prepared,
                rows=prepared.rows("train"),
                views=1,
                store=features.FeatureStore(small_disk),
                progress=False,
            ),
            "features cannot be written",
            "No space left",
        )
    assert contents(small_disk) == before
    happened("full-features", "one line")


def _scaling(times: int) -> Any:
    """A network whose answers take much room: the image, many times."""
    import keras

    inputs = keras.Input((32, 32, 1))
    return keras.Model(inputs, keras.layers.Conv2D(times, 1)(inputs))


# --- at length --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Forty-eight radiographs in class folders; a fractured one has a bright line across its shaft."""
    folder = tmp_path_factory.mktemp("home")
    for seed in range(48):
        place = folder / "xrays" / ("fractured" if seed % 2 else "normal")
        place.mkdir(parents=True, exist_ok=True)
        pixels = xray(seed)
        if seed % 2:
            pixels[40:46, 40:90] = 250
        Image.fromarray(pixels).save(place / f"{seed:02d}.png")
    return folder


def run(home: Path, name: str, *argv: object, kill: float | None = None) -> tuple[int, str]:
    """Run a command in a folder of its own, killed after so many seconds; its code and what it printed."""
    place = home / name
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fracturelab", *map(str, argv)]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if kill is not None:
        try:
            process.wait(kill)
        except subprocess.TimeoutExpired:
            process.kill()
    out, _ = process.communicate()
    return process.returncode, out


def scores(out: str) -> Any:
    """A command's answer without times and places."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            gone = ("seconds", "record", "model", "created", "ms_per_image")
            return {key: without(item) for key, item in value.items() if key not in gone}
        return [without(item) for item in value] if isinstance(value, list) else value

    return without(json.loads(out))


def killed_and_resumed(home: Path, argv: list[object], *, times: int, seed: int) -> None:
    """Run once whole; then kill a run so many times at random moments and let it end: the scores are the same."""
    began = time.monotonic()
    code, out = run(home, "whole", *argv)
    assert code == 0
    lasts = time.monotonic() - began
    rng = np.random.default_rng(seed)
    stopped = 0
    for number in range(times):
        killed_code, _ = run(home, f"killed {number}", *argv, kill=rng.uniform(0.2, 0.95) * lasts)
        stopped += killed_code == -signal.SIGKILL
        code, again = run(home, f"killed {number}", *argv)
        assert code == 0
        assert scores(again) == scores(out)
    assert stopped >= times // 2


@pytest.mark.long
def test_training_killed_at_random_moments(home, happened):
    argv = ["train", "v1", "--data", home / "xrays", "--out", "m.keras", "--size", 32, "--epochs", 12, "--json"]
    killed_and_resumed(home, argv, times=6, seed=1)
    happened("long-kill-training", "6 times the next run ended with the same scores")


@pytest.mark.long
def test_cross_validation_killed_at_random_moments(home, happened):
    argv = [
        "cross-validate",
        home / "xrays",
        "--recipe",
        "v1",
        "--folds",
        3,
        "--holdout",
        "none",
        "--size",
        32,
        "--epochs",
        3,
        "--threads",
        1,
        "--work",
        "work",
        "--json",
    ]
    (home / "folds").mkdir()
    killed_and_resumed(home / "folds", argv, times=4, seed=2)
    happened("long-kill-folds", "4 times the next run ended with the same scores")


@pytest.mark.long
def test_exports_killed_at_random_moments(home, happened):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from fracturelab.prediction.export import export_folder, read_export

    place = home / "export"
    place.mkdir()
    for name in ("model.keras", "model.json"):
        shutil.copy(FIXTURE / name, place)
    began = time.monotonic()
    assert run(home, "export", "export", "model.keras", "--json")[0] == 0
    lasts = time.monotonic() - began
    image = home / "xrays" / "normal" / "00.png"
    expected = json.loads(run(home, "export", "predict", "model.keras", image, "--json")[1])[0]["p_fracture"]
    rng = np.random.default_rng(3)
    for number in range(5):
        if number % 2:
            shutil.rmtree(export_folder(place / "model.keras"))
        run(home, "export", "export", "model.keras", "--json", kill=rng.uniform(0.3, 1.0) * lasts)
        code, out = run(home, "export", "predict", "model.keras", image, "--json")
        assert code == 0
        assert json.loads(out)[0]["p_fracture"] == pytest.approx(expected, abs=1e-4)
        if export_folder(place / "model.keras").is_dir():
            read_export(place / "model.keras")
    left = [path for path in place.iterdir() if path.name.startswith(".")]
    for path in left:
        os.utime(path, (1, 1))  # a day later
    assert run(home, "export", "export", "model.keras", "--json")[0] == 0
    assert not any(path.exists() for path in left)
    happened("long-kill-export", "5 times a whole export or none, and the same answers")


@pytest.mark.long
def test_six_runs_at_once_on_one_cache_of_which_two_are_killed(tmp_path, happened):
    files = large_xrays(tmp_path / "images", 300, different=50)
    expected = int(np.asarray(load_images(files, 96, cache_dir=False)).astype(int).sum())
    code = (
        "import sys; from fracturelab.images import load_images\n"
        "print(int(load_images(sys.argv[2:], 96, cache_dir=sys.argv[1]).astype(int).sum()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), *map(str, files)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    wait_for(lambda: any((tmp_path / "cache").glob("*.partial*")))
    for process in running[:2]:
        process.kill()
    sums = [process.communicate()[0] for process in running]
    assert {int(text) for text in sums[2:]} == {expected}
    assert int(load_images(files, 96, cache_dir=tmp_path / "cache").astype(int).sum()) == expected
    happened("long-two", "four had the same pixels; two were killed")


@pytest.mark.long
def test_training_on_a_folder_with_every_hostile_file(home, happened):
    from tests.hostile.cases import HOSTILE

    shutil.copytree(home / "xrays", home / "hostile xrays")
    for file in HOSTILE:
        (home / "hostile xrays" / "fractured" / file.name).write_bytes(file.make())
    code, out = run(
        home,
        "hostile",
        "train",
        "v1",
        "--data",
        home / "hostile xrays",
        "--out",
        "m.keras",
        "--size",
        32,
        "--epochs",
        2,
        "--json",
    )
    assert code == 0
    found = json.loads(out)
    bad = {file.name for file in HOSTILE if file.says}
    assert {Path(item["path"]).name for item in found["unreadable"]} == bad
    assert (home / "hostile" / "m.keras").is_file()
    assert read_record(Path(found["record"]))["data"]["unreadable"] == len(bad)
    happened("long-training", f"a model, a card and a record; {len(bad)} files left out and listed")
