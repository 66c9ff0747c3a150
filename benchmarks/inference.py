"""Speed of answers: batches, one image, and one image from a cold start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import data, machine, theirs
from benchmarks.running import ROOT, Comparison, Outcome, alternate, print_step, timed, two_sides
from fracturelab import phantoms

CLOSE = 0.03
MEASURED = 400  # images that the fast network is chosen on
SHIPPED = ROOT / "models" / "fracturelab-small.keras"


def make_model(
    *, folder: str, place: str, size: int, backbone: str, options: dict, weights: str | None, int8: bool
) -> None:
    """Train a model (v2's probe on phantoms), or copy the shipped one; save it and export it."""
    from importlib.util import find_spec

    from fracturelab import datasets, training
    from fracturelab.models.weights import resolve
    from fracturelab.prediction import export

    work = Path(place).parent
    prepared = training.prepare(
        datasets.read_dataset(folder), size=size, test=0.0, cache_dir=work / "images", progress=False
    )
    if backbone == SHIPPED.stem:
        for suffix in (".keras", ".json"):
            shutil.copyfile(SHIPPED.with_suffix(suffix), Path(place).with_suffix(suffix))
    else:
        fit = training.train_v2(
            prepared,
            weights=resolve(backbone, weights, options),
            views=1,
            schedule=replace(training.FINE_TUNING, epochs=0),
            store=training.FeatureStore(work / "features"),
            progress=False,
        )
        fit.save(place, name="benchmark", evaluations={})
    calibration = np.asarray(prepared.images[prepared.rows("train")[:100]]) if int8 and find_spec("nncf") else None
    pixels = np.asarray(prepared.images)
    with _quietly():
        export.export_model(place, images=pixels, labels=prepared.labels, calibration=calibration)


def cost_of(*, model: str) -> float:
    """FLOPs of one image."""
    from fracturelab.models.files import load_model

    return machine.flops(load_model(model))


def int8_by_quarter(*, model: str, images: np.ndarray) -> list[float] | None:
    """Measure how much an answer changes with one quarter of the layers in int8; None without nncf.

    Args:
        model: The exported model.
        images: uint8 (n, size, size, 1); the first quarter of them gives the ranges.

    Returns:
        The largest difference of P(fractured) for each quarter of the layers with weights, from the input on.
    """
    from importlib.util import find_spec

    if not find_spec("nncf"):
        return None
    import openvino

    from fracturelab.prediction.export import answers_of, export_folder, quantise, run

    base = export_folder(model) / "float32.xml"
    weighted = [
        node.get_friendly_name()
        for node in openvino.Core().read_model(str(base)).get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")
    ]
    exact, _ = answers_of(run(base, "float32"), images)
    differences = []
    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as work, _quietly():
        for quarter in np.array_split(weighted, 4):
            others = [name for name in weighted if name not in set(quarter)]
            part = quantise(base, Path(work) / "part.xml", images[: len(images) // 4], spared=others)
            answers, _ = answers_of(run(part, "int8"), images)
            differences.append(float(np.abs(answers - exact).max()))
    return differences


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hide nncf's progress bars."""
    with contextlib.suppress(ImportError):
        import nncf  # noqa: F401 - its log keeps the stream that it finds when it is loaded

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


_opened: dict[tuple[str, str], Any] = {}


def answer(*, model: str, runtime: str, images: np.ndarray) -> dict[str, Any]:
    """Time a predictor's answers, without its opening and its first answer."""
    from fracturelab.prediction import load_predictor

    if (model, runtime) not in _opened:
        _opened[model, runtime] = load_predictor(model, runtime=runtime)
        _opened[model, runtime].predict(images[:32])
    predictor = _opened[model, runtime]
    seconds, answers = timed(lambda: predictor.predict(images))
    return {"seconds": seconds, "answers": answers}


@cache
def answers_of_both(
    *,
    size: int,
    backbone: str,
    alpha: float | None,
    pretrained: bool,
    batch: int,
    singles: int,
    repetitions: int,
    quantised: int,
) -> dict[str, Any]:
    """Time batches and single images on both sides, alternating; two comparisons use the result."""
    from fracturelab.prediction.export import read_export

    folder = str(data.training_set(MEASURED))
    network = {
        "size": size,
        "backbone": backbone,
        "options": {} if alpha is None else {"alpha": alpha},
        "weights": "bundled" if pretrained else None,
        "int8": bool(quantised),
    }
    print_step(f"{backbone} at {size} px: a model, its export, and which network of it is fast, on {MEASURED} images")
    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as work, two_sides() as (ours, other):
        model = str(Path(work) / "benchmark.keras")
        ours(make_model, folder=folder, place=model, **network)
        cost = ours(cost_of, model=model)
        quarters = ours(int8_by_quarter, model=model, images=_pixels(folder, size, quantised)) if quantised else None
        networks = read_export(model).networks
        print_step(f"{repetitions} times: {batch} images in batches, then {singles} one by one, on both sides")
        pixels = _pixels(folder, size, batch)
        first, second = alternate(
            lambda: ours(answer, model=model, runtime="fast", images=pixels),
            lambda: other(theirs.predict, model=model, images=pixels),
            repetitions=repetitions,
        )
        exact = ours(answer, model=model, runtime="float32", images=pixels)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repetitions):
            mine, others = alternate(
                lambda: ours(answer, model=model, runtime="fast", images=pixels[:1])["seconds"],
                lambda: other(theirs.predict, model=model, images=pixels[:1])["seconds"],
                repetitions=singles,
            )
            times[0].append(1000 * float(np.median(mine)))
            times[1].append(1000 * float(np.median(others)))
        exact_single = [
            ours(answer, model=model, runtime="float32", images=pixels[:1])["seconds"] for _ in range(singles)
        ]
    return {
        "cost": cost,
        "fast": networks["fast"],
        "float32": networks["float32"],
        "single": times,
        "batch": ([batch / each["seconds"] for each in first], [batch / each["seconds"] for each in second]),
        "float32_rate": batch / exact["seconds"],
        "float32_ms": 1000 * float(np.median(exact_single)),
        "apart": float(np.abs(first[-1]["answers"] - second[-1]["answers"]).max()),
        "float32_apart": float(np.abs(exact["answers"] - second[-1]["answers"]).max()),
        "about": {
            "backbone": backbone,
            "input_size": size,
            "gflops_an_image": cost / 1e9,
            "difference_with_one_quarter_in_int8": quarters,
        },
    }


def _pixels(folder: str, size: int, count: int) -> np.ndarray:
    from fracturelab.images import load_images

    paths = data.picture_files(Path(folder))[:count]
    images = load_images(paths, size, cache_dir=False)
    return images[np.arange(count) % len(images)]


def _details(measured: dict[str, Any], precision: str) -> dict[str, Any]:
    tried = [
        {name: each[name] for name in ("precision", "max_difference", "auc_difference", "times_float32")}
        for each in measured["fast"].get("tried", [])
    ]
    return {
        **measured["about"],
        "precision_of_fast": precision,
        "furthest_answer_of_fast": measured["apart"],
        "furthest_answer_of_float32": measured["float32_apart"],
        "tried": tried,
        "matrix_product_gops": {name: machine.fastest_product(name) for name in ("float32", precision)},
    }


def _checks(measured: dict[str, Any]) -> dict[str, bool]:
    return {
        "float32 within 1e-4 of Keras": measured["float32_apart"] <= 1e-4,
        "fast within 0.03 of Keras": measured["apart"] <= CLOSE + 1e-4,
    }


def run_batch(**settings: Any) -> Outcome:
    """Compare batches of 32 images."""
    measured = answers_of_both(**settings)
    precision = measured["fast"]["precision"]
    ours, other = measured["batch"]
    limit = machine.fastest_product(precision) * 1e9 / measured["cost"]
    details = {**_details(measured, precision), "float32_images_a_second": measured["float32_rate"]}
    return Outcome(ours, other, limit, checks=_checks(measured), details=details)


def run_single(**settings: Any) -> Outcome:
    """Compare single images."""
    measured = answers_of_both(**settings)
    precision = measured["fast"]["precision"]
    ours, other = measured["single"]
    limit = 1000 * measured["cost"] / machine.fastest_product(precision) / 1e9
    details = {**_details(measured, precision), "float32_ms": measured["float32_ms"]}
    return Outcome(ours, other, limit, checks=_checks(measured), details=details)


def run_cold(*, repetitions: int) -> Outcome:
    """Compare whole processes, from start to end, that print one answer."""
    model = ROOT / "models" / "fracturelab-small.keras"
    with tempfile.TemporaryDirectory(prefix="fracturelab-bench-") as work:
        script = Path(work) / "predict.py"
        script.write_text(theirs.COLD, encoding="utf-8")
        image = str(Path(work) / "square.png")  # as large as the model's input: nobody's way of resizing matters
        Image.fromarray(phantoms.render(6_000_000, size=320).image).save(image)
        mine = [sys.executable, "-m", "fracturelab", "predict", str(model), image, "--json"]
        plain = [sys.executable, str(script), str(model), image]
        bare = [sys.executable, "-c", "import numpy, PIL.Image, openvino; openvino.Core()"]
        for command in (mine, plain, bare):
            _run(command)  # files are in the system's cache on both sides
        ours, other = alternate(
            lambda: timed(lambda: _run(mine)), lambda: timed(lambda: _run(plain)), repetitions=repetitions
        )
        least = min(timed(lambda: _run(bare))[0] for _ in range(repetitions))
        loaded = _run([sys.executable, "-X", "importtime", *mine[1:]], stderr=True)
    answers = json.loads(ours[-1][1])[0]["p_fracture"], float(other[-1][1].split()[-1])
    return Outcome(
        [seconds for seconds, _ in ours],
        [seconds for seconds, _ in other],
        least,
        checks={
            "TensorFlow is not imported": " tensorflow\n" not in loaded and " keras\n" not in loaded,
            "an answer within 2 s": min(seconds for seconds, _ in ours) <= 2,
            "the same answer within 1e-4": abs(answers[0] - answers[1]) <= 1e-4,
        },
        details={"model": model.name, "answers": {"ours": answers[0], "theirs": answers[1]}},
    )


def _run(command: list[str], *, stderr: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stderr if stderr else done.stdout


_TINY = {
    "size": 32,
    "backbone": "MobileNet",
    "alpha": 0.25,
    "pretrained": False,
    "batch": 32,
    "singles": 2,
    "repetitions": 1,
    "quantised": 0,
}
_DEFAULT = {
    "size": 128,
    "backbone": "ResNet50",
    "alpha": None,
    "pretrained": True,
    "batch": 64,
    "singles": 10,
    "repetitions": 3,
    "quantised": 0,
}
_FULL = {**_DEFAULT, "size": 224, "batch": 256, "singles": 30, "repetitions": 5, "quantised": 200}
_SIZES = {"tiny": _TINY, "default": _DEFAULT, "full": _FULL}
# The less a network computes, the more of the time is what runs it.
_SMALL = {name: {**settings, "backbone": "MobileNetV2", "alpha": None} for name, settings in _SIZES.items()}
_SHIPPED = {
    name: {**settings, "backbone": SHIPPED.stem, "alpha": None, "size": 320, "quantised": 0}
    for name, settings in _SIZES.items()
}

COMPARISONS = (
    Comparison(
        "inference_batch",
        "images/s",
        True,
        "One saved v2 model asked in batches of 32. Ours: the runtime `fast` of its export; theirs: `model.predict`.",
        "the network's operations at the speed of the fastest matrix product measured in the same precision.",
        _SIZES,
        run_batch,
    ),
    Comparison(
        "inference_single",
        "ms",
        False,
        "The same model asked for one image at a time.",
        "the network's operations at the speed of the fastest matrix product measured in the same precision.",
        _SIZES,
        run_single,
    ),
    Comparison(
        "inference_batch_small",
        "images/s",
        True,
        "MobileNetV2 instead of ResNet50, in batches of 32.",
        "as for inference_batch.",
        _SMALL,
        run_batch,
    ),
    Comparison(
        "inference_single_small",
        "ms",
        False,
        "MobileNetV2 instead of ResNet50, one image at a time.",
        "as for inference_batch.",
        _SMALL,
        run_single,
    ),
    Comparison(
        "inference_batch_shipped",
        "images/s",
        True,
        "The shipped model, `models/fracturelab-small.keras`, in batches of 32.",
        "as for inference_batch.",
        _SHIPPED,
        run_batch,
    ),
    Comparison(
        "inference_single_shipped",
        "ms",
        False,
        "The shipped model, one image at a time.",
        "as for inference_batch.",
        _SHIPPED,
        run_single,
    ),
    Comparison(
        "predict_cold",
        "s",
        False,
        "`fracturelab predict` on one image with the shipped model and its export, from process start to its end; "
        "theirs: a script that loads the model with Keras.",
        "starting Python and importing NumPy, Pillow and OpenVINO.",
        {"tiny": {"repetitions": 1}, "default": {"repetitions": 5}, "full": {"repetitions": 9}},
        run_cold,
    ),
)
