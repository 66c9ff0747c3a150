"""Archives, models, weights, cards, caches and records that want more than they say: refused by name, never run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from fracturelab import cli
from fracturelab.datasets import extract_archive
from fracturelab.errors import FracturelabError
from fracturelab.images import load_images
from fracturelab.models.files import check_model_file, read_card
from fracturelab.records import read_record, write_record
from fracturelab.records.files import EditedRecordError
from tests.datasets.test_archives import make_tar, make_zip
from tests.hostile import cases as hostile

FIXTURE = next((Path(__file__).parents[1] / "fixtures").glob("saved_by_*"))


# --- archives ---------------------------------------------------------------------------------------------------------

CLIMBING = ("../evil.png", "a/../../evil.png", "/tmp/evil.png", "..\\evil.png", "C:\\evil.png")


def refused_archive(archive: Path, home: Path) -> str:
    """Unpack what must be refused before anything is written, and return the one line that says why."""
    before = sorted(home.rglob("*"))
    with pytest.raises(FracturelabError) as caught:
        extract_archive(archive, home / "deep" / "out")
    assert sorted(home.rglob("*")) == before
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(archive), archive.name)


@pytest.mark.parametrize(("key", "make"), [("zip-climbs", make_zip), ("tar-climbs", make_tar)])
def test_members_that_climb(tmp_path, key, make, happened):
    for number, name in enumerate(CLIMBING):
        line = refused_archive(make(tmp_path / f"{number}", {"good.png": b"g", name: b"evil"}), tmp_path)
        assert "nothing was unpacked" in line
        assert "leaves the folder" in line
    happened(key, "refused, nothing was unpacked: the member leaves the folder")


def test_links_in_archives(tmp_path, happened):
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("inner")
            info.type, info.linkname = kind, "../outside"
            archive.addfile(info)
        assert "'inner' is a link or a device" in refused_archive(path, tmp_path)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
        archive.writestr("link/passwd", "x")
    assert "'link' is a link or a device" in refused_archive(path, tmp_path)
    for key in ("tar-links", "zip-links"):
        happened(key, "refused, nothing was unpacked: the member is a link or a device")


@pytest.mark.parametrize(
    ("key", "make"), [("zip-bomb", make_zip), ("tar-bomb", lambda path, files: make_tar(path, files, "w:gz"))]
)
def test_bombs(tmp_path, key, make, happened):
    path = make(tmp_path / "bomb", {f"{number}.png": bytes(11_000_000) for number in range(10)})
    assert path.stat().st_size < 1_000_000
    line = refused_archive(path, tmp_path)
    assert "as a bomb does" in line
    happened(key, "refused, nothing was unpacked: as a bomb does")


def test_a_member_that_lies_about_its_length(tmp_path, happened):
    path = make_zip(tmp_path / "x.zip", {"a.png": os.urandom(5000)})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FracturelabError):
        extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.zip"]
    happened("zip-lies", "refused; nothing is left behind")


def test_an_archive_for_a_folder(tmp_path, capsys, happened):
    path = make_zip(tmp_path / "x.zip", {"fractured/a.png": hostile.plain()})
    assert cli.main(["audit", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "unpack it first" in said.err
    happened("archive-audit", "one line that says to unpack it")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path) -> Path:
    for name in ("model.keras", "model.json"):
        shutil.copy(FIXTURE / name, tmp_path / name)
    return tmp_path / "model.keras"


def rewritten(path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Path:
    """A copy of a model whose members went through `change`."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    copy = path.with_name("changed.keras")
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in change(members).items():
            archive.writestr(member, content)
    copy.with_suffix(".json").write_text('{"threshold": 0.5}')
    return copy


def with_layer(path: Path, planted: dict[str, Any]) -> Path:
    """A copy whose third layer is another, or has this as its activation."""

    def change(members: dict[str, bytes]) -> dict[str, bytes]:
        config = json.loads(members["config.json"])
        layers = config["config"]["layers"]
        if "config" in planted and planted.get("module") == "keras.layers":
            layers[2].update(planted)
        else:
            layers[2]["config"]["activation"] = planted
        return {**members, "config.json": json.dumps(config).encode()}

    return rewritten(path, change)


def with_weights(path: Path, change: Callable[[h5py.File], None]) -> Path:
    def members(found: dict[str, bytes]) -> dict[str, bytes]:
        content = io.BytesIO(found["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change(file)
        return {**found, "model.weights.h5": content.getvalue()}

    return rewritten(path, members)


def refused_model(path: Path) -> str:
    """The one line that `fracturelab predict` says about a model that it must refuse before it imports TensorFlow."""
    image = path.with_name("image.png")
    image.write_bytes(hostile.plain())
    before = sorted(path.parent.iterdir())
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr("fracturelab.models.files.load_tensorflow", lambda: pytest.fail("TensorFlow was asked for"))
        assert cli.main(["predict", str(path), str(image)]) == 2
    assert sorted(path.parent.iterdir()) == before
    [line] = said.getvalue().splitlines()
    assert path.name in line
    with pytest.raises(FracturelabError):
        check_model_file(path)
    return line


LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "registered_name": None,
    "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAAAA=="}}},
}


def test_code_in_a_model(saved, happened):
    assert "Lambda" in refused_model(with_layer(saved, LAMBDA))
    happened("lambda", "refused: holds a Lambda, which can carry code")
    for module, name, config in (
        ("mine", "Mine", {}),
        ("os", "system", "touch planted"),
        ("builtins", "function", "print"),
        ("keras.utils", "get_file", {"fname": "x", "origin": "y"}),
        ("keras.config", "enable_unsafe_deserialization", {}),
    ):
        planted = {"module": module, "class_name": name, "config": config, "registered_name": name}
        line = refused_model(with_layer(saved, planted))
        assert f"holds {name} of {module}" in line
    happened("custom", "refused: holds it, a custom object or no part of a model")


def test_members_that_a_model_does_not_have(saved, happened):
    for name in ("../climbs.py", "/absolute.py", "assets/code.py"):
        line = refused_model(rewritten(saved, lambda members, name=name: {**members, name: b"import os"}))
        assert f"holds {name!r}, which a Keras model does not" in line
    happened("members", "refused: holds it, which a Keras model does not")
    large = rewritten(saved, lambda members: {**members, "config.json": b" " * (40 << 20)})
    assert "would unpack to" in refused_model(large)
    happened("keras-bomb", "refused: would unpack to more than a configuration may hold")


def test_old_formats_and_pickles(saved, happened):
    for name in ("old.keras", "old.h5"):
        path = saved.with_name(name)
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = np.void(pickle.dumps(hostile._Planted()))
        assert "HDF5 model, an old format that may hold code" in refused_model(path)
    happened("hdf5", "refused: an old format that may hold code")
    path = saved.with_name("pickled.keras")
    path.write_bytes(pickle.dumps(hostile._Planted()))
    assert "not a model" in refused_model(path)
    happened("pickled-model", "refused: not a model; nothing was executed")
    assert not Path("planted-by-a-pickle").exists()


def test_weights_that_are_more_than_arrays(saved, happened):
    def objects(file: h5py.File) -> None:
        kind = np.dtype([("code", h5py.special_dtype(vlen=np.dtype("uint8")))])
        file.create_dataset("planted", (1,), kind)[0] = (np.frombuffer(pickle.dumps(hostile._Planted()), np.uint8),)

    assert "is not a plain array" in refused_model(with_weights(saved, objects))
    happened("pickled-weights", "refused: is not a plain array; nothing was executed")

    def linked(file: h5py.File) -> None:
        file["more"] = h5py.ExternalLink("/etc/passwd", "/")

    assert "is a link" in refused_model(with_weights(saved, linked))
    happened("linked-weights", "refused: is a link")


def test_cards_that_are_none(saved, happened):
    card = saved.with_suffix(".json")
    for text in ("{", "[" * 100_000, "[]", '{"threshold": 2}', '{"threshold": "0.5"}', "\udcff", '{"threshold": NaN}'):
        card.write_text(text, errors="surrogateescape")
        with pytest.raises(FracturelabError, match=r"model\.json"):
            read_card(saved)
    happened("card", "refused by name; a card of another model by its checksum")


# --- caches and records -----------------------------------------------------------------------------------------------


def test_an_edited_cache(tmp_path, happened):
    paths = []
    for seed in range(6):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(hostile.xray(seed)).save(paths[-1])
    folder = tmp_path / "cache"
    expected = np.array(load_images(paths, 32, cache_dir=folder))

    def edited(manifest: Path, data: Path) -> None:
        manifest.write_text(manifest.read_text().replace('"size": 32', '"size": 33'))

    def lying(manifest: Path, data: Path) -> None:
        data.write_bytes(data.read_bytes()[:-1] + b"\x07")

    def pickled(manifest: Path, data: Path) -> None:
        np.save(data, np.array([hostile._Planted()], object), allow_pickle=True)

    for change in (edited, lying, pickled):
        [manifest], [data] = folder.glob("*.json"), folder.glob("*.npy")
        change(manifest, data)
        with pytest.warns(UserWarning, match=manifest.stem):
            np.testing.assert_array_equal(load_images(paths, 32, cache_dir=folder), expected)
    assert not Path("planted-by-a-pickle").exists()
    happened("cache", "named, and made again from the images; nothing was executed")


def test_an_edited_record(tmp_path, capsys, monkeypatch, happened):
    path = write_record("run", kind="evaluation", results={"auc": 0.7}, folder=tmp_path / "results")
    path.write_text(path.read_text().replace("0.7", "0.9"))
    with pytest.raises(EditedRecordError, match=r"run\.json was changed after the run that wrote it"):
        read_record(path)
    monkeypatch.setenv("FRACTURELAB_REPORTS", str(tmp_path))
    assert cli.main(["results"]) == 2
    assert "run.json was changed" in capsys.readouterr().err
    happened("record", "refused by name: it was changed after the run that wrote it")


# --- with TensorFlow --------------------------------------------------------------------------------------------------


def test_weights_of_the_wrong_shape_and_a_card_of_another_model(saved, happened):
    from fracturelab.models.files import load_model
    from fracturelab.prediction import load_predictor

    def other(file: h5py.File) -> None:
        name = next(name for name in file["layers"] if "dense" in name)
        variables = file["layers"][name]["vars"]
        del variables["0"]
        variables["0"] = np.zeros((2, 2), np.float32)

    with pytest.raises(FracturelabError, match=r"changed\.keras: cannot be loaded as a Keras model") as caught:
        load_model(with_weights(saved, other))
    assert "\n" not in str(caught.value)
    happened("shape", "refused: cannot be loaded as a Keras model")
    foreign = rewritten(saved, lambda members: {**members, "metadata.json": members["metadata.json"] + b" "})
    shutil.copy(saved.with_suffix(".json"), foreign.with_suffix(".json"))
    with pytest.raises(FracturelabError, match="is not the file its card describes"):
        load_predictor(foreign, runtime="keras")


@pytest.mark.parametrize(
    "folder", sorted((Path(__file__).parents[1] / "fixtures").glob("saved_by_*")), ids=lambda f: f.name
)
def test_a_model_saved_by_an_earlier_version_answers_as_it_did(folder, happened):
    from fracturelab.prediction import load_predictor

    predictor = load_predictor(folder / "model.keras", runtime="keras")
    expected = json.loads((folder / "expected.json").read_text())
    assert len(expected) >= 5
    assert np.ptp(list(expected.values())) > 0.05
    table = predictor.predict([folder / "images" / name for name in expected])
    np.testing.assert_allclose(table["probability"], list(expected.values()), atol=1e-4)
    assert (folder / "model.keras").stat().st_size < 1_000_000
    assert predictor.likeness is not None
    happened("version", "loads, and predicts the same")


def test_checking_a_model_file_does_not_import_keras():
    code = (
        "import sys; from fracturelab.models.files import check_model_file; check_model_file(sys.argv[1])\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(FIXTURE / "model.keras")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
