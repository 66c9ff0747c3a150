"""Every pixel type and every kind of bad file, as small real files."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from fracturelab.errors import UnreadableImageError
from fracturelab.images import image_facts, read_image
from fracturelab.images.grayscale import scale_integers, scale_reals
from fracturelab.images.opening import MAX_PIXELS
from fracturelab.images.signatures import recognise
from tests.images import check_image


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A smooth picture without symmetry, using every grey level."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x / 9 + seed) + np.cos(y / 5) + x / width + 2 * y / height
    return np.rint((waves - waves.min()) / np.ptp(waves) * 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Pillow's remarks about damaged tags; pytest undoes the filter that keeps them from users.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF data", "ignore:Tag data larger", "ignore:Truncated File", "ignore:Metadata W"
)

GREY = picture()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_lossless_formats_keep_every_grey_level(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read_image(encoded(Image.fromarray(GREY), kind, **options))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY[:, :, np.newaxis])


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "naïve name\nwith newline 骨.png"
    path.write_bytes(encoded(Image.fromarray(GREY), "PNG"))
    np.testing.assert_array_equal(read_image(path), read_image(path.read_bytes()))
    np.testing.assert_array_equal(read_image(str(path)), read_image(path.read_bytes()))


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(GREY), "PNG"))
    np.testing.assert_array_equal(read_image(path)[:, :, 0], GREY)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_close_to_its_source(mode: str) -> None:
    pixels = read_image(encoded(Image.fromarray(GREY).convert(mode), "JPEG", quality=95))
    assert np.abs(pixels[:, :, 0].astype(int) - GREY).max() <= 8


def test_cmyk_jpeg_has_bright_bone_bright() -> None:
    # Pillow writes CMYK JPEGs in Adobe's inverted sense, as Photoshop does, and reads them so.
    pixels = read_image(encoded(Image.fromarray(GREY).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels[:, :, 0].astype(int) - GREY).mean() < 2


def test_one_bit() -> None:
    bits = Image.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)).convert("1", dither=Image.Dither.NONE)
    np.testing.assert_array_equal(read_image(encoded(bits, "PNG"))[:, :, 0], np.where(GREY > 127, 255, 0))


def test_palette_is_looked_up() -> None:
    image = Image.fromarray((GREY // 64).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 250, 250, 250, 10, 10, 10, 99, 99, 99])
    expected = np.array([0, 250, 10, 99], np.uint8)[GREY // 64]
    np.testing.assert_array_equal(read_image(encoded(image, "PNG"))[:, :, 0], expected)


def test_palette_with_transparency_is_laid_over_black() -> None:
    image = Image.fromarray((GREY // 64).astype(np.uint8), mode="P")
    image.putpalette([200, 200, 200, 250, 250, 250, 10, 10, 10, 99, 99, 99])
    expected = np.array([0, 250, 10, 99], np.uint8)[GREY // 64]
    np.testing.assert_array_equal(read_image(encoded(image, "PNG", transparency=0))[:, :, 0], expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_laid_over_black(mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:, :20] = 0
    alpha[:, 20:40] = 128
    image.putalpha(Image.fromarray(alpha))
    pixels = read_image(encoded(image, "PNG"))[:, :, 0].astype(int)
    assert not pixels[:, :20].any()
    assert np.abs(pixels[:, 20:40] - GREY[:, 20:40].astype(int) * 128 / 255).max() <= 1
    np.testing.assert_array_equal(pixels[:, 40:], GREY[:, 40:])


def test_alpha_that_hides_everything_is_ignored() -> None:
    image = Image.fromarray(GREY).convert("RGBA")
    image.putalpha(0)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG"))[:, :, 0], GREY)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bit_files_are_scaled_by_the_depth_they_use(kind: str, bits: int) -> None:
    values = np.rint(GREY * ((2**bits - 1) / 255)).astype(np.uint16)
    pixels = read_image(encoded(Image.fromarray(values), kind))[:, :, 0]
    np.testing.assert_array_equal(pixels, GREY)


def test_eight_bits_times_257_come_back() -> None:
    np.testing.assert_array_equal(scale_integers(GREY.astype(np.uint16) * 257), GREY)


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=50))
def test_depth_scaling_keeps_black_and_order(values: list[int]) -> None:
    scaled = scale_integers(np.array(values, np.uint16)).astype(int)
    order = np.argsort(values, kind="stable")
    assert (np.diff(scaled[order]) >= 0).all()
    assert all(s == 0 for v, s in zip(values, scaled, strict=True) if v == 0)


def test_white_is_zero_tiff_is_turned_round() -> None:
    values = (65535 - GREY.astype(np.uint16) * 257).astype("<u2")
    entries = {256: 64, 257: 48, 258: 16, 259: 1, 262: 0, 273: 8, 277: 1, 278: 48, 279: values.nbytes}
    ifd = struct.pack("<H", len(entries))
    for tag, value in entries.items():
        ifd += struct.pack("<HHII", tag, 4, 1, value)
    data = struct.pack("<2sHI", b"II", 42, 8 + values.nbytes) + values.tobytes() + ifd + b"\0\0\0\0"
    np.testing.assert_array_equal(read_image(data)[:, :, 0], GREY)


@pytest.mark.parametrize(
    "values",
    [
        (GREY / 255).astype(np.float32),
        GREY.astype(np.float32),
        (GREY.astype(np.float32) * 12 - 1000),
        GREY.astype(np.int32) * 257,
        GREY.astype(np.int32) * 1_000_000 - 5,
    ],
    ids=["0..1", "0..255", "hounsfield", "16 bits in 32", "wide integers"],
)
def test_32_bit_tiff(values: np.ndarray) -> None:
    pixels = read_image(encoded(Image.fromarray(values), "TIFF"))[:, :, 0]
    assert np.abs(pixels.astype(int) - GREY).max() <= 1


def test_not_a_number_is_darkest_and_infinity_brightest() -> None:
    values = np.array([[np.nan, -5.0, 0.0, 300.0, np.inf, -np.inf]])
    np.testing.assert_array_equal(scale_reals(values), [[0, 0, 4, 255, 255, 0]])
    with pytest.raises(ValueError, match="finite"):
        scale_reals(np.full((2, 2), np.nan))
    assert not scale_reals(np.full((3, 3), -7.0)).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    image = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    tagged = Image.open(io.BytesIO(encoded(Image.fromarray(GREY), "PNG", exif=exif)))
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(GREY), kind, exif=exif)
        np.testing.assert_array_equal(read_image(data)[:, :, 0], expected)
        facts = image_facts(data)
        if kind == "PNG":
            assert (facts.height, facts.width) == expected.shape
    jpeg = read_image(encoded(Image.fromarray(GREY), "JPEG", quality=95, exif=exif))[:, :, 0]
    assert np.abs(jpeg.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    second = Image.fromarray(255 - GREY)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(GREY), kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(read_image(data)[:, :, 0], GREY)
    assert image_facts(data).several
    assert not image_facts(encoded(Image.fromarray(GREY), kind, **options)).several


def test_min_side_decodes_less_but_never_below_it() -> None:
    data = encoded(Image.fromarray(picture(1200, 1600)), "JPEG", quality=90)
    assert read_image(data).shape == (1200, 1600, 1)
    for side, expected in [(1200, (1200, 1600)), (600, (600, 800)), (301, (600, 800)), (100, (150, 200))]:
        assert read_image(data, min_side=side).shape == (*expected, 1)
    assert read_image(encoded(Image.fromarray(GREY), "JPEG"), min_side=500).shape == (48, 64, 1)


def test_reduced_decoding_is_the_area_average() -> None:
    whole = picture(800, 640)
    data = encoded(Image.fromarray(whole).convert("RGB"), "JPEG", quality=95)
    eighth = read_image(data, min_side=80)[:, :, 0].astype(float)
    averaged = whole.reshape(100, 8, 80, 8).mean(axis=(1, 3))
    assert np.abs(eighth - averaged).max() < 2


def reason_of(source: object) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        read_image(source)  # type: ignore[arg-type]
    assert check_image(source) == caught.value.reason  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_unreadable(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert check_image(data) is None
    cut = data[: int(len(data) * share)]
    reason_of(cut)
    with pytest.raises(UnreadableImageError):
        read_image(cut, min_side=8)


def test_truncation_is_called_truncation() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    for kind in ("JPEG", "PNG"):
        assert "truncated" in reason_of(encoded(Image.fromarray(noise), kind)[:9000])


@pytest.mark.parametrize("end", [1, 2])
@pytest.mark.parametrize("quality", [20, 80, 95])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_with_a_remark(end: int, quality: int) -> None:
    whole = encoded(Image.fromarray(picture(640, 600)).convert("RGB"), "JPEG", quality=quality)
    for side in (None, 80):
        remarks: list[str] = []
        pixels = read_image(whole[:-end], min_side=side, remarks=remarks)
        np.testing.assert_array_equal(pixels, read_image(whole, min_side=side))
        assert ["end marker" in remark for remark in remarks] == [True]


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}])
def test_other_jpegs_without_an_end_marker_stay_refused(options: dict[str, object]) -> None:
    """A missing scan, or rows between two restart markers, would not be noticed."""
    assert "truncated" in (check_image(encoded(Image.fromarray(picture(640, 600)), "JPEG", **options)[:-2]) or "")


@pytest.mark.parametrize("end", [12, 50, 400])
def test_reduced_decoding_sees_the_same_truncation(end: int) -> None:
    data = encoded(Image.fromarray(picture(640, 640)).convert("RGB"), "JPEG", quality=80)[:-end]
    with pytest.raises(UnreadableImageError):
        read_image(data)
    with pytest.raises(UnreadableImageError):
        read_image(data, min_side=80)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>not found</html>", "HTML"),
        (b"\xef\xbb\xbf \n<HTML>", "HTML"),
        (b"this is a text file\n", "text"),
        (b"PK\x03\x04rest", "zip"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"\0" * 700, "zero bytes"),
        (b"\x00\x00\x00\x18ftypheic", "damaged"),
        (b"\x00\x00\x00\x18ftypisom", "video"),
        (b"fracturela" + b"\x01\xfe", "unknown"),
        (pickle.dumps({"a": 1}), "unknown"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert said.lower() in reason_of(path).lower()


def test_dicom_is_recognised_by_content() -> None:
    assert recognise(b"\0" * 128 + b"DICM") == "DICOM"
    assert "dicom" in reason_of(b"\0" * 128 + b"DICM" + b"\0" * 400).lower()


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    return png(width, height, zlib.compress(b"\0" * 1000))


def gif_header(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\x80\0\0" + b"\0" * 6 + b"," + b"\0" * 4 + size + b"\0\x02\x02\x4c\x01\0;"


@pytest.mark.parametrize(
    "data",
    [png_header(20_000, 20_000), png_header(2**31 - 1, 2**31 - 1), gif_header(65_535, 65_535)],
    ids=["png 400 MP", "png of 2^62", "gif 4 GP"],
)
def test_bombs_are_refused_from_their_header(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason = reason_of(data)
    assert f"limit of {MAX_PIXELS // 1_000_000} million" in reason
    with pytest.raises(UnreadableImageError, match="limit"):
        image_facts(data)


def test_a_whole_bomb_costs_no_memory(tmp_path: Path) -> None:
    """A complete PNG of 81 million black pixels in under a megabyte, refused without decoding it."""
    pytest.importorskip("resource")
    (tmp_path / "bomb.png").write_bytes(png(9000, 9000, zlib.compress(b"\0" * 9001 * 9000, 1)))
    code = (
        "import resource, sys\n"
        "from tests.images import check_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert 'limit' in check_image(sys.argv[1])\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "assert grown < 30_000, grown\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "bomb.png")], check=True)


@pytest.mark.parametrize("shape", [(1, 1), (7, 500), (500, 3)])
def test_what_is_too_small_for_an_x_ray_is_refused(shape: tuple[int, int]) -> None:
    assert "too small" in reason_of(encoded(Image.fromarray(np.zeros(shape, np.uint8)), "PNG"))
    assert check_image(encoded(Image.fromarray(np.zeros((8, 8), np.uint8)), "PNG")) is None


def test_missing_file_folder_and_broken_link(tmp_path: Path) -> None:
    assert "no such file" in reason_of(tmp_path / "gone.png")
    (tmp_path / "folder.jpg").mkdir()
    assert "folder" in reason_of(tmp_path / "folder.jpg")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    assert "no such file" in reason_of(tmp_path / "broken.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be opened" in reason_of(tmp_path / "loop.png")
    assert "cannot be opened" in reason_of("embedded\0zero.png")


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in reason_of(tmp_path / "pipe.png")
    assert "not a regular file" in reason_of("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        address = tempfile.mkdtemp() + "/s.png"
        listener.bind(address)
        assert reason_of(address)
        shutil.rmtree(os.path.dirname(address))


def test_no_permission_is_said() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        closed, open_file = folder / "closed.png", folder / "open.png"
        for path in (closed, open_file):
            path.write_bytes(encoded(Image.fromarray(GREY), "PNG"))
            path.chmod(0o644)
        closed.chmod(0)
        assert as_nobody(lambda: [check_image(open_file), check_image(closed)]) == [None, "no permission to read it"]
    finally:
        shutil.rmtree(folder)


def as_nobody(function):  # type: ignore[no-untyped-def]
    """Run in a child process without root's right to read everything."""
    if os.geteuid() != 0:
        return function()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write_end, pickle.dumps(function()))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(result)


def test_no_global_setting_is_touched_or_needed() -> None:
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    check_image(encoded(Image.fromarray(GREY), "JPEG")[:200])
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS) == before == (False, 89478485)


def test_threads_read_the_same_pixels() -> None:
    files = [encoded(Image.fromarray(picture(seed=seed)), "PNG") for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read_image, files))
    for seed, pixels in enumerate(together):
        np.testing.assert_array_equal(pixels[:, :, 0], picture(seed=seed))


SEEDS = [
    encoded(Image.fromarray(GREY), "PNG"),
    encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    encoded(Image.fromarray(GREY).convert("P"), "PNG", transparency=3),
    encoded(Image.fromarray(GREY).convert("RGB"), "JPEG"),
    encoded(Image.fromarray(GREY), "JPEG", progressive=True),
    encoded(Image.fromarray(GREY).convert("CMYK"), "JPEG"),
    encoded(Image.fromarray(GREY), "TIFF"),
    encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF", compression="tiff_lzw"),
    encoded(Image.fromarray(GREY), "GIF"),
    encoded(Image.fromarray(GREY), "BMP"),
    encoded(Image.fromarray(GREY), "WEBP"),
]


@settings(max_examples=int(os.environ.get("FRACTURELAB_FUZZ", "300")), deadline=None)
@given(st.data())
def test_mutated_files_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        what = data.draw(st.sampled_from(["set", "cut", "insert", "drop"]))
        # Headers are where decoders go wrong: half of the changes are made there.
        last = max(0, len(content) - 1)
        at = data.draw(st.one_of(st.integers(0, min(last, 120)), st.integers(0, last)))
        if what == "set" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del content[at:]
        elif what == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        else:
            del content[at : at + data.draw(st.integers(1, 6))]
    reason = check_image(bytes(content))
    if reason is not None:
        assert 0 < len(reason) < 200
        assert "\n" not in reason
        return
    pixels = read_image(bytes(content))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 1
    assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    # Reduced decoding reads what whole decoding reads.
    assert read_image(bytes(content), min_side=16).shape[0] >= 8


def test_a_png_with_damaged_pixel_data_is_refused_whole() -> None:
    data = bytearray(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)), "PNG"))
    data[len(data) // 2] ^= 255
    assert "damaged" in (check_image(bytes(data)) or "")
