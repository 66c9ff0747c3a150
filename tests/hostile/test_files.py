"""Every hostile file of the table through five doors: audit, training, prediction, command line, app."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fracturelab import cli
from fracturelab.datasets import list_other_files, read_dataset
from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.images import cache, letterbox, load_readable_images, read_image
from fracturelab.prediction import load_predictor, predictor
from fracturelab.prediction.likeness import describe
from fracturelab.prediction.uploads import LIMITS, read_upload, too_many
from fracturelab.training import prepare
from tests.hostile import cases as hostile
from tests.hostile.cases import HOSTILE, HostileFile, encoded, plain, xray
from tests.images.test_decode import as_nobody

SIZE = 32
FIXTURE = next((Path(__file__).parents[1] / "fixtures").glob("saved_by_*"))
pytestmark = pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF data", "ignore:Tag data larger", "ignore:Truncated File", "ignore:Metadata W"
)


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """A model's file is opened by arithmetic instead of TensorFlow: what is tested here comes before any network."""
    with pytest.MonkeyPatch.context() as patch:
        opened = {"forward": lambda images: images.mean((1, 2, 3)) / 255, "input_size": SIZE}
        patch.setitem(predictor.RUNTIMES, "keras", lambda path, card: opened)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model whose card says what made-up radiographs look like."""
    path = tmp_path_factory.mktemp("model") / "m.keras"
    shutil.copy(FIXTURE / "model.keras", path)
    pixels = np.stack([letterbox(xray(seed), SIZE) for seed in range(150)])
    likeness = describe(pixels, range(90), range(90, 150))
    assert likeness is not None
    card = {"name": "m", "threshold": 0.25, "input_size": SIZE, "likeness": likeness.to_dict()}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sixty radiographs in class folders, every hostile file among them, and what systems leave behind."""
    root = tmp_path_factory.mktemp("brought from elsewhere")
    for seed in range(60):
        place = root / ("fractured" if seed % 2 else "normal")
        place.mkdir(exist_ok=True)
        Image.fromarray(xray(2000 + seed)).save(place / f"good {seed:02d}.png")
    for file in HOSTILE:
        (root / "fractured" / file.name).write_bytes(file.make())
    for place in (root, root / "normal"):
        for name in hostile.JUNK:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(plain() if name.endswith("png") else b"\0\0\0\1Bud1 junk")
    (root / "normal" / "notes.txt").write_text("two of them are mine")
    (root / "normal" / "table.xlsx").write_bytes(hostile.archive())
    return root


def command(*argv: object) -> tuple[int, str, str]:
    """Run a command; its code, what it printed and what it said beside that."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = cli.main([str(word) for word in argv])
    return code, out.getvalue(), said.getvalue()


@pytest.fixture(scope="module")
def doors(folder, model, tmp_path_factory) -> dict[str, Any]:
    """What each door made of every file."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    paths = {file.key: str(folder / "fractured" / file.name) for file in HOSTILE}
    code, out, _ = command("audit", folder, "--json", "--workers", 1)
    assert code == 0
    audited = json.loads(out)
    prepared = prepare(read_dataset(folder), size=SIZE, cache_dir=tmp_path_factory.mktemp("cache"), progress=False)
    with stand_in():
        rows = load_predictor(model, runtime="keras").predict(list(paths.values()))
        code, out, said = command("predict", model, "--json", "--runtime", "keras", "--", *paths.values())
    assert code == 0
    uploads = {file.key: read_upload(file.name, Path(paths[file.key]).read_bytes(), size=SIZE) for file in HOSTILE}
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return {
        "paths": paths,
        "audit": audited,
        "prepared": prepared,
        "rows": dict(zip(paths, rows.to_dict("records"), strict=True)),
        "command": dict(zip(paths, json.loads(out), strict=True)),
        "said": said,
        "uploads": uploads,
    }


@pytest.mark.parametrize("file", HOSTILE, ids=lambda file: file.key)
def test_a_file_has_one_outcome_at_every_door(file: HostileFile, doors, happened):
    path = doors["paths"][file.key]
    unreadable = {item["path"]: item["reason"] for item in doors["audit"]["unreadable"]}
    prepared, row, upload = doors["prepared"], doors["rows"][file.key], doors["uploads"][file.key]
    left_out = dict(zip(prepared.unreadable["path"], prepared.unreadable["reason"], strict=True))
    said = doors["command"][file.key]
    assert said["path"] == row["path"] == path
    assert (said.get("remark", ""), said.get("error", "")) == (row["remark"], row["problem"])
    assert upload.name.isprintable()
    assert len(upload.name) <= 80
    if file.says is not None:
        reason = row["problem"]
        assert re.search(file.says, reason, re.IGNORECASE)
        assert len(reason) < 160
        assert "\n" not in reason
        assert unreadable[path] == left_out[path] == reason
        assert upload.problem == f"{upload.name} cannot be read: {reason}."
        assert upload.pixels is None
        assert path not in set(prepared.table["path"])
        happened(file.key, f"left out: {reason}")
        return
    assert path not in unreadable
    assert path not in left_out
    expected = letterbox(hostile.reference(), SIZE)
    [place] = np.flatnonzero((prepared.table["path"] == path).to_numpy(bool))
    np.testing.assert_array_equal(prepared.images[place], upload.pixels)
    assert np.abs(upload.pixels.astype(int) - expected).max() <= file.off
    assert said["p_fracture"] == row["probability"] == pytest.approx(upload.pixels.mean() / 255, abs=1e-6)
    assert file.remark in row["remark"]
    if file.key != "inverted":
        assert file.remark in upload.remark
        assert bool(row["remark"]) == bool(file.remark)  # and nothing else is said of it
    if file.remark:
        name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
        assert any(name in line and file.remark in line for line in doors["said"].splitlines())
    happened(file.key, "read" + (f"; said: {file.remark}" if file.remark else ""))


def test_the_audit_counts_files_of_several_pictures(doors):
    several = [file for file in HOSTILE if "first" in file.remark]
    assert doors["audit"]["several_pictures"] == len(several) > 0


def test_junk_is_passed_over_and_other_files_are_listed(folder, doors, happened):
    table = read_dataset(folder)
    assert len(table) == 60 + len(HOSTILE)
    assert doors["audit"]["images"] == len(table)
    others = list_other_files(folder)
    assert others == ["normal/notes.txt", "normal/table.xlsx"]
    assert doors["audit"]["no_images"] == [str(folder / name) for name in others]
    listed = [item["path"] for item in doors["audit"]["unreadable"]] + doors["audit"]["no_images"]
    names = {Path(name).name for name in hostile.JUNK}
    assert not names & {Path(path).name for path in [*listed, *table["path"]]}
    happened("junk", f"{2 * len(hostile.JUNK)} files passed over, none counted")
    happened("others", "listed by the audit as no image files, read by nothing")


def test_training_gets_what_is_readable(doors, happened):
    prepared = doors["prepared"]
    bad = sum(file.says is not None for file in HOSTILE)
    assert len(prepared.unreadable) == bad
    assert len(prepared.table) == 60 + len(HOSTILE) - bad
    copies = prepared.table[prepared.table["path"].str.contains("fractured/[^g]", regex=True)]
    same = [doors["paths"][file.key] for file in HOSTILE if file.says is None and file.key != "inverted"]
    assert copies.loc[copies["path"].isin(same), "group"].nunique() == 1  # one picture in many files: one side
    assert copies.loc[copies["path"].isin(same), "split"].nunique() == 1
    happened("training", f"{bad} files left out and listed, one group of all copies; the folder is as it was")


# --- folders and links ------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path) -> Path:
    for name in ("normal", "fractured"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for seed in range(3):
            Image.fromarray(xray(seed + 10 * len(name))).save(tmp_path / "set" / name / f"{seed}.png")
    return tmp_path / "set"


def outcomes(path: Path, model: Path) -> set[str]:
    """The reasons that cache, prediction and command line give for one file."""
    _, reasons = load_readable_images([path], SIZE, cache_dir=False)
    with stand_in():
        [problem] = load_predictor(model, runtime="keras").predict(path)["problem"]
        code, out, _ = command("predict", model, path, "--json", "--runtime", "keras")
    assert code == 2
    return {reasons[0], problem, json.loads(out)[0]["error"]}


def test_links_and_pipes(places, model, happened):
    (places / "normal" / "gone.png").symlink_to(places / "nowhere.png")
    (places / "normal" / "round.png").symlink_to("round.png")
    os.mkfifo(places / "normal" / "pipe.png")
    for name, key, words in (
        ("gone.png", "broken-link", "no such file"),
        ("round.png", "file-loop", "cannot be opened"),
        ("pipe.png", "pipe", "not a regular file"),
    ):
        [reason] = outcomes(places / "normal" / name, model)
        assert words in reason
        happened(key, f"left out: {reason}")
    audited = json.loads(command("audit", places, "--json", "--workers", 1)[1])
    assert {Path(item["path"]).name for item in audited["unreadable"]} == {"gone.png", "round.png", "pipe.png"}


def test_folders_in_circles_end(places, model, happened):
    (places / "normal" / "again").symlink_to(places, target_is_directory=True)
    (places / "fractured" / "beside").symlink_to(places / "normal", target_is_directory=True)
    table = read_dataset(places)
    assert len(table) == 6
    assert sorted(table["label"]) == [0, 0, 0, 1, 1, 1]
    with stand_in():
        rows = json.loads(command("predict", model, places, "--json", "--runtime", "keras")[1])
    assert sorted(row["path"] for row in rows) == table["path"].tolist()
    happened("folder-loop", "6 images, each once")


def test_what_may_not_be_read_is_said(model, happened):
    home = Path(tempfile.mkdtemp())
    try:
        home.chmod(0o755)
        for name in ("normal", "fractured"):
            (home / name).mkdir()
            for seed in range(2):
                path = home / name / f"{seed}.png"
                Image.fromarray(xray(seed)).save(path)
                path.chmod(0o644)
            (home / name).chmod(0o755)
        closed = home / "normal" / "0.png"
        closed.chmod(0)

        def audited() -> tuple[int, str, str]:
            return command("audit", home, "--json", "--workers", 1, "--turned", "no")  # in a fork

        code, out, _ = as_nobody(audited)
        assert code == 0
        [item] = json.loads(out)["unreadable"]
        assert (item["path"], item["reason"]) == (str(closed), "no permission to read it")
        happened("closed-file", f"left out: {item['reason']}")
        (home / "fractured").chmod(0)

        def refused() -> list[tuple[int, str, str]]:
            return [audited(), command("predict", model, home, "--runtime", "keras")]

        said = []
        for code, out, lines in as_nobody(refused):
            assert (code, out) == (2, "")
            [line] = lines.splitlines()
            assert str(home / "fractured") in line
            said.append(line)
        assert "give yourself permission or leave it out" in said[0]
        happened("closed-folder", "one line that names the folder, from audit and predict")
    finally:
        (home / "fractured").chmod(0o755)
        shutil.rmtree(home)


def test_a_file_that_vanishes_after_it_was_listed(places, model, tmp_path, happened):
    table = read_dataset(places)
    gone = places / "normal" / "1.png"
    gone.unlink()
    from fracturelab.audit import usable_rows

    reasons = outcomes(gone, model) | set(usable_rows(table)[1]["reason"])
    assert reasons == {"there is no such file (moved, deleted, or a broken link)"}
    happened("vanished", f"left out: {reasons.pop()}")


def test_a_file_that_is_being_written(places, tmp_path, monkeypatch, happened):
    path = places / "normal" / "1.png"
    real, count = cache.load_image, iter(range(10_000))

    def growing(name: str, size: int) -> np.ndarray:
        if name == str(path):
            os.utime(name, ns=(1, next(count)))
        return real(name, size)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "load_image", growing)
        _, reasons = load_readable_images([path], SIZE, cache_dir=tmp_path / "cache")
    assert reasons == {0: "the file changes while it is read"}
    images, later = load_readable_images([path], SIZE, cache_dir=tmp_path / "cache")
    assert later == {}
    np.testing.assert_array_equal(images[0], letterbox(read_image(path), SIZE))
    happened("changing", f"left out: {reasons[0]}; read whole the next time")


COUNT_FILES = """
import resource, sys
from fracturelab.datasets import list_other_files, make_table, read_dataset
make_table([{"path": "x"}])  # pandas is imported
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = read_dataset(sys.argv[1])
others = list_other_files(sys.argv[1])
print(len(table), len(others), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def count_files(root: Path, n: int) -> list[int]:
    """Images and other files that are found among `n` files of each kind, and megabytes beyond pandas itself."""
    (root / "fractured").mkdir(parents=True)
    (root / "normal").mkdir()
    (root / "fractured" / "one.png").write_bytes(plain())
    for number in range(n):
        (root / "normal" / f"{number:06d}.{'png' if number % 2 else 'dat'}").touch()
    done = subprocess.run([sys.executable, "-c", COUNT_FILES, str(root)], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_many_files_in_one_folder(tmp_path, happened):
    images, others, megabytes = count_files(tmp_path / "set", 2_000)
    assert (images, others) == (1_001, 1_000)
    assert megabytes < 30
    happened("many", "1,001 images and 1,000 other files counted; memory grew by less than 30 MB")


@pytest.mark.long
def test_a_hundred_thousand_files_in_one_folder(tmp_path, happened):
    images, others, megabytes = count_files(tmp_path / "set", 100_000)
    assert (images, others) == (50_001, 50_000)
    assert megabytes < 200
    happened("long-many", "50,001 images and 50,000 other files counted; memory grew by less than 200 MB")


@pytest.mark.parametrize("climbing", ["../secret.png", "/etc/hosts", "a/../../secret.png", "..\\secret.png"])
def test_a_table_that_points_out_of_its_folder(places, climbing, happened):
    (places.parent / "secret.png").write_bytes(plain())
    (places / "labels.csv").write_text(f"path,label\nnormal/1.png,0\n{climbing},1\n")
    code, out, said = command("audit", places)
    assert (code, out) == (2, "")
    assert "labels.csv names 1 files that are not there" in said
    assert said.count("\n") == 1
    happened("labels-climb", "one line that names the table and the file")


# --- fuzzing ----------------------------------------------------------------------------------------------------------

KINDS = (
    plain,
    lambda: plain("JPEG"),
    lambda: plain("JPEG", progressive=True),
    lambda: plain("TIFF"),
    lambda: plain("TIFF", compression="tiff_lzw"),
    lambda: plain("GIF"),
    lambda: plain("BMP"),
    lambda: plain("WEBP", quality=60),
    hostile.dicom,
)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with some of its bytes set, dropped, repeated or cut off; half of the changes in its header."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        last = max(1, len(changed))
        at = int(rng.integers(0, min(last, 200)) if rng.random() < 0.5 else rng.integers(0, last))
        match rng.integers(0, 6):
            case 0 | 1:
                changed[at : at + 1] = bytes([rng.integers(0, 256)])
            case 2:
                changed[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\x01"])
            case 3:
                del changed[at : at + int(rng.integers(1, 9))]
            case 4:
                changed[at:at] = changed[at : at + int(rng.integers(1, 65))]
            case 5:
                del changed[max(at, 8) :]
    return bytes(changed)


def fuzz(count: int, files: list[bytes], *, seed: int) -> tuple[int, int]:
    """How many of so many mutated files were read, and how many refused; anything else is an error."""
    rng = np.random.default_rng(seed)
    read, reasons = 0, set[str]()
    for number in range(count):
        data = mutated(files[number % len(files)], rng)
        try:
            pixels = read_image(data, min_side=2 * SIZE)
        except UnreadableImageError as error:
            reasons.add(error.reason)
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 1
        assert letterbox(pixels, SIZE).shape == (SIZE, SIZE, 1)
        read += 1
    assert all(0 < len(reason) < 200 and reason.isprintable() for reason in reasons)
    return read, count - read


def test_mutated_files_are_read_or_refused(happened):
    read, refused = fuzz(150, [make() for make in KINDS], seed=1)
    assert min(read, refused) > 15
    happened("fuzz", "all were read or refused with one line")


@pytest.mark.long
def test_twenty_thousand_mutated_files(happened):
    from tests import find_fracatlas

    files = [make() for make in KINDS]
    real = find_fracatlas()
    if real is not None:  # real X-rays too, where they are at hand
        files += [path.read_bytes() for path in sorted(real.rglob("*.jpg"))[:40:5]]
    read, refused = fuzz(20_000, files, seed=2)
    assert min(read, refused) > 2_000
    happened("long-fuzz", "all were read or refused with one line")


# --- the app ----------------------------------------------------------------------------------------------------------


def test_every_file_uploaded_is_a_picture_or_a_sentence(doors, happened):
    uploads = doors["uploads"].values()
    assert all((upload.pixels is None) != (upload.problem is None) for upload in uploads)
    assert all(upload.shown is not None for upload in uploads if upload.pixels is not None)
    problems = [upload.problem for upload in uploads if upload.problem is not None]
    assert all(problem.isprintable() and problem.endswith(".") and len(problem) < 250 for problem in problems)
    happened("app-files", f"{len(HOSTILE) - len(problems)} pictures, {len(problems)} sentences")


BOUNDS = """
import resource, sys
from fracturelab.prediction.uploads import read_upload
import numpy
from tests.hostile import cases as hostile
bomb, dataless = hostile.whole_bomb(), hostile.scan_bomb()
large = bytes(200_000_000)
read_upload("warm.png", hostile.plain(), size=32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in (("large.png", large), ("bomb.png", bomb), ("scans.jpg", dataless)):
    print(read_upload(name, data, size=32).problem)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_large_files_bombs_and_many_at_once_are_refused_unread(happened):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
    }
    done = subprocess.run([sys.executable, "-c", BOUNDS], capture_output=True, text=True, check=True, env=environment)
    large, bomb, scans, grown = done.stdout.splitlines()
    assert large == "large.png has 200 MB; files of up to 40 MB are read."
    assert "more than the limit" in bomb
    assert "would take too long" in scans
    assert int(grown) < 30_000
    sentence = too_many(LIMITS.files + 1)
    assert sentence is not None
    assert "51 files are more than the 50" in sentence
    happened("app-bounds", "a sentence each; memory grew by less than 30 MB")


def test_uploads_beyond_the_app_s_own_pixels_are_refused_before_decoding():
    wide = encoded(Image.new("L", (8000, 6000), 40), "PNG", compress_level=1)
    assert "8000 x 6000 pixels, more than 40 million" in str(read_upload("wide.png", wide, size=SIZE).problem)


def test_a_model_whose_card_holds_a_damaged_likeness_is_refused(model, tmp_path):
    copy = tmp_path / "m.keras"
    shutil.copy(model, copy)
    card = json.loads(model.with_suffix(".json").read_text())
    for change in ({"limit": "x"}, {"quantiles": [[0] * 9] * 10}, {"inverse": [[1e400] * 10] * 10}, {"rate": 0}):
        text = json.dumps({**card, "likeness": {**card["likeness"], **change}})
        copy.with_suffix(".json").write_text(text)
        with stand_in(), pytest.raises(FracturelabError, match="damaged `likeness`"):
            load_predictor(copy, runtime="keras")
