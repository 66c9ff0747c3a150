"""Read the pixels of a DICOM radiograph as a viewer shows them. Needs the extra `fracturelab[formats]`.

Only the elements that shape the picture are read; names, dates and every other text of the header stay in the file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import pydicom  # type: ignore[import-not-found,unused-ignore]
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian  # type: ignore[import-not-found,unused-ignore]

from fracturelab.errors import UnreadableImageError
from fracturelab.images.grayscale import luma, scale_integers, scale_reals
from fracturelab.images.opening import check_size

# The remarks of pydicom quote header values; what matters raises.
warnings.filterwarnings("ignore", module="pydicom")

USELESS_WINDOW = "The DICOM window shows nothing; it was left out."
NO_SYNTAX = "The DICOM file names no transfer syntax; a plain one was taken."

_ELEMENTS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LossyImageCompression", "PixelData"),
]
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_LEAST_SHOWN = 0.05  # of the pixels must lie inside a window


def open_dicom(file: BinaryIO, *, name: str, remarks: list[str]) -> Any:
    """Read the header of a single-frame DICOM image and fill in elements that are missing and have one usual value.

    Args:
        file: The open file, at its first byte.
        name: The name of the file in errors.
        remarks: Takes what should be known about how the file was read.

    Returns:
        pydicom's data set.

    Raises:
        UnreadableImageError: Several frames, no picture, a size outside the limits, or damage.
    """
    head = file.read(8192)
    file.seek(0)
    if _DEFLATED in head:  # its header can only be read by inflating all of it, however large that is
        raise UnreadableImageError(name, "a deflated DICOM file, which is not read")
    try:
        dataset = pydicom.dcmread(file, specific_tags=_ELEMENTS, force=True)
        frames, rows, columns = (int(dataset.get(word) or 0) for word in ("NumberOfFrames", "Rows", "Columns"))
        samples, bits = (
            int(dataset.get(word) or default) for word, default in (("SamplesPerPixel", 1), ("BitsAllocated", 16))
        )
        usual: dict[str, Any] = {
            "SamplesPerPixel": samples,
            "BitsAllocated": bits,
            "BitsStored": bits,
            "PixelRepresentation": 0,
        }
        usual |= {"PhotometricInterpretation": "MONOCHROME2" if samples == 1 else "RGB", "PlanarConfiguration": 0}
        for word, value in usual.items():
            if dataset.get(word) is None:
                setattr(dataset, word, value)
        pixels = dataset.get("PixelData")
        if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta = getattr(dataset, "file_meta", pydicom.dataset.FileMetaDataset())
            implicit, little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
            remarks.append(NO_SYNTAX)
    except Exception as error:
        raise UnreadableImageError(name, _damaged(error)) from None
    if frames > 1:
        raise UnreadableImageError(name, f"a DICOM file of {frames} frames; only single images are read")
    if pixels is None or not rows or not columns:
        raise UnreadableImageError(name, "a DICOM file without a picture")
    check_size(columns, rows, name)
    if str(dataset.PhotometricInterpretation).startswith("PALETTE"):
        raise UnreadableImageError(name, "a DICOM file in palette colours, which is not read")
    return dataset


def read_dicom(file: BinaryIO, *, name: str, remarks: list[str]) -> np.ndarray:
    """Decode a single-frame DICOM image to grayscale.

    Rescaling (or a modality table) is applied first, then the value-of-interest table or the first window (linear,
    exact linear or sigmoid, DICOM PS3.3 C.11.2.1). Without a table or a window, and where a window leaves fewer than 5%
    of the pixels between black and white, values follow the same rule as those of any other file (`scale_integers`,
    `scale_reals`). MONOCHROME1, where high values are dark, is inverted so that bone is bright. Padding is black.
    Colour becomes luma.

    Args:
        file: The open file, at its first byte.
        name: The name of the file in errors.
        remarks: Takes what should be known about how the file was read.

    Returns:
        uint8, (height, width).

    Raises:
        UnreadableImageError: As for `open_dicom`, and a compression without an installed decoder.
    """
    dataset = open_dicom(file, name=name, remarks=remarks)
    try:
        values = dataset.pixel_array  # pydicom 3 turns every kind of colour into RGB
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableImageError(name, _undecoded(dataset, error)) from None
    try:
        if values.ndim == 3:
            grey = luma(values)
            return grey if grey.dtype == np.uint8 else scale_integers(grey)
        return _grey(values, dataset, remarks)
    except Exception as error:
        raise UnreadableImageError(name, _damaged(error)) from None


def window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply a DICOM window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: Rescaled pixel values.
        center: The centre of the window.
        width: Its width, at least 1 (LINEAR) or above 0.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

    Returns:
        Brightness from 0 to 1; values beyond the window are not yet clipped.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / (width - 1) + 0.5


def _grey(values: np.ndarray, dataset: Any, remarks: list[str]) -> np.ndarray:
    first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    padding = np.zeros(values.shape, bool)
    if first is not None:
        low, high = sorted((int(first), int(first if last is None else last)))
        padding = (values >= low) & (values <= high)
        if not padding.all():
            values = np.where(padding, values[~padding].min(), values)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if dataset.get("ModalityLUTSequence"):
        values = _look_up(values, dataset.ModalityLUTSequence[0])
    elif (slope, intercept) != (1, 0):
        values = values * slope + intercept
    if dataset.get("VOILUTSequence"):
        shown = _look_up(values, dataset.VOILUTSequence[0], scale_integers)
    else:
        whole = values.astype(np.int64) if np.all(np.mod(values, 1) == 0) else values
        bright = _windowed(values, dataset, remarks)
        shown = scale_reals(whole) if bright is None else np.rint(bright * 255).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    return np.where(padding, 0, shown).astype(np.uint8)


def _windowed(values: np.ndarray, dataset: Any, remarks: list[str]) -> np.ndarray | None:
    """The brightness that the window gives, 0 to 1, or None where there is no window that shows something."""
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    center, width = (_first(dataset.get(word)) for word in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if math.isfinite(center) and math.isfinite(width) and width > (function == "LINEAR"):
        shown = window(values.astype(np.float64), center, width, function)
        picture = shown[values > values.min()]  # without padding and a blank background
        if np.count_nonzero((picture > 0.002) & (picture < 0.998)) >= max(1, _LEAST_SHOWN * picture.size):
            return shown.clip(0, 1)
    remarks.append(USELESS_WINDOW)
    return None


def _look_up(values: np.ndarray, item: Any, scale: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
    """Apply a lookup table, scaled, by the entries it has, whatever depth it states."""
    entries, start = int(item.LUTDescriptor[0]) or 65536, int(item.LUTDescriptor[1])
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else "u1")
    table = scale(np.asarray(data, np.uint16)[:entries])
    if start > 32767 and values.min() < 0:  # written as unsigned, meant as signed
        start -= 65536
    return table[np.clip(np.rint(values).astype(np.int64) - start, 0, len(table) - 1)]


def _damaged(error: Exception) -> str:
    """Name the kind of error only: its text may quote the header."""
    return f"damaged DICOM data ({type(error).__name__})"


def _undecoded(dataset: Any, error: Exception) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    if getattr(syntax, "is_compressed", False) and isinstance(error, RuntimeError):
        return (
            f"a DICOM file in {syntax.name}: damaged, or no decoder for it is installed (pip install 'pylibjpeg[all]')"
        )
    return _damaged(error)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
