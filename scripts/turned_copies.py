"""How many turned and cropped copies the audit finds, how many different X-rays it ties together, and what it costs."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fracturelab.cli import options
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    from fracturelab.audit.reading import Readings


class Change(NamedTuple):
    """A turn in degrees, to either side; the share of each side that is cut off; whether it is mirrored as well."""

    turn: float = 0
    crop: float = 0
    mirrored: bool = False


CHANGES = {
    "turned 10": Change(10),
    "cropped 15": Change(crop=0.15),
    "turned 10, cropped 15": Change(10, 0.15),
    "mirrored, turned 10, cropped 15": Change(10, 0.15, True),
    "turned 20": Change(20),
    "cropped 30": Change(crop=0.3),
    "turned 20, cropped 30": Change(20, 0.3),
}


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    turned = options.add_command(commands, "turned", run_turned, options.SEED, options.READING)
    turned.add_argument("folder", metavar="DIR", help="real X-rays, such as FracAtlas")
    turned.add_argument("--n", type=int, default=200, help="how many are turned and cropped (default 200)")
    turned.add_argument("--results", type=Path, metavar="DIR", help="folder of the record (default the project's)")


def change_image(image: np.ndarray, change: Change, generator: np.random.Generator) -> np.ndarray:
    """Turn an image, its corners black, and crop it anywhere, scaled back to its size.

    Args:
        image: uint8 (height, width).
        change: What is done.
        generator: Chooses the direction and the place.
    """
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image[:, ::-1]) if change.mirrored else image)
    picture = picture.rotate(change.turn * generator.choice([-1, 1]), Image.Resampling.BILINEAR)
    width, height = (round(side * (1 - change.crop)) for side in picture.size)
    left, top = (
        int(generator.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    box = (left, top, left + width, top + height)
    return np.asarray(picture.resize(picture.size, Image.Resampling.BILINEAR, box=box))


def share_found(originals: Readings, rows: np.ndarray, copies: Readings) -> tuple[float, float]:
    """The shares of copies that are found, and that are a candidate, in a set of all originals and these copies.

    Args:
        originals: Readings of all X-rays.
        rows: int (n,), which of them was changed.
        copies: Readings of the changed ones.
    """
    from fracturelab.audit.turned import candidate_pairs, confirmed_pairs

    count = len(originals.files)
    features = np.concatenate([originals.features, copies.features]).astype(np.float32)
    candidates = candidate_pairs(features, originals.changes)
    own = candidates[:, 0] == rows[np.maximum(candidates[:, 1] - count, 0)]
    candidates = candidates[own & (candidates[:, 1] >= count)]
    thumbnails = np.concatenate([originals.thumbnails, copies.thumbnails])
    found = confirmed_pairs(candidates, [*originals.keypoints, *copies.keypoints], thumbnails)
    return len(found) / len(rows), len(candidates) / len(rows)


def processor_seconds(paths: list[str], readings: Readings) -> dict[str, float]:
    """Seconds of one core that the search takes, from samples: for 1,000 images, and for 40,000.

    Args:
        paths: X-rays.
        readings: Their readings.
    """
    from fracturelab.audit.reading import read_files
    from fracturelab.audit.turned import candidate_pairs, confirmed_pairs

    def clocked(function: Any, *given: Any, **named: Any) -> tuple[float, Any]:
        start = time.process_time()
        result = function(*given, **named)
        return time.process_time() - start, result

    some = paths[:: max(1, len(paths) // 192)][:192]
    plain, closer = (clocked(read_files, some, closer=closer, workers=1)[0] / len(some) for closer in (False, True))
    candidates = candidate_pairs(readings.features.astype(np.float32), readings.changes)
    sample = candidates[:: max(1, len(candidates) // 1000)][:1000]
    confirming = clocked(confirmed_pairs, sample, readings.keypoints, readings.thumbnails)[0] / len(sample)
    features = np.random.default_rng(0).standard_normal((8000, readings.features.shape[1]), np.float32)
    neighbours = clocked(candidate_pairs, features, readings.changes)[0]
    each = closer - plain + confirming * len(candidates) / len(paths)
    return {
        "reading 1,000": 1000 * plain,
        "closer look at 1,000": 1000 * (closer - plain),
        "confirming of 1,000": 1000 * (each - closer + plain),
        "neighbours of 40,000": neighbours * 25,  # the square of five times as many
        "search in 40,000": 40_000 * each + neighbours * 25,
    }


def run_turned(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Measure how many turned and cropped copies the audit finds.

    Turn and crop some X-rays of a set, and look for the copies among all. The search learns what turns and crops change
    from samples of the set; none of these is measured. Writes a record.
    """
    from PIL import Image

    from fracturelab.audit.duplicates import join_pairs
    from fracturelab.audit.groups import find_copies
    from fracturelab.audit.reading import CHUNK, SAMPLES, read_files
    from fracturelab.images import read_image
    from fracturelab.records import default_folder, write_record

    began = time.perf_counter()
    show = not arguments.json
    table = options.read_folder(arguments)
    readings = read_files(list(table["path"]), closer=True, progress=show)
    copies = find_copies(readings, table["label"])
    before = copies.pairs[copies.pairs["orientation"] != -2]
    names = [Path(path).name for path in table["path"]]
    new = copies.pairs[copies.pairs["orientation"] == -2].sort_values("correlation")
    pairs = [[names[row.first], names[row.second], round(row.correlation, 3)] for row in new.itertuples()]
    generator = np.random.default_rng(arguments.seed)
    unseen = np.arange(len(table)) % CHUNK >= SAMPLES  # no samples for the normalisation of features
    rows = np.sort(generator.permutation(np.flatnonzero(readings.readable & unseen))[: arguments.n])
    if len(rows) < arguments.n:
        raise FracturelabError(f"expected {arguments.n} usable X-rays. Received: {len(rows)}; give a lower --n")
    images = [read_image(table["path"].iloc[row])[..., 0] for row in rows]
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, change) in enumerate(CHANGES.items()):
            paths = [Path(folder) / f"{number}-{row}.jpg" for row in rows]
            for path, image in zip(paths, images, strict=True):
                Image.fromarray(change_image(image, change, generator)).save(path, quality=90)
            found, near = share_found(readings, rows, read_files(paths, closer=True, progress=show))
            shares[name] = {"found": found, "candidates": near}
    counts = [
        np.bincount(groups) for groups in (join_pairs(len(table), before["first"], before["second"]), copies.groups)
    ]
    results = {
        "changed": len(rows),
        "share": shares,
        "groups_before": int((counts[0] > 1).sum()),
        "groups": int((counts[1] > 1).sum()),
        "new_pairs": pairs,
        "processor_seconds": processor_seconds(table["path"].tolist(), readings),
    }
    record = write_record(
        "turned-copies",
        kind="copies",
        data={"source": ", ".join(sorted(set(table["source"].dropna()))), "n": len(table)},
        seed=arguments.seed,
        seconds=time.perf_counter() - began,
        results=results,
        folder=arguments.results or default_folder(),
    )
    lines = [f"{name}: {100 * share['found']:.1f}% found" for name, share in shares.items()]
    lines += [f"{len(pairs)} new pairs; {results['groups_before']} groups before, {results['groups']} now"]
    lines += [f"{name}: {value:.0f} s of a core" for name, value in results["processor_seconds"].items()]
    return {"record": str(record), **results}, "\n".join([*lines, f"Record: {record}"]), 0


def turned_table(records: Sequence[Mapping[str, Any]]) -> str:
    """How many copies were found after each change, what else was tied together, and the time, as a Markdown table."""
    from fracturelab.records import markdown_table

    rows = []
    for record in records:
        results = record["results"]
        rows += [
            [f"copies {name}", f"{share['found']:.1%} of {results['changed']}"]
            for name, share in results["share"].items()
        ]
        rows.append([f"new pairs among {record['data']['n']:,} X-rays", str(len(results["new_pairs"]))])
        seconds = results["processor_seconds"]
        each = seconds["closer look at 1,000"] + seconds["confirming of 1,000"]
        rows.append(["time for 1,000 images, one core", f"{each:.0f} s"])
        rows.append(["time for 40,000 images, one core, estimated", f"{seconds['search in 40,000'] / 60:.0f} min"])
    return markdown_table(["turned (degrees), cropped (% of each side)", "found"], rows, text_columns=2) if rows else ""
