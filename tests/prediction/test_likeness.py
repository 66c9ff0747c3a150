"""Is an image like the training images: at the stated rate, with the right word, and on the record."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.images import letterbox
from fracturelab.prediction.likeness import FACTS, FEWEST, Likeness, describe, measure, negative, of_card
from tests.hostile.cases import xray

SIZE = 64


def square(picture: np.ndarray) -> np.ndarray:
    return letterbox(picture, SIZE)


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    pixels = np.stack([square(xray(seed)) for seed in range(400)])
    found = describe(pixels, range(200), range(200, 400))
    assert found is not None
    return found


def test_images_like_them_are_called_unlike_no_more_often_than_stated(likeness, happened):
    assert likeness.rate == 0.01
    images = np.stack([square(xray(10_000 + seed)) for seed in range(1_000)])
    remarks = likeness.remarks(images)
    far = sum(map(bool, remarks))
    # The rate holds on average over calibration images: with 200 of them it is 0.01 with a standard deviation of 0.007.
    assert far / 1_000 <= likeness.rate + 0.014
    assert likeness.of_set(images[:50]) == []
    happened("like", f"{far / 1_000:.1%} (stated: {likeness.rate:.0%} on average)")


def changed() -> dict[str, tuple[np.ndarray, str]]:
    """Pictures unlike the training images, each with a word that must be said of it."""
    plain = xray(77)
    y, x = np.mgrid[0:96, 0:128]
    return {
        "too bright": (np.clip(plain.astype(int) + 90, 0, 255).astype(np.uint8), "bright"),
        "too dark": (plain // 4, "black|dark|flat"),
        "narrow": (np.ascontiguousarray(plain[:, 44:76]), "taller"),
        "wide": (np.ascontiguousarray(plain[30:50]), "wider"),
        "negative": (255 - plain, "are black and white exchanged"),
        "noise": (np.random.default_rng(0).integers(0, 256, plain.shape).astype(np.uint8), "grain|busier"),
        "page of text": (np.where((x // 3 + y // 5) % 2, 250, 5).astype(np.uint8), "than the training images"),
        "one grey": (np.full(plain.shape, 120, np.uint8), "than the training images"),
        "black": (np.zeros(plain.shape, np.uint8), "than the training images"),
    }


def test_images_unlike_them_are_said_to_be(likeness, happened):
    import re

    for name, (picture, words) in changed().items():
        [remark] = likeness.remarks(square(picture)[None])
        assert re.search(words, remark), (name, remark)
        assert "About 1 in 100 images from the same source get this remark" in remark
        assert "exchanged" not in remark or name == "negative"
    [nothing] = likeness.remarks(square(xray(77))[None])
    assert nothing == ""
    happened("unlike", f"{len(changed())} of {len(changed())} said, at a rate of 1 in 100")


def test_a_set_is_warned_of_when_chance_does_not_explain_it(likeness):
    pictures = [square(picture) for picture, _ in changed().values()]
    many = np.stack([square(xray(500 + seed)) for seed in range(60)])
    like = [image for image, remark in zip(many, likeness.remarks(many), strict=True) if not remark]
    [sentence] = likeness.of_set(np.stack([*pictures, *like]))
    assert sentence.startswith(f"{len(pictures)} of these {len(pictures) + len(like)} images are unlike")
    assert likeness.of_set(np.stack([*pictures[:1], *like])) == []
    assert likeness.of_set(np.zeros((0, SIZE, SIZE, 1), np.uint8)) == []


def test_the_rate_is_what_so_few_images_allow():
    pixels = np.stack([square(xray(seed)) for seed in range(80)])
    few = describe(pixels, range(40), range(40, 40 + FEWEST))
    assert few is not None
    assert few.rate == pytest.approx(1 / (FEWEST + 1))
    assert few.scores(pixels[40 : 40 + FEWEST]).max() == pytest.approx(few.limit, rel=1e-4)
    assert describe(pixels, range(40), range(40, 40 + FEWEST - 1)) is None
    assert describe(pixels, range(FEWEST - 1), range(40, 80)) is None
    wanted = describe(pixels, range(40), range(40, 80), rate=0.25)
    assert wanted is not None
    far = (wanted.scores(pixels[40:80]) > wanted.limit).sum()
    assert far == 40 - math.ceil(41 * 0.75)


def test_it_survives_the_card_and_a_damaged_one_is_refused(likeness):
    card = json.loads(json.dumps({"name": "m", "likeness": likeness.to_dict()}))
    again = of_card(card)
    assert again is not None
    images = np.stack([square(xray(seed)) for seed in range(5)] + [square(255 - xray(0))])
    np.testing.assert_allclose(again.scores(images), likeness.scores(images), rtol=1e-3)
    assert again.remarks(images) == likeness.remarks(images)
    assert of_card({}) is None
    assert of_card({"likeness": None}) is None
    for change in ({"facts": ["brightness"]}, {"limit": None}, {"quantiles": [[0.0] * 9] * len(FACTS)}, {"rate": 2}):
        with pytest.raises(FracturelabError, match="card of m holds a damaged"):
            of_card({**card, "likeness": {**card["likeness"], **change}})
    with pytest.raises(FracturelabError, match="damaged"):
        of_card({"likeness": [1, 2]})


def test_facts_hardly_depend_on_the_input_size_or_the_padding():
    for picture in (xray(3), np.ascontiguousarray(xray(4)[:, 40:90])):
        facts = [measure(letterbox(picture, size)[None])[0] for size in (64, 128, 224)]
        np.testing.assert_allclose(facts[1][:-1], facts[0][:-1], atol=0.08)
        np.testing.assert_allclose(facts[2][:-1], facts[0][:-1], atol=0.08)
        height, width = picture.shape
        assert facts[0][list(FACTS).index("aspect")] == pytest.approx(math.log(width / height), abs=0.06)


def test_a_negative_of_a_negative_is_the_image():
    image = square(xray(5))[None]
    twice = negative(negative(image))
    np.testing.assert_array_equal(twice, image)
    assert not negative(image)[0, :7].any()  # the padding stays black


def test_rows_are_measured_without_the_rest():
    pixels = np.stack([square(np.asarray(Image.fromarray(xray(seed)).rotate(5 * seed))) for seed in range(6)])
    np.testing.assert_array_equal(measure(pixels, [4, 1]), measure(pixels)[[4, 1]])
