"""Memory and speed of v2's stages over tables of 1,000 and 40,000 images, which must not grow with the table."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, theirs
from benchmarks.running import Comparison, Outcome, alternate, in_own_process, print_step
from fracturelab.system.quiet import load_tensorflow

SIZE, BATCH = 64, 32
_WIDE = 2048  # features for the head; of 40,000 images more than it holds in memory


class Watch:
    """Measures, while a block runs, the most memory that this process and its children hold.

    Pages of mapped files do not count, because the system drops them when it needs the memory.

    Attributes:
        peak_mb: The most memory, in MB.
    """

    def __init__(self, every: float = 0.05) -> None:
        self.peak_mb, self._every, self._end = 0.0, every, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._end.is_set():
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    measured = process.memory_info()
                except psutil.Error:
                    continue
                total += measured.rss - getattr(measured, "shared", 0)
            self.peak_mb = max(self.peak_mb, total / 1e6)
            self._end.wait(self._every)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def _clock(ends: list[float]) -> Any:
    import keras

    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))


def _pace(ends: list[float]) -> tuple[float, float]:
    """Median seconds a step in the first and in the second half; the first step does not count."""
    steps = np.diff(ends)
    half = len(steps) // 2
    return float(np.median(steps[1:half])), float(np.median(steps[half:]))


def _prepared(folder: Path, cache: str) -> Any:
    """Read a table with its images in the cache, and split it without groups, which the audit's comparison covers."""
    import pandas as pd

    from fracturelab import datasets
    from fracturelab.datasets import file_hashes
    from fracturelab.images import load_images
    from fracturelab.training import Prepared

    table = datasets.read_dataset(folder)
    paths = table["path"].tolist()
    images = load_images(paths, SIZE, cache_dir=cache)  # decoded in the first repetition
    table["group"] = pd.array(paths, dtype="string")
    table["split"] = pd.array(["val" if row % 5 == 4 else "train" for row in range(len(table))], dtype="string")
    return Prepared(table, images, np.asarray(file_hashes(paths)), pd.DataFrame({"path": [], "reason": []}))


def ours(folder: Path, steps: int) -> dict[str, Any]:
    """Run every stage of v2 for some steps.

    Features and activations, the head over all rows, the last stage on stored activations, and the whole network, which
    is trained where the store would be too large.
    """
    import keras

    from fracturelab.models.transfer import FEATURES, build_transfer_model, freeze_line, split_at, unfreeze
    from fracturelab.pipeline import batches, view_batches
    from fracturelab.training import epochs, features
    from fracturelab.training.head import cross_validated_strength
    from fracturelab.training.v2 import VIEW_AUGMENTATION

    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as work, Watch() as watch:
        prepared = _prepared(folder, str(data.folder() / "decoded"))
        labels, train = prepared.labels, prepared.rows("train")
        peaks, pace = {"reading": watch.peak_mb}, {}
        epochs.set_seed(0)
        model = build_transfer_model("MobileNet", weights="none", input_size=SIZE, backbone_options={"alpha": 0.25})
        trunk, top = split_at(model, freeze_line(model))
        parts = {FEATURES: keras.Model(model.input, model.get_layer(FEATURES).output), "line": trunk}
        # Rows from all over the table; as many steps in each half.
        rows = np.sort(np.random.default_rng(0).permutation(train)[: min(steps * BATCH, len(train))])
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        times = []
        for half in halves:
            began = time.perf_counter()
            stores = features.compute(
                parts,
                prepared,
                rows=half,
                views=1,
                half=("line",),
                store=features.FeatureStore(f"{work}/features"),
                progress=False,
            )
            times.append((time.perf_counter() - began) / (len(half) / BATCH))
        pace["features"] = tuple(times)
        peaks["features"] = watch.peak_mb
        wide = np.lib.format.open_memmap(f"{work}/wide.npy", "w+", np.float32, (len(labels), _WIDE))
        for start in range(0, len(wide), 1024):
            part = np.random.default_rng(start).standard_normal((len(wide[start : start + 1024]), _WIDE), np.float32)
            part[:, 0] += labels[start : start + 1024]
            wide[start : start + 1024] = part
        cross_validated_strength([wide], labels, prepared.groups, rows=train, strengths=(3.0,), folds=2)
        peaks["head"] = watch.peak_mb
        unfreeze(model, after=freeze_line(model))
        epochs.compile_model(top, learning_rate=1e-5)
        ends: list[float] = []
        while len(ends) < steps:
            order = {"batch_size": BATCH, "seed": 0, "epoch": len(ends)}
            some = view_batches([stores["line"]], labels[halves[1]], rows=np.arange(len(halves[1])), **order)
            top.fit(some.take(steps - len(ends)), verbose=0, shuffle=False, callbacks=[_clock(ends)])
        pace["last stage on stored activations"] = _pace(ends)
        peaks["last stage on stored activations"] = watch.peak_mb
        epochs.compile_model(model, learning_rate=1e-5)
        ends = []
        while len(ends) < steps:
            some = batches(
                prepared.images,
                labels,
                rows=train,
                batch_size=BATCH,
                balanced=True,
                augmentation=VIEW_AUGMENTATION,
                epoch=len(ends),
            )
            model.fit(some.take(steps - len(ends)), verbose=0, shuffle=False, callbacks=[_clock(ends)])
        pace["whole network"] = _pace(ends)
    return {
        "peak_mb": watch.peak_mb,
        "seconds_a_step": pace,
        "peak_mb_until": {**peaks, "whole network": watch.peak_mb},
    }


def usual(folder: Path, steps: int) -> dict[str, Any]:
    """Run the usual recipe for as many steps: the frozen network, then its last stage."""
    import keras

    from fracturelab.models.backbones import default_scaling

    pace = {}
    with Watch() as watch:
        keras.utils.set_random_seed(0)
        model, base = theirs.build(SIZE, "MobileNet", {"alpha": 0.25}, None, default_scaling("MobileNet"))
        images = theirs.data(str(folder), SIZE, shuffle=True, batch_size=BATCH).repeat()
        for stage in ("frozen", "last stage"):
            if stage == "last stage":
                base.trainable = True
                for layer in base.layers[:-12]:
                    layer.trainable = False
            model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", metrics=["accuracy"])
            ends: list[float] = []
            model.fit(images, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[_clock(ends)])
            pace[stage] = _pace(ends)
    return {"peak_mb": watch.peak_mb, "seconds_a_step": pace}


def bare(folder: Path, steps: int) -> dict[str, Any]:
    """Run TensorFlow with the network and one batch, the least that training needs."""
    from fracturelab.models.transfer import build_transfer_model
    from fracturelab.training import epochs

    with Watch() as watch:
        model = build_transfer_model("MobileNet", weights="none", input_size=SIZE, backbone_options={"alpha": 0.25})
        epochs.compile_model(model, learning_rate=1e-5)
        model.train_on_batch(np.zeros((BATCH, SIZE, SIZE, 1), np.float32), np.zeros(BATCH, np.float32))
        time.sleep(0.2)
    return {"peak_mb": watch.peak_mb}


def one_side(side: str, folder: Path, steps: int) -> dict[str, Any]:
    """Run one side in a process of its own."""
    return in_own_process("benchmarks.memory", side, folder, steps)


def run(*, images: int, few: int, steps: int, repetitions: int, rendered: bool) -> Outcome:
    """Run both sides over the large table, alternating, and once over the small table."""
    large = data.audited_set(images, rendered=rendered)
    small = data.first_of(large, few)
    print_step(f"{repetitions} times {steps} steps of each stage over {images:,} and {few:,} images, on both sides")
    mine, other = alternate(
        lambda: one_side("ours", large, steps), lambda: one_side("usual", large, steps), repetitions=repetitions
    )
    mine_small, other_small = one_side("ours", small, steps), one_side("usual", small, steps)
    least = one_side("bare", small, steps)["peak_mb"]
    growth = float(np.median([each["peak_mb"] for each in mine])) / mine_small["peak_mb"]
    stages = {}
    for stage, (first, second) in mine[-1]["seconds_a_step"].items():
        stages[stage] = {
            "first half": 1000 * first,
            "second half": 1000 * second,
            f"with {few:,} images": 1000 * mine_small["seconds_a_step"][stage][1],
        }
    return Outcome(
        [each["peak_mb"] for each in mine],
        [each["peak_mb"] for each in other],
        least,
        checks={"memory as over a small table, within 15%": growth <= 1.15},
        details={
            "images": images,
            "steps": steps,
            "batch": BATCH,
            "backbone": "MobileNet 0.25",
            "input_size": SIZE,
            "small_table": {"images": few, "ours": mine_small["peak_mb"], "theirs": other_small["peak_mb"]},
            "ms_a_step": stages,
            "theirs_ms_a_step": {stage: 1000 * second for stage, (_, second) in other[-1]["seconds_a_step"].items()},
            "peak_mb_until": mine[-1]["peak_mb_until"],
            "all_of_it_on_paper_minutes": _on_paper(images, mine[-1]["seconds_a_step"], other[-1]["seconds_a_step"]),
        },
    )


def _on_paper(images: int, mine: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Minutes of a full training by these paces: two views and ten epochs without a store, against 20 and 10 epochs."""
    steps = 0.8 * images / BATCH
    ours_all = 2 * steps * mine["features"][1] + 10 * steps * mine["whole network"][1]
    theirs_all = 20 * steps * other["frozen"][1] + 10 * steps * other["last stage"][1]
    return {"ours": ours_all / 60, "theirs": theirs_all / 60}


COMPARISONS = (
    Comparison(
        "training_memory_40000",
        "MB",
        False,
        "Most memory held (mapped files not counted) over v2's stages on a table of 40,000 images (8,000 in the "
        "default size), as many steps each and from decoding on; theirs: as many steps frozen and of the last stage, "
        "files decoded as they come.",
        "TensorFlow, the network and one training step on one batch.",
        {
            "tiny": {"images": 200, "few": 100, "steps": 8, "repetitions": 1, "rendered": False},
            "default": {"images": 8_000, "few": 1_000, "steps": 50, "repetitions": 1, "rendered": False},
            "full": {"images": 40_000, "few": 1_000, "steps": 200, "repetitions": 3, "rendered": True},
        },
        run,
    ),
)

if __name__ == "__main__":
    load_tensorflow()
    _SIDES = {"ours": ours, "usual": usual, "bare": bare}
    print(json.dumps(_SIDES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
