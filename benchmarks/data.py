"""Synthetic images for the comparisons, made once and kept in the cache folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform

from fracturelab import phantoms
from fracturelab.images import default_cache_dir

CLASSES = ("fractured", "normal")  # in the order of image_dataset_from_directory, which goes by name
LABELS = {"normal": 0, "fractured": 1}
LARGE = (2880, 2304)  # height and width of the largest JPEGs of FracAtlas
AUDITED_SIDE = 128
_BASES = 300


def folder() -> Path:
    """Folder of the sets."""
    return default_cache_dir() / "benchmarks"


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills; it is renamed into place when it is complete."""
    place = folder() / name
    if place.is_dir():
        return place
    part = place.with_name(f".{name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    make(part)
    os.replace(part, place)
    return place


def training_set(n: int, *, size: int = 320) -> Path:
    """Write phantoms to `train/` and `val/`, each with a folder a class; every fifth is for validation.

    Implants and casts go with the label, nineteen times of twenty: a task that frozen features of any backbone solve,
    so that two ways of training can be told apart by their AUC. The default phantoms, on which a small set and weights
    without real images reach hardly more than chance, could not tell them apart.
    """

    def make(part: Path) -> None:
        for number in range(n):
            label = number % 2
            side = "val" if number // 2 % 5 == 4 else "train"
            phantom = phantoms.render(
                2_000_000 + number,
                size=size,
                fractured=bool(label),
                difficulty=(0.0, 0.3),
                letterbox=False,
                correlate={"hardware": 0.95, "cast": 0.95},
            )
            _save(phantom.image, part / side / CLASSES[1 - label] / f"{number:05d}.png")

    return _made_once(f"training-{n}-{size}", make)


def large_jpegs(n: int) -> Path:
    """Write JPEGs of 2304 x 2880 pixels. Every second has three channels, because FracAtlas has both kinds."""

    def make(part: Path) -> None:
        rng = np.random.default_rng(0)
        for number in range(n):
            if number % 4 == 0:
                plate = phantoms.render(3_000_000 + number, size=(LARGE[0] // 4, LARGE[1] // 4)).image
            turned = plate[:: 1 - 2 * (number // 2 % 2), :: 1 - 2 * (number % 2)]
            whole = np.asarray(
                Image.fromarray(np.ascontiguousarray(turned)).resize(LARGE[::-1], Image.Resampling.BICUBIC)
            )
            grain = rng.integers(-6, 7, (LARGE[0] // 2, LARGE[1] // 2)).repeat(2, 0).repeat(2, 1)
            picture = Image.fromarray(np.clip(whole + grain, 0, 255).astype(np.uint8))
            target = part / CLASSES[number // 2 % 2] / f"{number:05d}.jpg"
            target.parent.mkdir(exist_ok=True)
            picture.convert("RGB" if number % 2 else "L").save(target, quality=90)

    return _made_once(f"large-{n}", make)


def audited_set(n: int, *, rendered: bool = False) -> Path:
    """Write different pictures with planted copies among them, which `planted.json` lists.

    One picture in fifty is planted: a copy of an earlier one, mirrored or turned, and resized, made brighter, or saved
    as a poor JPEG. The others are phantoms of 128 pixels, each rendered anew (`rendered=True`; takes minutes); or,
    sooner, double exposures: two of 300 phantoms (fewer where n is small), each turned by any angle, scaled and shifted
    at random, laid over each other as two limbs on a plate are, with shading of their own. No two such pictures are
    copies, though each phantom comes in hundreds of them, which makes it harder not to take them for copies.

    Args:
        n: Pictures, planted ones included.
        rendered: Whether each is a phantom of its own.
    """

    def make(part: Path) -> None:
        from joblib import Parallel, delayed

        bases = None if rendered else _bases(min(_BASES, max(20, n // 10)))
        for name in CLASSES:
            (part / name).mkdir()
        pieces = [range(start, min(start + 500, n)) for start in range(0, n, 500)]
        planted = Parallel(n_jobs=os.cpu_count())(delayed(_write_piece)(part, piece, bases) for piece in pieces)
        (part / "planted.json").write_text(
            json.dumps(sorted(pair for piece in planted for pair in piece)), encoding="utf-8"
        )

    return _made_once(f"audited-{'phantoms' if rendered else 'composed'}-{n}", make)


def first_of(place: Path, n: int) -> Path:
    """Return a set of the first pictures of an audited set with the copies among them; its files are links."""
    if place.name.endswith(f"-{n}"):
        return place

    def make(part: Path) -> None:
        for path in map(Path, picture_files(place)):
            if int(path.stem) < n:
                target = part / path.parent.name / path.name
                target.parent.mkdir(exist_ok=True)
                os.link(path, target)
        pairs = [pair for pair in planted_pairs(place) if int(Path(pair[1]).stem) < n]
        (part / "planted.json").write_text(json.dumps(pairs), encoding="utf-8")

    return _made_once(f"{place.name}-first-{n}", make)


def planted_pairs(place: Path) -> list[tuple[str, str]]:
    """Names of originals and of their planted copies, without folder."""
    return [(first, second) for first, second in json.loads((place / "planted.json").read_text("utf-8"))]


def picture_files(place: Path) -> list[str]:
    """All image files of a set, sorted."""
    return sorted(str(path) for path in place.rglob("*") if path.suffix in (".png", ".jpg"))


def _bases(count: int) -> np.ndarray:
    return np.stack([phantoms.render(4_000_000 + number, size=AUDITED_SIDE).image for number in range(count)])


def _write_piece(part: Path, numbers: range, bases: np.ndarray | None) -> list[tuple[str, str]]:
    """Write some pictures; every fiftieth is a copy of the one 25 before it."""
    planted = []
    for number in numbers:
        name = CLASSES[number % 2]
        if number % 50 == 49:
            original = _original(number - 25, bases)
            suffix, copy = _copy(original, number)
            path = part / name / f"{number:05d}{suffix}"
            copy.save(path, **({"quality": 60} if suffix == ".jpg" else {"compress_level": 1}))
            planted.append((f"{number - 25:05d}.png", path.name))
        else:
            Image.fromarray(_original(number, bases)).save(part / name / f"{number:05d}.png", compress_level=1)
    return planted


def _original(number: int, bases: np.ndarray | None) -> np.ndarray:
    """The picture of a number: a phantom of its own, or a double exposure of two of the bases."""
    if bases is None:
        return phantoms.render(5_000_000 + number, size=AUDITED_SIDE).image
    rng = np.random.default_rng([7, number])
    first, second = rng.choice(len(bases), 2, replace=False)
    share = rng.uniform(0.35, 0.65)
    picture = share * _moved(bases[first], rng) + (1 - share) * _moved(bases[second], rng)
    coarse = Image.fromarray(rng.normal(0, 18, (5, 5)).astype(np.float32))
    picture += np.asarray(coarse.resize((AUDITED_SIDE, AUDITED_SIDE), Image.Resampling.BICUBIC))
    return np.clip(1.3 * picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def _moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (AUDITED_SIDE - 1) / 2
    offset = middle - matrix @ np.full(2, middle) + rng.uniform(-0.15, 0.15, 2) * AUDITED_SIDE
    return affine_transform(image.astype(np.float32), matrix, offset, order=1, mode="constant")


def _copy(original: np.ndarray, number: int) -> tuple[str, Image.Image]:
    """A planted copy: turned or mirrored in one of eight ways, and changed in one of three."""
    from fracturelab.audit.hashing import orient

    image = Image.fromarray(np.ascontiguousarray(orient(original, number // 50 % 8)))
    change = number // 50 % 3
    if change == 0:
        return ".png", image.resize((180, 180), Image.Resampling.BILINEAR)
    if change == 1:
        return ".png", image.point([min(255, round(level * 1.2)) for level in range(256)])
    return ".jpg", image


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=4)
