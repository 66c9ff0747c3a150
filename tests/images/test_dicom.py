"""DICOM radiographs come out as a viewer shows them, bone bright, and nothing of the header's text with them."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

from fracturelab.errors import UnreadableImageError
from fracturelab.images import image_facts, read_image
from tests.images import check_image

# pytest undoes the filter that keeps pydicom's remarks from users.
pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")

RAMP = np.linspace(0, 4095, 32 * 40).reshape(32, 40).astype(np.uint16)


def dicom(pixels: np.ndarray = RAMP, **elements: Any) -> bytes:
    """A small real DICOM file; an element that is None is left out."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = elements.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset.PatientName, dataset.PatientID = "Doe^Secret", "secret-77"
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if pixels.shape[-1] == 3 else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(data: bytes) -> np.ndarray:
    pixels = read_image(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 1
    return pixels[:, :, 0].astype(int)


def test_without_a_window_values_are_stretched() -> None:
    expected = np.rint(RAMP / 4095 * 255)
    assert np.abs(grey(dicom()) - expected).max() <= 1
    facts = image_facts(dicom())
    assert (facts.width, facts.height) == (40, 32)


def test_monochrome1_is_turned_round() -> None:
    np.testing.assert_array_equal(grey(dicom(PhotometricInterpretation="MONOCHROME1")), 255 - grey(dicom()))


def test_the_window_is_applied_after_rescaling() -> None:
    pixels = grey(dicom(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[1000, 1], WindowWidth=[801, 2]))
    expected = np.clip((RAMP * 2.0 - 1000 - 999.5) / 800 + 0.5, 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 1
    assert pixels.min() == 0
    assert pixels.max() == 255


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_windows(function: str) -> None:
    pixels = grey(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function))
    along = (RAMP - 2000.0) / 1000
    expected = np.clip(along + 0.5, 0, 1) if function == "LINEAR_EXACT" else 1 / (1 + np.exp(-4 * along))
    assert np.abs(pixels - expected * 255).max() <= 1


def test_a_value_of_interest_table_comes_before_the_window() -> None:
    pydicom = pytest.importorskip("pydicom")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = [65535 - 16 * value for value in range(4096)]
    table["LUTData"].VR = table["LUTDescriptor"].VR = "US"
    pixels = grey(dicom(VOILUTSequence=[table], WindowCenter=1, WindowWidth=2))
    assert np.abs(pixels - (65535 - 16 * RAMP.astype(float)) / 65535 * 255).max() <= 1


@pytest.mark.parametrize(("stated", "held"), [(16, 12), (8, 16), (12, 8)])
def test_a_table_is_scaled_by_the_depth_of_its_entries(stated: int, held: int) -> None:
    pydicom = pytest.importorskip("pydicom")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, stated]
    table.LUTData = [round(value * (2**held - 1) / 4095) for value in range(4096)]
    table["LUTData"].VR = table["LUTDescriptor"].VR = "US"
    assert np.abs(grey(dicom(VOILUTSequence=[table])) - RAMP / 4095 * 255).max() <= 1
    table.add_new("LUTData", "OW", np.array(table.LUTData, "<u2").tobytes())
    assert np.abs(grey(dicom(VOILUTSequence=[table])) - RAMP / 4095 * 255).max() <= 1


@pytest.mark.parametrize("window", [(1, 0), (100, -5), (60, 120), (-9000, 100)])
def test_a_window_that_shows_nothing_is_left_out_with_a_remark(window: tuple[int, int]) -> None:
    remarks: list[str] = []
    pixels = read_image(dicom(WindowCenter=window[0], WindowWidth=window[1]), remarks=remarks)
    assert np.abs(pixels[..., 0] - RAMP / 4095 * 255).max() <= 1
    assert ["shows nothing" in remark for remark in remarks] == [True]


def test_without_preamble_transfer_syntax_or_photometric_interpretation() -> None:
    whole = dicom()
    expected, remarks = grey(whole), []
    np.testing.assert_array_equal(grey(whole[132:]), expected)  # the file begins with its group 2
    dataset = io.BytesIO(whole)
    pydicom = pytest.importorskip("pydicom")
    read = pydicom.dcmread(dataset)
    for implicit in (True, False):
        bare = io.BytesIO()
        pydicom.dcmwrite(
            bare, pydicom.Dataset(read), implicit_vr=implicit, little_endian=True, enforce_file_format=False
        )
        pixels = read_image(bare.getvalue(), remarks=remarks)
        np.testing.assert_array_equal(pixels[..., 0], expected)
        assert "no transfer syntax" in remarks.pop()
    np.testing.assert_array_equal(grey(dicom(PhotometricInterpretation=None)), expected)


def test_signed_values_and_padding() -> None:
    values = (RAMP.astype(np.int32) - 2000).astype(np.int16)
    values[:4] = -32000
    padded = grey(dicom(values, PixelPaddingValue=-32000))
    assert not padded[:4].any()
    low = int(values[4:].min())
    assert np.abs(padded[4:] - (values[4:] - low) / (values.max() - low) * 255).max() <= 1
    turned = grey(dicom(values, PixelPaddingValue=-32000, PhotometricInterpretation="MONOCHROME1"))
    assert not turned[:4].any()


def test_colour_becomes_luma() -> None:
    colours = np.stack([RAMP // 16, RAMP // 32, RAMP // 64], axis=-1).astype(np.uint8)
    assert np.abs(grey(dicom(colours)) - colours @ np.array([0.299, 0.587, 0.114])).max() <= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"NumberOfFrames": 3, "pixels": np.stack([RAMP] * 3)}, "3 frames"),
        ({"PixelData": None}, "without a picture"),
        ({"Rows": 60_000, "Columns": 60_000}, "more than the limit"),
        ({"pixels": RAMP[:4]}, "too small"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"PixelData": RAMP.tobytes()[:100]}, "damaged DICOM"),
    ],
)
def test_what_cannot_be_read_is_said_without_quoting_the_header(change: dict[str, Any], said: str) -> None:
    reason = check_image(dicom(**change))
    assert reason is not None
    assert said in reason
    assert "ecret" not in reason


def test_a_compression_without_a_decoder_is_named() -> None:
    pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    reason = check_image(dicom(TransferSyntaxUID=JPEGLSLossless, PixelData=encapsulate([b"\xff\xd8garbage!"])))
    assert reason is not None
    assert "JPEG-LS" in reason


def test_deflated_files_are_refused_before_they_are_inflated() -> None:
    data = b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\x16\0" + b"1.2.840.10008.1.2.1.99" + b"\0" * 50
    pytest.importorskip("pydicom")
    assert "deflated" in (check_image(data) or "")


def test_a_mutated_file_is_read_or_refused() -> None:
    rng = np.random.default_rng(0)
    whole = dicom(WindowCenter=2000, WindowWidth=1000)
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(128, 600, 5):
            data[at] = rng.integers(256)
        reason = check_image(bytes(data[: rng.integers(200, len(data))]))
        assert reason is None or ("\n" not in reason and "ecret" not in reason)


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.delitem(sys.modules, "fracturelab.images.dicom", raising=False)
    with pytest.raises(UnreadableImageError, match=r"fracturelab\[formats\]"):
        read_image(b"\0" * 128 + b"DICM" + b"\0" * 400)
