import errno
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from fracturelab import records
from fracturelab.errors import FracturelabError
from fracturelab.evaluation import evaluate
from fracturelab.records import code_version, default_folder, plain, read_record, read_records, write_record
from fracturelab.records.files import EditedRecordError
from fracturelab.system.files import write_text


def _write(folder, name="v1-seed0", **changes):
    results = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.8, 0.9], threshold=0.5, n_bootstrap=20).to_record()
    given = {
        "kind": "evaluation",
        "results": results,
        "data": {"source": "clinic phantoms", "fingerprint": "ab12", "n": 4},
        "weights": {"name": "bundled"},
        "seed": 3,
        "seconds": 1.23456,
    }
    return write_record(name, folder=folder, **{**given, **changes})


def test_a_record_holds_what_repeats_the_run(tmp_path):
    path = _write(tmp_path / "new" / "results")
    assert path == tmp_path / "new" / "results" / "v1-seed0.json"
    record = read_record(path)
    assert (record["seed"], record["seconds"], record["kind"]) == (3, 1.23, "evaluation")
    assert record["data"]["fingerprint"] == "ab12"
    assert record["packages"]["numpy"] == np.__version__
    assert record["code"]["version"] == records.code_version()["version"]
    assert set(record["machine"]) == {"system", "processor", "cores"}
    assert record["results"]["metrics"]["roc_auc"]["value"] == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["v1-seed0.json"]


def test_a_record_names_no_place_and_no_person(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/Ada Lovelace")
    settings = {
        "data": tmp_path / "xrays",
        "out": Path("models/x.keras"),
        "text": str(tmp_path / "more xrays" / "a.png"),
        "note": "left out /mnt/hospital/patient7/a.png, see https://example.org/a/b and models/x.keras; 3/4 of them",
        "home": "read /home/Ada Lovelace/scans/b.png",
        "windows": r"from C:\Users\ada\scan.png",
    }
    written = read_record(_write(tmp_path, settings=settings))["settings"]
    assert written == {
        "data": "xrays",
        "out": "models/x.keras",
        "text": "a.png",
        "note": "left out a.png, see https://example.org/a/b and models/x.keras; 3/4 of them",
        "home": "read scans/b.png",
        "windows": "from scan.png",
    }
    assert os.uname().nodename not in (tmp_path / "v1-seed0.json").read_text().split('"')


def test_numbers_become_plain_and_what_is_undefined_null():
    found = plain(
        {"a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan"), "d": (np.bool_(True), None), 1: np.inf}
    )
    assert found == {"a": 0.5, "b": [1, 2], "c": None, "d": [True, None], "1": None}
    assert json.dumps(found, allow_nan=False)
    with pytest.raises(TypeError, match="Received: object"):
        plain({"a": object()})


def test_the_same_name_replaces(tmp_path):
    _write(tmp_path, seed=1)
    _write(tmp_path, seed=2)
    assert [record["seed"] for record in read_records(tmp_path)] == [2]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(FracturelabError, match="expected a record name"):
        _write(tmp_path, name=name)
    assert list(tmp_path.iterdir()) == []


def test_a_record_edited_by_hand_is_refused_by_name(tmp_path):
    path = _write(tmp_path)
    _write(tmp_path, name="v2-seed0")
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(EditedRecordError, match=r"v1-seed0\.json was changed"):
        read_record(path)
    with pytest.raises(EditedRecordError, match=r"v1-seed0\.json was changed"):
        read_records(tmp_path)


def test_other_line_ends_and_spaces_are_no_edit(tmp_path):
    path = _write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"  ", b"\t"))
    assert read_record(path)["seed"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a whole JSON"),
        ('{"format": 1, "name": "x"', "not a whole JSON"),
        ("[" * 100_000, "not a whole JSON"),
        ("[1, 2]", "not a record"),
        ('{"name": "x"}', "not a record"),
    ],
)
def test_broken_files_are_left_out_with_a_warning(tmp_path, content, message):
    _write(tmp_path)
    (tmp_path / "broken.json").write_text(content)
    with pytest.warns(UserWarning, match=message) as caught:
        found = read_records(tmp_path)
    assert [record["name"] for record in found] == ["v1-seed0"]
    assert "broken.json" in str(caught[0].message)


def test_binary_file_is_left_out_and_no_folder_is_no_record(tmp_path):
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.warns(UserWarning, match=r"image\.json"):
        assert read_records(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_records(tmp_path / "none") == []


def test_records_come_by_name(tmp_path):
    for name, kind in (("b", "training"), ("a", "evaluation"), ("c", "training")):
        _write(tmp_path, name=name, kind=kind)
    assert [record["name"] for record in read_records(tmp_path)] == ["a", "b", "c"]


def test_a_file_where_the_folder_should_be_is_one_clear_line(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(FracturelabError, match=r"cannot write .*v1-seed0\.json: .*Choose a folder") as caught:
        _write(tmp_path / "results")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "results").read_text() == "mine"


def test_a_full_disk_leaves_the_earlier_record_whole(tmp_path, monkeypatch):
    path = _write(tmp_path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FracturelabError, match="No space left on device"):
        _write(tmp_path, seed=99)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to give up root for the test")
def test_a_folder_without_write_permission():
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o555)
        child = os.fork()
        if child == 0:  # root may write anywhere: give it up, in a process of its own
            code = 3
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                write_text(folder / "a.json", "{}")
            except FracturelabError as error:
                code = 0 if "Permission denied" in str(error) else 4
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_outside_a_checkout_the_package_version_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("fracturelab.records.files.__file__", str(tmp_path / "a" / "b" / "c" / "files.py"))
    assert code_version() == {"version": records.code_version()["version"], "commit": None, "dirty": None}


def test_results_go_to_the_project_from_any_folder_within(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert default_folder() == tmp_path / "notebooks" / "reports" / "results"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "fracturelab"\n')
    assert default_folder() == tmp_path / "reports" / "results"
