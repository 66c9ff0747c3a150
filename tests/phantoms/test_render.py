"""Phantoms: one seed one image, twins that differ in the fracture alone, nuisances that say nothing of the label."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from fracturelab.errors import FracturelabError
from fracturelab.phantoms import FRACTURE_KINDS, NUISANCES, REGIONS, SOURCES, fracture_visibility, render
from fracturelab.phantoms.render import draw_nuisances
from fracturelab.phantoms.sources import FIELD, SETTINGS
from fracturelab.phantoms.visibility import MIN_STEP, local_noise

SIZE = 96


@pytest.fixture(scope="module")
def twins():
    """Fractured phantoms and the same without the fracture."""
    pairs = []
    for seed in range(30):
        broken = render(seed, size=SIZE, fractured=True)
        pairs.append((broken, render(seed, size=SIZE, fractured=False, view=broken.view)))
    return pairs


def test_the_same_seed_gives_the_same_image_in_another_process():
    p = render(11, size=SIZE, source="field", fractured=True)
    code = (
        "import hashlib; from fracturelab.phantoms import render; "
        f"p = render(11, size={SIZE}, source='field', fractured=True); "
        "print(hashlib.sha256(p.image.tobytes() + p.mask.tobytes() + p.bone_map.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert out == hashlib.sha256(p.image.tobytes() + p.mask.tobytes() + p.bone_map.tobytes()).hexdigest()


def test_seeds_and_sources_differ():
    images = [render(seed, size=SIZE, source=source).image.tobytes() for seed in range(4) for source in SOURCES]
    assert len(set(images)) == len(images)


def test_the_phantom_says_what_it_is(twins):
    for p, q in twins:
        assert p.image.shape == p.mask.shape == p.bone_map.shape == (SIZE, SIZE)
        assert (p.image.dtype, p.mask.dtype, p.bone_map.dtype) == (np.uint8, bool, np.float32)
        assert p.bone_map.min() >= 0
        assert p.bone_map.max() <= 1
        assert p.bone_map.max() > 0.1
        assert p.label == 1
        assert p.kind in FRACTURE_KINDS
        assert p.region in REGIONS
        assert p.bone
        assert p.side in ("L", "R")
        assert p.age in ("child", "adult")
        x0, y0, x1, y1 = p.box
        inside = np.zeros_like(p.mask)
        inside[y0:y1, x0:x1] = True
        assert p.mask[inside].any()
        assert not p.mask[~inside].any()
        assert (q.label, q.kind, q.bone, q.box, q.visibility) == (0, None, None, None, None)
        assert not q.mask.any()


def test_twins_differ_in_the_fracture_and_nowhere_else(twins):
    near = 0
    for p, q in twins:
        assert p.nuisances == q.nuisances
        assert p.side == q.side
        assert p.region == q.region
        assert p.age == q.age
        changed = p.image != q.image
        assert (changed & p.mask).sum() >= p.visibility.pixels > 0
        if not p.nuisances["two_views"]:
            # fragments turn about the joints: what changes is bone, before or after, and what enhancement spreads
            bone = binary_dilation((p.bone_map > 0.01) | (q.bone_map > 0.01), iterations=4)
            assert not (changed & ~bone).any()
        strong = np.abs(p.image.astype(int) - q.image) > 20
        near += (strong & p.mask).sum() / max(strong.sum(), 1)
    assert near / len(twins) > 0.5  # most of what changes much lies in the mask


def test_every_fracture_shows(twins):
    for p, q in twins:
        v = p.visibility
        assert v.visible
        assert v.pixels >= v.needed
        assert v.contrast >= MIN_STEP
        again = fracture_visibility(p.image, q.image, p.mask)
        assert again.visible


def test_visibility_counts_pixels_above_the_noise():
    flat = np.full((128, 128), 90, np.uint8)
    mask = np.zeros((128, 128), bool)
    mask[40:50, 40:50] = True
    changed = flat.copy()
    changed[40:50, 40:50] += 9
    assert not fracture_visibility(changed, flat, mask).visible  # too faint
    changed[40:50, 40:50] = 130
    seen = fracture_visibility(changed, flat, mask)
    assert seen.visible
    assert seen.pixels == 100
    assert seen.contrast == 40
    few = np.zeros_like(mask)
    few[40, 40:50] = True
    assert not fracture_visibility(changed, flat, few).visible  # too few
    noisy = np.random.default_rng(0).normal(90, 20, (128, 128)).clip(0, 255).astype(np.uint8)
    assert local_noise(noisy) == pytest.approx(20, rel=0.1)
    louder = noisy.copy()
    louder[40:50, 40:50] = np.minimum(noisy[40:50, 40:50].astype(int) + 40, 255)
    assert not fracture_visibility(louder, noisy, mask).visible  # lost in noise
    with pytest.raises(ValueError, match="one shape"):
        fracture_visibility(flat, flat[:64], mask)


@pytest.mark.parametrize("region", REGIONS)
def test_every_kind_breaks_in_every_region(region):
    for n, kind in enumerate(FRACTURE_KINDS):
        p = render(100 + n, size=SIZE, region=region, kind=kind, source=SOURCES[n % 2])
        assert (p.region, p.kind, p.label) == (region, kind, 1)
        assert p.visibility.visible
        assert p.mask.any()


def test_labels_are_even_and_all_kinds_and_regions_come():
    found = [render(seed, size=64) for seed in range(100)]
    labels = np.array([p.label for p in found])
    assert 0.38 < labels.mean() < 0.62
    assert len({p.region for p in found}) >= len(REGIONS) - 1
    assert len({p.kind for p in found if p.label}) >= len(FRACTURE_KINDS) - 1
    for name in NUISANCES:  # what is reported is what was drawn; a trunk has no cast and no second view
        p = [bool(p.nuisances[name]) for p in found if p.region not in ("shoulder", "pelvis")]
        assert 0 < np.mean(p) < 0.9, name


@pytest.mark.parametrize("source", SOURCES)
def test_nuisances_do_not_know_the_label(source):
    s = SETTINGS[source]
    for seed in range(300):
        assert draw_nuisances(seed, s, 0, None, None) == draw_nuisances(seed, s, 1, None, None)
    drawn = [draw_nuisances(seed, s, 1, None, None) for seed in range(3000)]
    for name in NUISANCES:
        assert np.mean([d[name] for d in drawn]) == pytest.approx(s.rates[name], abs=0.035), name
    pairs = np.corrcoef(np.array([[d[name] for name in NUISANCES] for d in drawn], float).T)
    assert np.abs(pairs - np.eye(len(NUISANCES))).max() < 0.07  # nor each other


def test_a_stated_correlation_is_honoured():
    s = SETTINGS["clinic"]
    for label, share in ((1, 0.95), (0, 0.05)):
        drawn = [draw_nuisances(seed, s, label, {"marker": 0.95}, None) for seed in range(2000)]
        assert np.mean([d["marker"] for d in drawn]) == pytest.approx(share, abs=0.02)
        assert np.mean([d["cast"] for d in drawn]) == pytest.approx(s.rates["cast"], abs=0.03)
    for fractured in (True, False):
        found = [render(seed, size=64, fractured=fractured, correlate={"marker": 1.0}) for seed in range(12)]
        assert all(p.nuisances["marker"] is fractured for p in found)


def test_a_forced_nuisance_changes_the_picture_but_not_the_anatomy():
    plain = render(7, size=SIZE, fractured=True, region="forearm", nuisances=dict.fromkeys(NUISANCES, False))
    for name in ("cast", "hardware", "marker"):
        p = render(
            7, size=SIZE, fractured=True, region="forearm", nuisances={**dict.fromkeys(NUISANCES, False), name: True}
        )
        assert p.nuisances[name]
        assert not np.array_equal(p.image, plain.image)
        assert p.kind == plain.kind
        assert p.bone == plain.bone
        clean = {"fractured": False, "region": "forearm"}
        with_it = render(7, size=SIZE, nuisances={**dict.fromkeys(NUISANCES, False), name: True}, **clean)
        without = render(7, size=SIZE, nuisances=dict.fromkeys(NUISANCES, False), **clean)
        np.testing.assert_array_equal(with_it.bone_map, without.bone_map)


def test_gross_fractures_show_more_than_subtle_ones():
    ratios = []
    for seed in range(12):
        gross, subtle = (
            render(seed, size=SIZE, kind="spiral", difficulty=difficulty).visibility for difficulty in (0, 1)
        )
        ratios.append(gross.pixels * gross.contrast / (subtle.pixels * subtle.contrast))
    assert np.exp(np.mean(np.log(ratios))) > 1.5


def test_zoom_magnifies():
    far = render(3, size=SIZE, zoom=0.9, region="leg").nuisances["pixels_per_cm"]
    close = render(3, size=SIZE, zoom=3, region="leg").nuisances["pixels_per_cm"]
    assert close > 2 * far


@pytest.mark.parametrize("size", [64, (80, 120), (150, 90), 224])
def test_any_size(size):
    p = render(5, size=size, fractured=True)
    assert p.image.shape == ((size, size) if isinstance(size, int) else size)


def test_without_letterbox_the_plate_alone():
    p = render(5, size=128, letterbox=False)
    assert max(p.image.shape) == 128
    assert min(p.image.shape) < 128
    whole = render(5, size=128)
    assert (whole.image > 0).sum() == (p.image > 0).sum()


def test_a_plate_of_full_resolution():
    p = render(3, size=(2880, 2304), fractured=True, region="hand", zoom=0.9, nuisances=dict.fromkeys(NUISANCES, False))
    assert p.image.shape == (2880, 2304)
    assert p.visibility.visible
    assert p.image.std() > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"kind": "greenstik"}, "kind"),
        ({"region": "skull"}, "region"),
        ({"source": "home"}, "source"),
        ({"size": 8}, "size"),
        ({"size": (9000, 100)}, "size"),
        ({"correlate": {"marker": 1.5}}, "between 0 and 1"),
        ({"correlate": {"shoe": 0.5}}, "nuisance"),
        ({"zoom": (3, 2)}, "zoom"),
        ({"difficulty": float("nan")}, "difficulty"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(FracturelabError, match=message):
        render(**{"seed": 0, "size": 64, **options})


def test_field_is_another_place():
    assert set(SETTINGS) == set(SOURCES)
    assert FIELD.photographed
    assert not set(FIELD.marker_styles) & set(SETTINGS["clinic"].marker_styles)
    # frozen: models are judged on these settings, so they do not change
    assert hashlib.sha256(repr(FIELD).encode()).hexdigest()[:16] == "f6c17e53d2569c61"
