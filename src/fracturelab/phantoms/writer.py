"""Writes sets of phantoms: PNG files, `labels.csv`, and what they were made with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.anatomy import REGIONS
from fracturelab.phantoms.fractures import FRACTURE_KINDS
from fracturelab.phantoms.randomness import stream
from fracturelab.phantoms.render import NUISANCES, Phantom, render
from fracturelab.phantoms.sources import GENERATOR_VERSION, Source, settings
from fracturelab.system.files import whole_folder

MANIFEST = "phantoms.json"
FIRST_SEED = 1_000_000_000
"""Seeds of written sets start here. Images rendered for pretraining have smaller seeds, so no image is in both."""
_NOTE = f"""These images are synthetic.

They were computed from a seed by fracturelab.phantoms (generator version {GENERATOR_VERSION}). They show no patient and
are no medical evidence. They may be used under the licence of fracturelab, Apache-2.0.

labels.csv has one row an image: path, label (0 normal, 1 fractured), group, and what else is known of the image.
The box x0,y0,x1,y1 around a fracture is in pixels.
"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Recipe of a set of phantoms.

    Attributes:
        n: Number of images; half of them are fractured.
        source: "clinic" or "field"; for `phantoms` alone, settings of one's own.
        seed: Seed of the set, below a million; sets of different seeds share no image.
        size: Long side in pixels, or (height, width).
        kinds: Kinds of fracture to draw from, in equal parts; the usual mix when None.
        per_kind: Number of images of each kind, instead of `n`; all of them are fractured.
        regions: Regions of the body to draw from, in equal parts; the mix of the source when None.
        nuisances: Nuisances to force on or off, or False for none at all; the rates of the source when None.
        correlate: Stated correlations of nuisances with the label, see `render`.
        difficulty: See `render`.
        zoom: See `render`.
    """

    n: int | None = None
    source: str | Source = "clinic"
    seed: int = 0
    size: int | tuple[int, int] = 320
    kinds: Sequence[str] | None = None
    per_kind: int | None = None
    regions: Sequence[str] | None = None
    nuisances: Mapping[str, bool] | Literal[False] | None = None
    correlate: Mapping[str, float] | None = None
    difficulty: float | tuple[float, float] | None = None
    zoom: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        settings(self.source)
        if isinstance(self.seed, bool) or int(self.seed) != self.seed or not 0 <= self.seed < 1_000_000:
            raise FracturelabError(f"expected seed between 0 and 999999. Received: {self.seed!r}")
        if self.per_kind is None and (self.n is None or self.n < 1):
            raise FracturelabError(f"expected n of at least 1. Received: {self.n}")
        for name, values, allowed in (("kinds", self.kinds, FRACTURE_KINDS), ("regions", self.regions, REGIONS)):
            unknown = [value for value in values or () if value not in allowed]
            if unknown:
                raise FracturelabError(f"expected {name} among {', '.join(allowed)}. Received: {unknown[0]!r}")

    def phantoms(self) -> Iterator[Phantom]:
        """Render the images of the set in a drawn order, which is independent of the labels."""
        wanted: list[tuple[bool, str | None]]
        if self.per_kind is not None:
            wanted = [(True, kind) for kind in self.kinds or FRACTURE_KINDS for _ in range(self.per_kind)]
        else:
            kinds, n = self.kinds or (None,), self.n or 0
            wanted = [(True, kinds[i % len(kinds)]) for i in range(n - n // 2)] + [(False, None)] * (n // 2)
        name = settings(self.source).name
        order = stream(self.seed, name, "set").permutation(len(wanted))
        regions = stream(self.seed, name, "regions").integers(len(self.regions or REGIONS), size=len(wanted))
        forced = dict.fromkeys(NUISANCES, False) if self.nuisances is False else self.nuisances
        for number, (place, region) in enumerate(zip(order, regions, strict=True)):
            fractured, kind = wanted[place]
            yield render(
                FIRST_SEED + int(self.seed) * 1_000_000 + number,
                source=self.source,
                size=self.size,
                fractured=fractured,
                kind=kind,
                region=self.regions[region] if self.regions else None,
                zoom=self.zoom,
                difficulty=self.difficulty,
                correlate=self.correlate,
                nuisances=forced or None,
                letterbox=False,
            )


def write_set(folder: str | Path, *, progress: bool = False, **recipe: Any) -> Path:
    """Write a set of phantoms: `images/*.png`, `labels.csv` and a note that they are synthetic.

    With `per_kind` images go to `images/<kind>/`. The set is built beside `folder` and put in place when it is whole.

    Args:
        folder: Where the set goes; must not hold anything else.
        progress: Whether to show a progress bar.
        **recipe: The fields of `Recipe`, such as `n=100, source="field", zoom=(2.0, 4.0)`.

    Returns:
        `folder`, which is left alone when it holds this very set.

    Raises:
        FracturelabError: `folder` holds something else, cannot be written, or a field is out of range.
    """
    made = Recipe(**recipe)
    steps: Iterable[Phantom] = made.phantoms()
    if progress:
        from fracturelab.system.progress import tqdm

        total = made.n if made.per_kind is None else made.per_kind * len(made.kinds or FRACTURE_KINDS)
        steps = tqdm(steps, desc=f"phantoms ({made.source})", unit="image", total=total)
    rows = (_row(p, number, by_kind=made.per_kind is not None) for number, p in enumerate(steps))
    return write_images(folder, {"generator": GENERATOR_VERSION, **asdict(made)}, rows)


def _row(p: Phantom, number: int, *, by_kind: bool) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    folder = f"images/{p.kind}" if by_kind else "images"
    row: dict[str, Any] = {"path": f"{folder}/{p.source}_{number:05d}.png", "label": p.label}
    row |= {"group": f"{p.source}-{p.seed}", "kind": p.kind, "source": p.source, "region": p.region, "bone": p.bone}
    row |= {
        "side": p.side,
        "age": p.age,
        "cast": int(p.nuisances["cast"]),
        "hardware": "+".join(p.nuisances["hardware"]),
    }
    row |= {name: int(p.nuisances[name]) for name in ("marker", "ring", "two_views", "swelling")}
    return p.image, row | dict(zip(("x0", "y0", "x1", "y1"), p.box or (None,) * 4, strict=True)) | {"seed": p.seed}


def write_images(
    folder: str | Path, manifest: Mapping[str, Any], rows: Iterable[tuple[NDArray[np.uint8], dict[str, Any]]]
) -> Path:
    """Write images and their table to a new folder, whole or not at all.

    Args:
        folder: Where to; must not hold anything else.
        manifest: What the set was made with; a folder that holds the same is left alone.
        rows: Each image, uint8 (h, w), and its row of `labels.csv`, where `path` is the image's file.

    Returns:
        `folder`.

    Raises:
        FracturelabError: `folder` holds something else, or cannot be written.
    """
    import pandas as pd
    from PIL import Image

    folder, manifest = Path(folder), json.loads(json.dumps(manifest))
    if folder.exists() and not folder.is_dir():
        raise FracturelabError(f"expected a folder to write phantoms into. Received: {folder}, which is a file")
    if folder.is_dir() and any(folder.iterdir()):
        if _manifest(folder) == manifest:
            return folder
        raise FracturelabError(
            f"expected an empty or new folder. Received: {folder}, which holds something else; choose another"
        )
    try:
        with whole_folder(folder) as temporary:
            table = []
            for image, row in rows:
                path = temporary / row["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=4)
                table.append(row)
            frame = pd.DataFrame(table).convert_dtypes()
            frame.to_csv(temporary / "labels.csv", index=False)
            (temporary / "README.txt").write_text(_NOTE, encoding="utf-8")
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except FracturelabError:
        if _manifest(folder) != manifest:  # another run may have put the same set there meanwhile
            raise
    return folder


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
