"""Near-duplicates: planted copies in every orientation are found, look-alikes are not tied together."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from fracturelab.audit import hashing
from fracturelab.audit.duplicates import join_pairs, local_contrast, near_duplicate_pairs
from fracturelab.audit.hashing import BITS, ORIENTATIONS, candidate_pairs, frequencies, hashes, orient, oriented
from fracturelab.audit.reading import thumbnail
from tests.audit import near_duplicate_groups


@cache
def picture(seed: int, height: int = 240, width: int = 200) -> np.ndarray:
    """A bright shaft on dark ground with texture of every scale: like an X-ray to a hash, different for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    lean, middle = rng.uniform(-0.3, 0.3), rng.uniform(0.3, 0.7) * width
    shaft = np.exp(-(((columns - middle - lean * (rows - height / 2)) / (0.12 * width)) ** 2))
    texture = np.zeros((height, width))
    for cells in (4, 10, 25):
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        texture += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.5
    image = np.clip(40 + 130 * shaft + 14 * texture / texture.std(), 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def thumbnails() -> np.ndarray:
    return np.stack([thumbnail(picture(seed)) for seed in range(60)])


def test_frequencies_are_those_of_scipy(thumbnails):
    small = thumbnails.reshape(-1, 32, 2, 32, 2).mean((2, 4))
    expected = dctn(small, axes=(1, 2), norm="ortho")
    found = frequencies(thumbnails)
    assert found.shape == (60, BITS)
    assert np.allclose(found[:, :2], np.stack([expected[:, 1, 0], expected[:, 0, 1]], axis=1), atol=1e-2)
    everything = np.sort(np.abs(expected[0, :11, :11]).ravel())
    assert all(np.abs(everything - abs(value)).min() < 1e-2 for value in found[0])


@pytest.mark.parametrize("orientation", range(8))
def test_frequencies_of_a_turned_picture_follow_from_those_of_the_picture(thumbnails, orientation):
    turned = np.ascontiguousarray(orient(thumbnails, orientation))
    assert np.allclose(frequencies(turned), oriented(frequencies(thumbnails), orientation), atol=1e-2)


@pytest.mark.parametrize("orientation", range(8))
def test_every_orientation_is_different_and_has_its_inverse(orientation):
    image = np.arange(12).reshape(3, 4)
    turned = orient(image, orientation)
    assert np.array_equal(orient(turned, int(INVERSE[orientation])), image)
    assert sum(np.array_equal(turned, orient(image, other)) for other in range(8)) == 1


def test_the_names_of_the_orientations_say_what_is_done():
    image = np.arange(12).reshape(3, 4)
    turns = {
        "as is": image,
        "mirrored left-right": image[:, ::-1],
        "half turn": image[::-1, ::-1],
        "transposed": image.T,
    }
    for name, expected in turns.items():
        assert np.array_equal(orient(image, ORIENTATIONS.index(name)), expected)
    quarter = orient(image, ORIENTATIONS.index("quarter turn"))
    three = orient(image, ORIENTATIONS.index("three-quarter turn"))
    assert np.array_equal(quarter, np.rot90(image, -1))  # clockwise
    assert np.array_equal(three, np.rot90(image, 1))


INVERSE = [0, 1, 2, 3, 4, 6, 5, 7]  # the orientation that undoes each one


def test_candidates_within_four_bits_are_all_found():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((300, BITS)).astype(np.float32)
    copies = base[:100].copy()
    for row in range(100):
        bits = rng.choice(BITS, 4, replace=False)
        copies[row, bits] *= -1  # any four bits, not only those near zero
    found = set()
    for _, first, second, distance in candidate_pairs(np.concatenate([base, copies])):
        assert (first < second).all()
        found |= {
            pair[:2] for pair in zip(first.tolist(), second.tolist(), distance.tolist(), strict=True) if pair[2] <= 4
        }
    assert {(row, 300 + row) for row in range(100)} <= found


def test_candidate_distances_are_those_of_the_hashes(thumbnails, monkeypatch):
    monkeypatch.setattr(hashing, "RADIUS", 24)
    coefficients = frequencies(thumbnails)
    own = hashes(coefficients)
    seen = 0
    for orientation, first, second, distance in candidate_pairs(coefficients):
        for a, b, bits in zip(first, second, distance, strict=True):
            turned = hashes(frequencies(np.ascontiguousarray(orient(thumbnails[b : b + 1], orientation))))[0]
            seen += 1
            assert abs(int(own[a] ^ turned).bit_count() - bits) <= 1  # a coefficient at zero can round either way
        if seen > 200:
            break
    assert seen


@pytest.mark.parametrize("orientation", range(8))
def test_copies_in_every_orientation_are_found_and_named(orientation):
    originals = [picture(seed) for seed in range(20)]
    copies = [np.ascontiguousarray(orient(image, orientation)) for image in originals]
    shown = np.stack([thumbnail(image) for image in originals + copies])
    pairs, blank = near_duplicate_pairs(shown)
    assert not blank.any()
    assert pairs["first"].tolist() == list(range(20))
    assert pairs["second"].tolist() == list(range(20, 40))
    assert (pairs["correlation"] > 0.97).all()
    # The orientation is what lays the copy back over the original.
    assert set(pairs["orientation"]) == {int(INVERSE[orientation])}


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 25),
        lambda image: resized(image, 0.6),
        lambda image: resized(image, 1.7),
        lambda image: np.clip(image * 1.25, 0, 255).astype(np.uint8),
        lambda image: (image * 0.6 + 20).astype(np.uint8),
        lambda image: (255 * (image / 255.0) ** 0.75).astype(np.uint8),
        lambda image: jpeg(resized(np.ascontiguousarray(image[:, ::-1] // 2), 0.7), 60),
    ],
    ids=[
        "recompressed",
        "smaller",
        "larger",
        "brighter",
        "flatter",
        "gamma",
        "mirrored, darker, smaller, recompressed",
    ],
)
def test_changed_copies_are_found(change):
    originals = [picture(seed) for seed in range(40)]
    groups = near_duplicate_groups([*originals, *(change(image) for image in originals)])
    assert groups[:40].tolist() == list(range(40))
    assert groups[40:].tolist() == list(range(40))


def test_different_pictures_stay_apart():
    assert near_duplicate_groups([picture(seed) for seed in range(150)]).tolist() == list(range(150))


def test_look_alikes_in_one_frame_stay_apart():
    """The same letterbox, table edge and pose around different contents must not count as a copy."""
    pictures = []
    for seed in range(100):
        image = np.zeros((240, 240), np.uint8)
        image[:, 40:200] = picture(seed, 240, 160)
        image[222:, 40:200] = 250
        pictures.append(image)
    assert len(set(near_duplicate_groups(pictures))) == 100


def test_almost_blank_pictures_are_not_tied_together():
    rng = np.random.default_rng(0)
    blank = [np.full((180, 180), level, np.uint8) for level in (0, 0, 17, 120, 255)]
    noise = [(100 + rng.integers(0, 2, (180, 180))).astype(np.uint8) for _ in range(5)]
    ramp = [np.tile(np.linspace(0, end, 180), (180, 1)).astype(np.uint8) for end in (60, 61, 62)]
    shown = np.stack([thumbnail(image) for image in blank + noise + ramp])
    pairs, empty = near_duplicate_pairs(shown)
    assert empty[:10].all()
    assert len(pairs["first"]) == 0 or pairs["first"].min() >= 10


def test_no_pictures_have_no_pairs():
    pairs, blank = near_duplicate_pairs(np.zeros((0, 64, 64), np.uint8))
    assert len(pairs) == 0
    assert len(blank) == 0


def test_local_contrast_forgets_brightness_and_contrast(thumbnails):
    first, _ = local_contrast(thumbnails)
    second, _ = local_contrast((thumbnails // 2 + 60).astype(np.uint8))
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)]
    assert min(alike) > 0.98


def test_many_copies_of_one_picture_are_one_group(thumbnails):
    shown = np.concatenate([np.repeat(thumbnails[:1], 30, axis=0), thumbnails[1:5]])
    pairs, _ = near_duplicate_pairs(shown)
    assert len(pairs["first"]) == 30 * 29 // 2
    assert join_pairs(34, pairs["first"], pairs["second"]).tolist() == [0] * 30 + [1, 2, 3, 4]


def test_join_pairs_follows_chains_and_numbers_by_first_appearance():
    assert join_pairs(6, np.array([5, 3]), np.array([3, 1])).tolist() == [0, 1, 2, 1, 3, 1]
    assert join_pairs(0, np.zeros(0, int), np.zeros(0, int)).tolist() == []
