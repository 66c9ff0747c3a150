"""Writes sets of phantoms: PNG files and `labels.csv`, and the embedded default sets, made once and cached."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.fractures import FRACTURE_KINDS
from fracturelab.phantoms.randomness import stream
from fracturelab.phantoms.render import Phantom, render
from fracturelab.phantoms.sources import GENERATOR_VERSION, settings

COLUMNS = (
    "path",
    "label",
    "group",
    "kind",
    "source",
    "region",
    "bone",
    "side",
    "age",
    "cast",
    "hardware",
    "marker",
    "ring",
    "two_views",
    "swelling",
    "x0",
    "y0",
    "x1",
    "y1",
    "seed",
)
MANIFEST = "phantoms.json"
# Seeds of written sets start here, so that small seeds rendered for pretraining never meet them.
FIRST_SEED = 1_000_000_000
DEFAULT_SIZE = 320
DEFAULT_COUNTS = {"clinic": 420, "field": 160}
UNSEEN_COUNT = 160
# The default sets look at one bone more than at the whole limb, and leave out the subtlest fractures: a few hundred
# images at 100 to 160 pixels cannot teach what covers a pixel or two of them.
DEFAULT_ZOOM = (1.3, 3.0)
DEFAULT_DIFFICULTY = (0.0, 0.6)
DEFAULT_EDITION = 2  # raise when the three lines above change
_NOTE = """These images are synthetic.

They were computed from a seed by fracturelab.phantoms (generator version {version}). They show no patient and are no
medical evidence. They may be used under the licence of fracturelab, Apache-2.0.

labels.csv holds one row an image: path, label (0 normal, 1 fractured), group, kind of fracture, source, region, bone,
side, age, what else is in the picture, the box x0,y0,x1,y1 around the fracture in pixels, and the seed.
"""


def _row(path: str, p: Phantom) -> dict:
    box = p.box or ("", "", "", "")
    return {
        "path": path,
        "label": p.label,
        "group": f"{p.source}-{p.seed}",
        "kind": p.kind or "",
        "source": p.source,
        "region": p.region,
        "bone": p.bone or "",
        "side": p.side,
        "age": p.age,
        "cast": int(p.nuisances["cast"]),
        "hardware": "+".join(p.nuisances["hardware"]),
        "marker": int(p.nuisances["marker"]),
        "ring": int(p.nuisances["ring"]),
        "two_views": int(p.nuisances["two_views"]),
        "swelling": int(p.nuisances["swelling"]),
        "x0": box[0],
        "y0": box[1],
        "x1": box[2],
        "y1": box[3],
        "seed": p.seed,
    }


def _plan(n: int | None, seed: int, source: str, kinds, per_kind) -> list[tuple[int, bool, str | None]]:
    """Seed, label and kind of every image, in a drawn order."""
    kinds = tuple(kinds) if kinds is not None else None
    for kind in kinds or ():
        if kind not in FRACTURE_KINDS:
            raise FracturelabError(f"expected kinds among {', '.join(FRACTURE_KINDS)}. Received: {kind!r}")
    if per_kind is not None:
        wanted: list[tuple[bool, str | None]] = [(True, k) for k in (kinds or FRACTURE_KINDS) for _ in range(per_kind)]
    else:
        if n is None or n < 1:
            raise FracturelabError(f"expected n of at least 1. Received: {n}")
        wanted = [(i < n - n // 2, kinds[i % len(kinds)] if kinds and i < n - n // 2 else None) for i in range(n)]
    order = stream(seed, source, "set").permutation(len(wanted))
    return [(FIRST_SEED + seed * 1_000_000 + i, *wanted[j]) for i, j in enumerate(order)]


def write_set(
    folder: str | Path,
    *,
    n: int | None = None,
    source: str = "clinic",
    seed: int = 0,
    size: int | tuple[int, int] = DEFAULT_SIZE,
    kinds: Sequence[str] | None = None,
    per_kind: int | None = None,
    correlate: Mapping[str, float] | None = None,
    difficulty: float | tuple[float, float] | None = None,
    zoom: float | tuple[float, float] | None = None,
    progress: bool = False,
) -> Path:
    """Writes a set of phantoms: `images/*.png`, `labels.csv` and a note that they are synthetic.

    Half of the images are fractured. With `per_kind` all are, that many of each kind, in `images/<kind>/`. The set is
    built beside `folder` and put in place when it is whole.

    Args:
        folder: Where the set goes; must not hold anything else.
        n: Number of images.
        source: "clinic" or "field".
        seed: Seed of the set; sets of different seeds share no image.
        size: Long side in pixels, or (height, width).
        kinds: Kinds of fracture to draw from, in equal parts; the usual mix when None.
        per_kind: Number of images of each kind, instead of `n`.
        correlate: Stated correlations of nuisances with the label, see `render`.
        difficulty: See `render`.
        zoom: See `render`.
        progress: Whether to show a progress bar.

    Returns:
        `folder`, which is left alone when it holds this very set.

    Raises:
        FracturelabError: `folder` holds something else, cannot be written, or an argument is out of range.
    """
    folder = Path(folder)
    settings(source)
    if isinstance(seed, bool) or int(seed) != seed or not 0 <= seed < 1_000_000:
        raise FracturelabError(f"expected seed between 0 and 999999. Received: {seed!r}")
    plan = _plan(n, int(seed), source, kinds, per_kind)
    recipe = {
        "generator": GENERATOR_VERSION,
        "source": source,
        "seed": int(seed),
        "n": len(plan),
        "size": list(size) if isinstance(size, tuple | list) else int(size),
        "kinds": list(kinds) if kinds else None,
        "per_kind": per_kind,
        "correlate": dict(correlate) if correlate else None,
        "difficulty": difficulty,
        "zoom": zoom,
    }
    recipe = json.loads(json.dumps(recipe))
    if folder.exists() and not folder.is_dir():
        raise FracturelabError(f"expected a folder to write phantoms into. Received: {folder}, which is a file")
    if folder.is_dir() and any(folder.iterdir()):
        if _recipe(folder) == recipe:
            return folder
        raise FracturelabError(
            f"expected an empty or new folder. Received: {folder}, which holds something else; choose another"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise FracturelabError(
            f"cannot write phantoms to {folder}: {error.strerror}; choose a folder you can write to"
        ) from error
    try:
        _fill(temporary, plan, source, size, correlate, difficulty, zoom, per_kind is not None, progress)
        (temporary / "README.txt").write_text(_NOTE.format(version=GENERATOR_VERSION), encoding="utf-8")
        (temporary / MANIFEST).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        try:
            os.replace(temporary, folder)
        except OSError as error:
            if _recipe(folder) != recipe:  # another run may have put the same set there meanwhile
                raise FracturelabError(f"cannot put phantoms at {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _recipe(folder: Path) -> dict | None:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _fill(folder: Path, plan, source, size, correlate, difficulty, zoom, by_kind: bool, progress: bool) -> None:
    """Renders and writes the images and the table."""
    from PIL import Image

    steps = plan
    if progress:
        from fracturelab.system.progress import tqdm

        steps = tqdm(plan, desc=f"phantoms ({source})", unit="image")
    (folder / "images").mkdir()
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for i, (seed, fractured, kind) in enumerate(steps):
            p = render(
                seed,
                source=source,
                size=size,
                fractured=fractured,
                kind=kind,
                correlate=correlate,
                difficulty=difficulty,
                zoom=zoom,
                letterbox=False,
            )
            name = f"{source}_{i:05d}.png"
            at = f"images/{p.kind}/{name}" if by_kind else f"images/{name}"
            (folder / at).parent.mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(p.image)).save(folder / at, compress_level=4)
            table.writerow(_row(at, p))


def default_data(
    source: str = "clinic", *, unseen: bool = False, folder: str | Path | None = None, progress: bool = False
) -> Path:
    """The embedded default set of a source, written on first use: 420 images of `clinic` or 160 of `field`.

    Half of them are fractured.

    Args:
        source: "clinic" or "field".
        unseen: 160 other images of that source in place of the default ones, which nothing is trained on.
        folder: Where such sets are kept; the image cache by default.
        progress: Whether to show a progress bar while it is written.

    Returns:
        Folder with `images/` and `labels.csv`.
    """
    settings(source)
    if folder is None:
        from fracturelab.images import default_cache_dir

        folder = default_cache_dir()
    name = f"phantoms-{source}{'-unseen' if unseen else ''}-v{GENERATOR_VERSION}.{DEFAULT_EDITION}"
    return write_set(
        Path(folder) / name,
        n=UNSEEN_COUNT if unseen else DEFAULT_COUNTS[source],
        source=source,
        seed=int(unseen),
        zoom=DEFAULT_ZOOM,
        difficulty=DEFAULT_DIFFICULTY,
        progress=progress,
    )
