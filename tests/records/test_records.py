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
from fracturelab.records import (
    EditedRecordError,
    code_version,
    default_folder,
    fill_markdown,
    plain,
    read_record,
    read_records,
    results_table,
    write_record,
    write_text,
)


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
        ('{"format": 99, "name": "x", "kind": "y", "results": {}, "checksum": ""}', "format 99"),
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


def test_records_come_by_name_and_kind(tmp_path):
    for name, kind in (("b", "training"), ("a", "evaluation"), ("c", "training")):
        _write(tmp_path, name=name, kind=kind)
    assert [record["name"] for record in read_records(tmp_path)] == ["a", "b", "c"]
    assert [record["name"] for record in read_records(tmp_path, kind="training")] == ["b", "c"]


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
    monkeypatch.setattr("fracturelab.records.context.__file__", str(tmp_path / "a" / "b" / "c" / "context.py"))
    assert code_version() == {"version": records.code_version()["version"], "commit": None, "dirty": None}


def test_results_go_to_the_project_from_any_folder_within(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert default_folder() == tmp_path / "notebooks" / "reports" / "results"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "fracturelab"\n')
    assert default_folder() == tmp_path / "reports" / "results"


def test_table_of_one_and_of_several_evaluations(tmp_path):
    _write(tmp_path, name="a")
    good = evaluate([0, 1], [0.1, 0.9], threshold=0.5, n_bootstrap=20).to_record()
    one_class = evaluate([1, 1], [0.1, 0.9], threshold=0.5, n_bootstrap=20).to_record()
    _write(
        tmp_path, name="b", weights=None, results={"model": "v|2", "evaluations": {"val": good, "outside": one_class}}
    )
    _write(tmp_path, name="c", kind="audit", results={"images": 4})
    lines = results_table(read_records(tmp_path), metrics=["roc_auc", "recall"]).splitlines()
    assert lines[0] == "| model | weights | tested on | images | ROC AUC | sensitivity |"
    assert lines[2] == "| a | bundled | clinic phantoms | 4 | 1.000 (0.39–1.00) | 1.000 (0.34–1.00) |"
    assert lines[3].startswith("| v\\|2 | none | val | 2 | 1.000 (")
    assert lines[4] == "| v\\|2 | none | outside | 2 | – | 0.500 (0.09–0.91) |"
    assert len(lines) == 5
    assert results_table([]) == ""


class TestFillMarkdown:
    text = "# Title\r\n<!-- begin: results -->\r\nold\r\n<!-- end: results -->\r\ntail  \r\n"

    def _file(self, folder, text):
        path = folder / "README.md"
        path.write_bytes(text.encode())
        return path

    def test_it_fills_once_and_keeps_the_rest(self, tmp_path):
        path = self._file(tmp_path, self.text)
        assert fill_markdown(path, "results", "| a |\n| b |\n") is True
        filled = path.read_bytes()
        assert filled == (
            b"# Title\r\n<!-- begin: results -->\r\n\r\n| a |\r\n| b |\r\n\r\n<!-- end: results -->\r\ntail  \r\n"
        )
        assert fill_markdown(path, "results", "| a |\n| b |\n") is False
        assert path.read_bytes() == filled

    @pytest.mark.parametrize(
        "text", ["nothing", "<!-- end: results --><!-- begin: results -->", "<!-- begin: results -->" + text]
    )
    def test_missing_turned_or_doubled_comments_are_refused(self, tmp_path, text):
        path = self._file(tmp_path, text)
        with pytest.raises(FracturelabError, match="once each, in this order"):
            fill_markdown(path, "results", "x")
        assert path.read_bytes() == text.encode()

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FracturelabError, match=r"cannot read .*none\.md"):
            fill_markdown(tmp_path / "none.md", "results", "x")


def test_a_spread_over_seeds_is_of_one_part_of_the_data_and_says_which(tmp_path):
    def wrote(seed, split, sha256):
        data = {"source": "ward", "split": split, "n": 4, "sha256": sha256 * 64}
        results = evaluate([0, 1, 0, 1], [0.1, 0.9, 0.2 + seed / 4, 0.6], threshold=0.5, n_bootstrap=20).to_record()
        _write(tmp_path, name=f"{split}{sha256}{seed}", data=data, results={**results, "model": f"v1-seed{seed}"})

    def tested_on():
        lines = results_table(read_records(tmp_path), metrics=["roc_auc"]).splitlines()[2:]
        return [(cells[1].strip("* "), cells[3].strip()) for cells in (line.split("|") for line in lines)]

    for seed in range(2):
        wrote(seed, "test", "a")
    assert tested_on() == [("v1-seed0", "ward"), ("v1-seed1", "ward"), ("v1, 2 seeds", "ward")]
    wrote(0, "train", "b")
    assert sorted(tested_on()) == [
        ("v1, 2 seeds", "ward, test"),
        ("v1-seed0", "ward, test"),
        ("v1-seed0", "ward, train"),
        ("v1-seed1", "ward, test"),
    ]
    wrote(1, "train", "c")  # the same part of the same name, but other images
    assert sorted(tested_on()) == [
        ("v1, 2 seeds", "ward, test"),
        ("v1-seed0", "ward, test"),
        ("v1-seed0", f"ward, train, {'b' * 8}"),
        ("v1-seed1", "ward, test"),
        ("v1-seed1", f"ward, train, {'c' * 8}"),
    ]


def test_runs_over_seeds_get_their_spread_in_a_row(tmp_path):
    values = {}
    for seed in range(3):
        found = evaluate([0, 1, 0, 1], np.array([0.1, 0.9, 0.2 + seed / 4, 0.6]), threshold=0.5, n_bootstrap=20)
        values[seed] = found.metrics["roc_auc"].value
        _write(
            tmp_path,
            name=f"t{seed}",
            results={"model": f"v1-set-seed{seed}", "evaluations": {"test": found.to_record()}},
        )
    lines = results_table(read_records(tmp_path), metrics=["roc_auc"]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| v1-set-seed0",
        "| v1-set-seed1",
        "| v1-set-seed2",
        "| **v1-set, 3 seeds**",
    ]
    known = np.array(list(values.values()))
    assert lines[-1].endswith(f"| **{known.mean():.3f}** ± {known.std(ddof=1):.3f} |")
    assert known.std() > 0
