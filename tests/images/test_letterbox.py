"""The square that every image is fitted into."""

from __future__ import annotations

import io
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fracturelab.images import letterbox, load_image


@settings(max_examples=60, deadline=None)
@example(75, 90, 33)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 80))
def test_shape_padding_and_brightness(height: int, width: int, size: int) -> None:
    image = np.full((height, width, 1), 200, np.uint8)
    square = letterbox(image, size)
    assert square.shape == (size, size, 1)
    assert square.dtype == np.uint8
    rows, columns = np.nonzero(square[:, :, 0])
    shown = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    assert max(shown) == size
    expected = tuple(
        max(1, floor(Fraction(side * size, max(height, width)) + Fraction(1, 2))) for side in image.shape[:2]
    )
    assert shown == expected
    assert (square[square > 0] == 200).all()
    assert abs(rows.min() - (size - 1 - rows.max())) <= 1
    assert abs(columns.min() - (size - 1 - columns.max())) <= 1


def test_an_image_of_that_size_is_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 1), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox(image, 33), image)
    np.testing.assert_array_equal(letterbox(image[:, :, 0], 33), image)


def test_shrinking_averages_what_it_covers() -> None:
    """A grid of thin lines keeps its mean; taking every n-th pixel would lose or double it."""
    image = np.zeros((400, 400, 1), np.uint8)
    image[::10] = 250
    square = letterbox(image, 100)
    assert abs(square.mean() - image.mean()) < 1
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 1), dtype=np.uint8)
    averaged = noise[:, :, 0].reshape(80, 8, 80, 8).mean(axis=(1, 3))
    error = np.abs(letterbox(noise, 80)[:, :, 0] - averaged)
    assert error.mean() < 6  # the standard deviation of one pixel of this noise is 74


def test_rotating_before_or_after_is_the_same() -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 62, 1), dtype=np.uint8)
    turned = letterbox(np.rot90(image).copy(), 45).astype(int)
    assert np.abs(turned - np.rot90(letterbox(image, 45))).max() <= 1


def test_load_image_of_a_large_jpeg_is_close_to_decoding_all_of_it() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 50), dtype=np.uint8)).resize((1000, 1200))
    noisy = (np.asarray(coarse) + rng.normal(0, 6, (1200, 1000))).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).convert("RGB").save(buffer, "JPEG", quality=90)
    whole = letterbox(np.asarray(Image.open(buffer).convert("L"))[:, :, np.newaxis], 128).astype(int)
    difference = np.abs(load_image(buffer.getvalue(), 128) - whole)
    assert difference.max() <= 8
    assert difference.mean() < 0.6


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1), np.float32), np.zeros(4, np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 .* Received"):
        letterbox(image, 8)


def test_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="Received: 0"):
        letterbox(np.zeros((4, 4, 1), np.uint8), 0)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        letterbox(np.zeros((0, 4, 1), np.uint8), 8)
