"""The cache is never wrong: not after a change, a kill, an edit, a full disk or a second run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.images import cache, default_cache_dir, load_image, load_images, load_readable_images, store

SIZE = 16


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{index:03}.png" for index in range(50)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 30), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, in order."""
    names: list[str] = []

    def counting(name: str, size: int) -> np.ndarray:
        names.append(name)
        return load_image(name, size)

    monkeypatch.setattr(cache, "load_image", counting)
    return names


def expected(files: list[Path]) -> np.ndarray:
    return np.stack([load_image(path, SIZE) for path in files])


def kept(folder: Path) -> list[Path]:
    """What a cache folder holds, its locks aside."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def rewrite(path: Path, value: int) -> None:
    Image.fromarray(np.full((20, 30), value, np.uint8)).save(path)
    os.utime(path, ns=(1, 10**18 + value))


def test_images_come_in_order_and_are_decoded_once(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    first = load_images(files, SIZE, cache_dir=tmp_path / "cache")
    assert sorted(decoded) == [str(path) for path in files]
    np.testing.assert_array_equal(first, expected(files))
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    assert first.dtype == np.uint8
    second = load_images([str(path) for path in files], SIZE, cache_dir=tmp_path / "cache")
    assert len(decoded) == len(files)
    np.testing.assert_array_equal(second, first)
    assert len(kept(tmp_path / "cache")) == 2


def test_without_a_cache_the_pixels_are_the_same(files: list[Path], tmp_path: Path) -> None:
    images = load_images(files, SIZE, cache_dir=False)
    assert not isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, expected(files))
    assert load_images([], SIZE, cache_dir=tmp_path).shape == (0, SIZE, SIZE, 1)


def test_an_image_costs_its_pixels_on_disk(files: list[Path], tmp_path: Path) -> None:
    load_images(files, 224, cache_dir=tmp_path / "cache")
    used = sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())
    assert used / len(files) < 60_000


def test_only_what_changed_is_decoded_again(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    load_images(files, SIZE, cache_dir=tmp_path / "cache")
    decoded.clear()
    rewrite(files[7], 99)
    images = load_images(files, SIZE, cache_dir=tmp_path / "cache")
    assert decoded == [str(files[7])]
    np.testing.assert_array_equal(images, expected(files))
    assert len(kept(tmp_path / "cache")) == 2


def test_size_order_and_list_have_caches_of_their_own(files: list[Path], tmp_path: Path) -> None:
    load_images(files, SIZE, cache_dir=tmp_path / "cache")
    turned = load_images(files[::-1], SIZE, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(turned, expected(files)[::-1])
    larger = load_images(files[:3], 24, cache_dir=tmp_path / "cache")
    assert larger.shape == (3, 24, 24, 1)
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=tmp_path / "cache"), expected(files))


def test_unreadable_images_are_named_and_listed(files: list[Path], tmp_path: Path) -> None:
    files[3].write_bytes(files[3].read_bytes()[:200])
    files[9].unlink()
    with pytest.raises(UnreadableImageError, match="truncated") as caught:
        load_images(files, SIZE, cache_dir=tmp_path / "cache")
    assert caught.value.path == str(files[3])
    for _ in range(2):  # once decoded, once from the cache
        images, unreadable = load_readable_images(files, SIZE, cache_dir=tmp_path / "cache")
        assert list(unreadable) == [3, 9]
        assert "truncated" in unreadable[3]
        assert "no such file" in unreadable[9]
        assert not images[3].any()
        assert not images[9].any()
        np.testing.assert_array_equal(images[10:], expected(files[10:]))


def test_a_mended_file_is_read_again(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    whole = files[3].read_bytes()
    files[3].unlink()
    assert list(load_readable_images(files, SIZE, cache_dir=tmp_path / "cache")[1]) == [3]
    files[3].write_bytes(whole)
    decoded.clear()
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=tmp_path / "cache"), expected(files))
    assert decoded == [str(files[3])]


def test_a_file_that_keeps_changing_is_unreadable(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))

    def growing(name: str, size: int) -> np.ndarray:
        if name == str(files[5]):
            os.utime(name, ns=(1, next(ticks)))
        return load_image(name, size)

    monkeypatch.setattr(cache, "load_image", growing)
    _, unreadable = load_readable_images(files, SIZE, cache_dir=tmp_path / "cache")
    assert unreadable == {5: "the file changes while it is read"}


def manifest_of(folder: Path) -> Path:
    return next(folder.glob("*.json"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest, data: manifest.write_text(manifest.read_text().replace('"size": 16', '"size": 17')),
        lambda manifest, data: manifest.write_text(manifest.read_text()[:300]),
        lambda manifest, data: manifest.write_text("[1, 2]"),
        lambda manifest, data: manifest.write_bytes(b"\x80\x04\x95"),
        lambda manifest, data: data.write_bytes(data.read_bytes()[:-1]),
        lambda manifest, data: data.write_bytes(b""),
        lambda manifest, data: data.write_bytes(b"\x80\x04\x95 pickle"),
        lambda manifest, data: np.save(data, np.zeros((50, SIZE, SIZE, 1), np.float32)),
        lambda manifest, data: np.save(data, np.zeros((50, SIZE, SIZE, 1), object), allow_pickle=True),
        lambda manifest, data: data.write_bytes(flipped(data.read_bytes())),
    ],
    ids="size cut list binary shorter empty pickle floats objects pixel".split(),  # noqa: SIM905
)
def test_a_damaged_or_edited_cache_is_made_again_and_named(files, tmp_path, damage) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "cache"
    load_images(files, SIZE, cache_dir=folder)
    manifest, data = manifest_of(folder), next(folder.glob("*.npy"))
    damage(manifest, data)
    with pytest.warns(UserWarning, match=manifest.stem):
        images = load_images(files, SIZE, cache_dir=folder)
    np.testing.assert_array_equal(images, expected(files))
    assert manifest_of(folder) == manifest


def flipped(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 255]) + data[5001:]


def test_an_edit_that_keeps_the_time_is_found_by_the_spot_checks(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load_images(files, SIZE, cache_dir=folder)
    data = next(folder.glob("*.npy"))
    status = data.stat()
    data.write_bytes(data.read_bytes()[:128] + bytes(status.st_size - 128))
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(UserWarning, match="damaged"):
        images = load_images(files, SIZE, cache_dir=folder)
    np.testing.assert_array_equal(images, expected(files))


def test_a_manifest_cannot_point_out_of_its_folder(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load_images(files, SIZE, cache_dir=folder)
    stored = json.loads(manifest_of(folder).read_text())
    outside = tmp_path / "outside.npy"
    np.save(outside, np.zeros((50, SIZE, SIZE, 1), np.uint8))
    stored["manifest"]["data"] = f"../{outside.name}"
    stored["sha256"] = store._digest(stored["manifest"])
    manifest_of(folder).write_text(json.dumps(stored))
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=folder), expected(files))


def test_a_killed_build_goes_on_where_it_stopped(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    child = os.fork()
    if child == 0:
        count = iter(range(1000))

        def deadly(name: str, size: int) -> np.ndarray:
            if next(count) == 42:
                os.kill(os.getpid(), signal.SIGKILL)
            return load_image(name, size)

        cache.load_image, cache._ROUND, cache._THREADS = deadly, 1, 1
        load_images(files, SIZE, cache_dir=tmp_path / "cache")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    left = {path.suffix for path in kept(tmp_path / "cache")}
    assert left == {".partial", ".journal"}  # nothing that could be taken for a finished cache
    rewrite(files[0], 50)  # and what changed meanwhile is not taken over
    images = load_images(files, SIZE, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(images, expected(files))
    assert str(files[0]) in decoded
    assert 2 <= len(decoded) < len(files)
    assert len(kept(tmp_path / "cache")) == 2


@pytest.mark.parametrize("journal", ["", "garbage\n", "[0, 1, 2]\n[1, 1, 1, 1, null]\n[99, 1, 1, 1, null]\n[-1"])
def test_a_journal_that_lies_is_not_believed(files: list[Path], tmp_path: Path, journal: str) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    key = store.cache_key([str(path) for path in files], SIZE)
    build = store.Build(folder, key, images=len(files), size=SIZE)
    build.close()
    (folder / f"{key}.partial.journal").write_text(journal)
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=folder), expected(files))


def test_an_interrupt_leaves_the_older_cache_whole(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    old = load_images(files, SIZE, cache_dir=folder)
    before = {path.name: path.read_bytes() for path in kept(folder)}
    rewrite(files[1], 1)

    def stopped(self: store.Build) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Build, "finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        load_images(files, SIZE, cache_dir=folder)
    assert before.items() <= {path.name: path.read_bytes() for path in folder.iterdir()}.items()
    assert old[1].any()


def test_two_threads_and_two_processes_at_once(files: list[Path], tmp_path: Path, happened) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "cache"
    start = threading.Barrier(3)

    def run(_: int) -> np.ndarray:
        start.wait()
        return load_images(files, SIZE, cache_dir=folder)

    with ThreadPoolExecutor(3) as pool:
        for images in pool.map(run, range(3)):
            np.testing.assert_array_equal(images, expected(files))
    shutil.rmtree(folder)
    code = (
        "import sys, glob; from fracturelab.images import load_images\n"
        "files = sorted(glob.glob(sys.argv[1] + '/*.png'))\n"
        f"print(int(load_images(files, {SIZE}, cache_dir=sys.argv[2]).astype(int).sum()))\n"
    )
    command = [sys.executable, "-c", code, str(files[0].parent), str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sums = {int(process.communicate()[0]) for process in running}
    assert sums == {int(expected(files).astype(int).sum())}
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=folder), expected(files))
    assert not list(folder.glob("*.partial*"))
    happened("two-caches", "all three had the same pixels; one cache is left")


def test_on_a_disk_without_locks_images_are_read_without_a_cache(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "FileLock", Mock(side_effect=NotImplementedError("the file system has no locks")))
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=tmp_path / "cache"), expected(files))
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_reader_keeps_its_pixels_while_the_cache_is_replaced(files: list[Path], tmp_path: Path) -> None:
    old = load_images(files, SIZE, cache_dir=tmp_path / "cache")
    copy = np.array(old)
    rewrite(files[2], 222)
    new = load_images(files, SIZE, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(old, copy)
    assert (new[2] != old[2]).any()


def test_leftover_pixels_are_removed(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load_images(files, SIZE, cache_dir=folder)
    (folder / f"{manifest_of(folder).stem}-0123456789ab.npy").touch()
    rewrite(files[0], 3)
    load_images(files, SIZE, cache_dir=folder)
    assert len(kept(folder)) == 2


def test_a_build_stopped_between_pixels_and_manifest_is_no_cache(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    digest = store._digest

    def stopped(body: dict) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_digest", stopped)
    with pytest.raises(KeyboardInterrupt):
        load_images(files, SIZE, cache_dir=folder)
    monkeypatch.setattr(store, "_digest", digest)
    np.testing.assert_array_equal(load_images(files, SIZE, cache_dir=folder), expected(files))
    assert len(kept(folder)) == 2


def check_full(files: list[Path], folder: Path) -> None:
    small = load_images(files[:4], SIZE, cache_dir=folder)
    before = {path.name: path.read_bytes() for path in kept(folder)}
    with pytest.raises(FracturelabError, match="cannot be written in") as caught:
        load_images(files, 512, cache_dir=folder)
    assert "\n" not in str(caught.value)
    assert "FRACTURELAB_CACHE" in str(caught.value)
    assert "13 MB" in str(caught.value)
    assert {path.name: path.read_bytes() for path in kept(folder)} == before
    np.testing.assert_array_equal(small, expected(files[:4]))


def test_a_full_disk_is_one_line_and_earlier_caches_stay(files: list[Path], small_disk: Path) -> None:
    check_full(files, small_disk)


def test_a_full_disk_that_is_told_late_is_the_same(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.Build.put

    def full(self: store.Build, index: int, pixels: np.ndarray, row: store.Row) -> None:
        if pixels.shape[0] > SIZE and index == 20:
            raise OSError(28, "No space left on device")
        put(self, index, pixels, row)

    monkeypatch.setattr(store.Build, "put", full)
    check_full(files, tmp_path / "cache")


def test_a_read_only_folder_is_one_line(files: list[Path]) -> None:
    from tests.images.test_decode import as_nobody

    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        sources = [shutil.copy(path, folder) for path in files[:3]]

        def attempt() -> str:
            try:
                load_images(sources, SIZE, cache_dir=folder / "cache")
            except FracturelabError as error:
                return str(error)
            return "written"

        closed = as_nobody(attempt)
        assert "cannot be written" in closed
        assert "ermission" in closed
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
        assert as_nobody(attempt) == "written"
    finally:
        shutil.rmtree(folder)


def test_a_file_in_place_of_the_folder_is_one_line(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("I am a file")
    with pytest.raises(FracturelabError, match="cannot be written"):
        load_images(files, SIZE, cache_dir=tmp_path / "cache")
    assert (tmp_path / "cache").read_text() == "I am a file"


def test_the_default_folder_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[Path], decoded: list[str]
) -> None:
    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"
    load_images(files, SIZE)
    assert list((tmp_path / "mine").glob("*.npy"))
    monkeypatch.delenv("FRACTURELAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    if sys.platform.startswith("linux"):
        assert default_cache_dir() == tmp_path / "user" / "fracturelab"


@pytest.mark.filterwarnings("error")
def test_a_failing_disk_brings_no_further_noise(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_ROUND", 1)

    def full(self: store.Build, index: int, pixels: np.ndarray, row: store.Row) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Build, "put", full)
    with pytest.raises(FracturelabError):
        load_images(files, SIZE, cache_dir=tmp_path / "cache")


def test_progress_is_shown_only_when_asked(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    load_images(files, SIZE, cache_dir=False)
    assert capsys.readouterr().err == ""
    load_images(files, SIZE, cache_dir=False, progress=True)
    assert "decoding" in capsys.readouterr().err
