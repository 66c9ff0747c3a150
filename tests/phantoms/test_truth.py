"""Boxes of fractures in the square that networks see."""

import numpy as np

from fracturelab.datasets import read_dataset
from fracturelab.images import load_image, read_image
from fracturelab.phantoms import NUISANCES, fracture_boxes, render, write_set


def test_a_box_lies_where_the_fracture_changed_the_image(tmp_path):
    table = read_dataset(write_set(tmp_path / "set", n=4, size=96, seed=3, regions=("leg",), nuisances=False))
    paths, labels = table["path"].tolist(), table["label"].tolist()
    boxes = fracture_boxes(paths, size=48)
    assert [box is not None for box in boxes] == [label == 1 for label in labels]
    for path, box in zip(paths, boxes, strict=True):
        if box is not None:
            x0, y0, x1, y1 = box
            assert 0 <= x0 < x1 <= 48
            assert 0 <= y0 < y1 <= 48
            assert load_image(path, 48)[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].any()


def test_the_box_scales_with_the_square(tmp_path):
    table = read_dataset(write_set(tmp_path / "set", n=1, size=96, seed=3, regions=("leg",), nuisances=False))
    [path] = table["path"]
    [half], [whole] = (fracture_boxes([path], size=side) for side in (48, 96))
    assert np.allclose(np.array(half) * 2, whole, atol=2)
    h, w = read_image(path).shape[:2]
    phantom = render(1_000_000_000 + 3_000_000, size=96, fractured=True, region="leg", nuisances=NONE, letterbox=False)
    assert phantom.image.shape == (h, w)
    assert np.allclose(np.array(phantom.box) + [(96 - w) // 2, (96 - h) // 2] * 2, whole)


def test_images_of_other_sets_have_no_known_box(tmp_path):
    assert fracture_boxes([tmp_path / "x.png"], size=48) == [None]


NONE = dict.fromkeys(NUISANCES, False)
