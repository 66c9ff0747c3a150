"""`import fracturelab`: what it offers, and that it loads nothing before it is used."""

from __future__ import annotations

import doctest
import subprocess
import sys

import numpy as np
import pytest

import fracturelab as fl

FRONT_DOOR = (
    *("read_dataset", "audit_dataset", "prepare", "build_cnn", "build_transfer_model", "train_v1", "train_v2"),
    *("evaluate", "load_predictor", "explain", "render_phantom", "plots"),
)


def test_it_offers_a_dozen_names_and_its_docstring_has_them():
    assert set(dir(fl)) == {*FRONT_DOOR, "__version__"}
    for name in FRONT_DOOR:
        assert f"`{name}`" in (fl.__doc__ or "")
        assert getattr(fl, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'tain_v1'"):
        _ = fl.tain_v1


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, fracturelab; dir(fracturelab);"
        "print([name for name in ('numpy', 'pandas', 'tensorflow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_modules_of_the_same_words_stay_modules():
    from fracturelab import audit, evaluation, plots

    assert fl.audit_dataset is audit.audit_dataset and fl.evaluate is evaluation.evaluate and fl.plots is plots


def test_a_map_of_one_radiograph_has_its_size(tmp_path):
    model = fl.build_cnn(input_size=32, filters=(4, 4))
    image = fl.render_phantom(1, size=(48, 32), fractured=True).image
    heat = fl.explain(model, image)
    assert heat.shape == image.shape[:2] and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() <= 1


def test_six_lines_from_a_folder_to_a_saved_and_scored_model(tmp_path, monkeypatch):
    """The example of the package's docstring, on a folder of phantoms."""
    from fracturelab.phantoms import write_set

    monkeypatch.chdir(tmp_path)
    write_set("xrays", n=48, size=64, progress=False)
    example = doctest.DocTestParser().get_doctest(fl.__doc__ or "", {}, "fracturelab", None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert len(example.examples) == 6
    assert runner.run(example).failed == 0
    assert (tmp_path / "mine.keras").is_file()
