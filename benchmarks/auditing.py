"""The audit at scale against a script of perceptual hashes: time, memory, planted copies, false pairs."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, theirs
from benchmarks.memory import Watch
from benchmarks.running import Comparison, Outcome, in_own_process, print_step


def audit_ours(paths: list[str]) -> dict[str, Any]:
    """Audit a table of these files, and time its parts."""
    from fracturelab import audit, datasets
    from fracturelab.audit import groups, reading, report

    seconds: dict[str, float] = {}

    def clocked(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **named)
            seconds[name] = time.perf_counter() - began
            return result

        return call

    report.read_files = clocked("reading", reading.read_files)
    report.find_copies = clocked("search", groups.find_copies)
    table = datasets.read_dataset(Path(paths[0]).parents[1])
    began = time.perf_counter()
    measured = audit.audit_dataset(table)
    seconds["all"] = time.perf_counter() - began
    names = {name: row for row, name in enumerate(paths)}
    pairs = np.array([[names[path] for path in measured.pairs[column]] for column in ("path_a", "path_b")])
    return {
        "seconds": seconds["all"],
        "search_seconds": seconds["search"],
        "reading_seconds": seconds["reading"],
        "pairs": np.sort(pairs.reshape(2, -1), axis=0),
    }


def _side(side: str, folder: str, count: int) -> dict[str, Any]:
    """Run one side in this process, and count the planted copies among its pairs."""
    place = Path(folder)
    paths = data.picture_files(place)
    assert len(paths) == count
    with Watch() as watch:
        measured = audit_ours(paths) if side == "ours" else theirs.find_copies(paths=paths)
    names = {Path(path).name: row for row, path in enumerate(paths)}
    planted = np.sort([(names[a], names[b]) for a, b in data.planted_pairs(place)], axis=1).astype(np.int64)
    pairs = measured.pop("pairs").astype(np.int64)
    hits = int(np.isin(planted[:, 0] * count + planted[:, 1], pairs[0] * count + pairs[1]).sum())
    return {
        **measured,
        "peak_mb": watch.peak_mb,
        "planted": len(planted),
        "found": hits,
        "false_pairs": int(pairs.shape[1]) - hits,
        "largest_group": _largest_group(len(paths), pairs),
    }


def _largest_group(count: int, pairs: np.ndarray) -> int:
    from fracturelab.audit.duplicates import join_pairs

    return int(np.bincount(join_pairs(count, pairs[0], pairs[1])).max())


def one_side(side: str, folder: Path, count: int) -> dict[str, Any]:
    """Run one side in a process of its own, so that its memory can be measured."""
    return in_own_process("benchmarks.auditing", side, folder, count)


def reading_seconds(paths: list[str]) -> float:
    """Seconds to open and decode every file on all cores, extrapolated from a thousand files."""
    from joblib import Parallel, delayed

    some = paths[:: max(1, len(paths) // 1000)]
    parts = [some[start::4] for start in range(4)]
    with Parallel(n_jobs=os.cpu_count()) as parallel:
        parallel(delayed(_only_read)(part[:2]) for part in parts)
        began = time.perf_counter()
        parallel(delayed(_only_read)(part) for part in parts)
    return (time.perf_counter() - began) * len(paths) / len(some)


def _only_read(paths: list[str]) -> None:
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            image.load()


def run(*, images: int, further: tuple[int, ...], repetitions: int, rendered: bool) -> Outcome:
    """Run both sides at one size, and ours at other sizes too."""
    whole = data.audited_set(max(images, *further), rendered=rendered)
    folder = data.first_of(whole, images)
    measured: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for number in range(repetitions):
        print_step(f"{number + 1} of {repetitions}: {images:,} images on both sides")
        for side, results in measured.items():
            results.append(one_side(side, folder, images))
    sizes = {}
    for count in further:
        if count != images:
            print_step(f"ours on {count:,} images")
            sizes[count] = one_side("ours", data.first_of(whole, count), count)
    ours, other = measured["ours"], measured["theirs"]
    middle = sorted(ours, key=lambda each: each["seconds"])[len(ours) // 2]
    sizes = dict(sorted({**sizes, images: middle}.items()))
    largest = sizes[max(sizes)]
    pairs = images * (images - 1) / 2 - middle["planted"]
    a_image = {count: 1000 * each["seconds"] / count for count, each in sizes.items()}
    large = [a_image[count] for count in sizes if count >= 4000]
    return Outcome(
        [each["seconds"] for each in ours],
        [each["seconds"] for each in other],
        reading_seconds(data.picture_files(folder)),
        checks={
            "every planted copy found": all(each["found"] == each["planted"] for each in [*ours, *sizes.values()]),
            "no different pictures chained together": all(each["largest_group"] <= 3 for each in sizes.values()),
            "search within 60 s": largest["search_seconds"] <= 60,
            "peak memory under 1.5 GB": largest["peak_mb"] < 1500,
            "cost an image flat from 4,000 on, within 20%": all(
                later <= 1.2 * first for first, later in pairwise(large)
            )
            and (not large or large[-1] <= 1.2 * large[0]),
        },
        details={
            "images": images,
            "at_most": {
                "images": max(sizes),
                "false_pairs": largest["false_pairs"],
                "search_seconds": largest["search_seconds"],
                "peak_mb": largest["peak_mb"],
            },
            "what": "phantoms, each rendered anew" if rendered else "double exposures of 300 phantoms (see data.py)",
            "planted": middle["planted"],
            "found": {"ours": middle["found"], "theirs": other[0]["found"]},
            "false_pairs": {"ours": middle["false_pairs"], "theirs": other[0]["false_pairs"]},
            "false_pair_rate": {"ours": middle["false_pairs"] / pairs, "theirs": other[0]["false_pairs"] / pairs},
            "largest_group": {"ours": middle["largest_group"], "theirs": other[0]["largest_group"]},
            "search_seconds": {"ours": middle["search_seconds"], "theirs": other[0]["search_seconds"]},
            "peak_mb": {
                "ours": max(each["peak_mb"] for each in ours),
                "theirs": max(each["peak_mb"] for each in other),
            },
            "ms_an_image": {f"{count:,}": value for count, value in a_image.items()},
        },
    )


COMPARISONS = (
    Comparison(
        "audit_40000",
        "s",
        False,
        "The whole audit of a folder of 40,000 images (of 2,000 in the default size, and ours once of 8,000): "
        "checksums, damage, copies in eight orientations, shortcuts, in as many processes as there are cores; theirs: "
        "a script that hashes each file in eight orientations and compares all pairs.",
        "opening and decoding the files on all cores, and nothing else.",
        {
            "tiny": {"images": 200, "further": (100,), "repetitions": 1, "rendered": False},
            "default": {"images": 2_000, "further": (8_000,), "repetitions": 3, "rendered": False},
            "full": {"images": 40_000, "further": (1_000, 4_000, 10_000), "repetitions": 3, "rendered": True},
        },
        run,
    ),
)

if __name__ == "__main__":
    print(json.dumps(_side(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
