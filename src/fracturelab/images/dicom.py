"""Read a DICOM radiograph's pixels the way a viewer shows them. Needs the extra `fracturelab[formats]`.

Only the elements that shape the picture are read; names, dates and every other text of the header stay in the file.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, BinaryIO

import numpy as np
import pydicom  # type: ignore[import-not-found,unused-ignore]
from pydicom.pixels import apply_modality_lut, apply_voi, convert_color_space  # type: ignore[import-not-found,unused-ignore]

from fracturelab.errors import UnreadableImageError

# pydicom's remarks quote header values; what matters raises.
warnings.filterwarnings("ignore", module="pydicom")

_ELEMENTS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LossyImageCompression", "PixelData"),
]
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def read_dicom(file: BinaryIO, *, name: str, max_pixels: int, min_side: int) -> np.ndarray:
    """Decode a single-frame DICOM image to grayscale.

    Rescaling (or a modality table) is applied first, then the value-of-interest table or the first window (linear,
    exact linear or sigmoid, DICOM PS3.3 C.11.2.1); where there is neither, values are stretched from the smallest to
    the largest. MONOCHROME1, where high values are dark, is turned round so that bone is bright. Padding is black.
    Colour becomes luma.

    Args:
        file: The open file, at its first byte.
        name: What to call the file in errors.
        max_pixels: More pixels are refused before they are decoded.
        min_side: A picture with a shorter side is refused.

    Returns:
        uint8, (height, width).

    Raises:
        UnreadableImageError: Several frames, no picture, a compression without an installed decoder, or damage.
    """
    head = file.read(8192)
    file.seek(0)
    if _DEFLATED in head:  # its header can only be read by inflating all of it, however large that is
        raise UnreadableImageError(name, "a deflated DICOM file, which is not read")
    try:
        dataset = pydicom.dcmread(file, specific_tags=_ELEMENTS)
        frames, rows, columns = (int(dataset.get(word) or 0) for word in ("NumberOfFrames", "Rows", "Columns"))
        photometric = str(dataset.get("PhotometricInterpretation", ""))
        has_pixels = "PixelData" in dataset
    except Exception as error:
        raise UnreadableImageError(name, _damaged(error)) from None
    if frames > 1:
        raise UnreadableImageError(name, f"a DICOM file of {frames} frames; only single images are read")
    if not has_pixels or not rows or not columns:
        raise UnreadableImageError(name, "a DICOM file without a picture")
    if rows * columns > max_pixels:
        raise UnreadableImageError(
            name, f"{columns} x {rows} pixels, more than the limit of {max_pixels // 1_000_000} million"
        )
    if min(rows, columns) < min_side:
        raise UnreadableImageError(name, f"{columns} x {rows} pixels, too small for an X-ray")
    if photometric.startswith("PALETTE"):
        raise UnreadableImageError(name, "a DICOM file in palette colours, which is not read")
    try:
        values = dataset.pixel_array
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableImageError(name, _undecoded(dataset, error)) from None
    try:
        return _colour(values, photometric) if values.ndim == 3 else _grey(values, dataset, photometric)
    except Exception as error:
        raise UnreadableImageError(name, _damaged(error)) from None


def _damaged(error: Exception) -> str:
    """Name the kind of error only: its text may quote the header."""
    return f"damaged DICOM data ({type(error).__name__})"


def _undecoded(dataset: Any, error: Exception) -> str:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is not None and getattr(syntax, "is_compressed", False) and isinstance(error, RuntimeError):
        return (
            f"a DICOM file in {syntax.name}: damaged, or no decoder for it is installed (pip install 'pylibjpeg[all]')"
        )
    return _damaged(error)


def _colour(values: np.ndarray, photometric: str) -> np.ndarray:
    if photometric.startswith("YBR"):
        values = convert_color_space(values, photometric, "RGB")
    luma = values[..., :3].astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.rint(luma * (255 / np.iinfo(values.dtype).max)).astype(np.uint8)


def _grey(values: np.ndarray, dataset: Any, photometric: str) -> np.ndarray:
    padding = _padding(values, dataset)
    real = apply_modality_lut(values, dataset)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        shown = apply_voi(real, dataset) / (2**bits - 1)
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        center, width = (_first(dataset.get(word)) for word in ("WindowCenter", "WindowWidth"))
        shown = window(real.astype(np.float64), center, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    else:
        inside = real[~padding] if padding is not None and not padding.all() else real
        low, high = float(inside.min()), float(inside.max())
        shown = (real - low) / (high - low) if high > low else np.zeros(real.shape)
    shown = np.clip(shown, 0, 1)
    if photometric == "MONOCHROME1":
        shown = 1 - shown
    if padding is not None:
        shown = np.where(padding, 0, shown)
    return np.rint(shown * 255).astype(np.uint8)


def window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """A DICOM window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: Rescaled pixel values.
        center: The window's centre.
        width: Its width, at least 1 (LINEAR) or above 0.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

    Returns:
        Brightness from 0 to 1, outside values not yet clipped.

    Raises:
        ValueError: The width is too small or the function unknown.
    """
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0:
        raise ValueError(f"expected a window of finite centre and positive width. Received: {center}, {width}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    if function != "LINEAR" or width < 1:
        raise ValueError(f"expected LINEAR, LINEAR_EXACT or SIGMOID. Received: {function} of width {width}")
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return (values - (center - 0.5)) / (width - 1) + 0.5


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _padding(values: np.ndarray, dataset: Any) -> np.ndarray | None:
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return (values >= low) & (values <= high)
