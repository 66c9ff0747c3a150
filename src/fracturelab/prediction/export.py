"""Models exported to OpenVINO: they answer without TensorFlow, and sooner; the export of another model is refused.

An export is a folder `<model>.openvino` beside the `.keras` file: the network in single precision, where measured the
fastest one that stays close to it, and `export.json` with the checksums of everything and of the model it was made of.
"""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError

AGREEMENT = 1e-4
"""Most that single precision may differ from Keras, in probability."""
CLOSE_PROBABILITY, CLOSE_AUC, LEAST_IMAGES = 0.03, 0.005, 400
"""How far the fast network may be from single precision, in probability and in ROC AUC, and on how many images that is
measured at least."""
MEASURED_ON, CALIBRATED_ON = 600, 200
"""Most images that networks are measured on, and that int8 ranges are taken from."""
HOW_TO_INSTALL = "pip install 'fracturelab[fast]'"
_MANIFEST = "export.json"
_REFERENCE = 8  # random images that export and Keras must agree on
_AT_A_TIME = 4  # images; more of them leave the processor's cache

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Export:
    """The content of an `export.json`, checked.

    Attributes:
        folder: The export.
        input_size: Side of the square input in pixels.
        networks: "float32" and, where measured, "fast": file, precision, threshold, and how far it is from float32.
    """

    folder: Path
    input_size: int
    networks: dict[str, dict[str, Any]]


def export_folder(model: str | Path) -> Path:
    """Where the export of a model lies: beside it, `x.openvino` for `x.keras`."""
    return Path(model).with_suffix(".openvino")


def openvino_is_there() -> bool:
    """Whether OpenVINO is installed; asking does not import it."""
    return find_spec("openvino") is not None


def export_model(
    model: str | Path,
    *,
    images: NDArray[np.uint8] | None = None,
    labels: NDArray[np.int64] | None = None,
    validation: NDArray[np.bool_] | None = None,
    calibration: NDArray[np.uint8] | None = None,
) -> Export:
    """Export a saved model, and check that both give the same answers.

    Args:
        model: A `.keras` file with its card.
        images: uint8 (n, size, size, 1) to measure faster networks on, at least `LEAST_IMAGES`; None for float32 alone.
        labels: (n,) 0 normal, 1 fractured, of these images.
        validation: (n,) which of these images a faster network's threshold is chosen on: the model's validation images.
            Where None, or none of them, it keeps the model's threshold.
        calibration: uint8 (m, size, size, 1), training images that int8 ranges are taken from; needs nncf. None
            tries no int8.

    Returns:
        The export; what was there before is replaced when the new one is whole.

    Raises:
        FracturelabError: OpenVINO is missing, the export disagrees with the model, or cannot be written.
    """
    from fracturelab.models.files import load_model, read_card, sweep
    from fracturelab.models.foreign import adapt
    from fracturelab.system.files import sha256_of, whole_folder, write_json

    _require("openvino")
    model = Path(model)
    card = read_card(model)
    network = adapt(load_model(model), card, where=str(model))[0]
    size = int(network.input_shape[1])
    if images is not None and (labels is None or len(images) != len(labels) or len(images) < LEAST_IMAGES):
        raise FracturelabError(f"expected at least {LEAST_IMAGES} images with labels. Received: {len(images)}")
    reference = np.random.default_rng(0).integers(0, 256, (_REFERENCE, size, size, 1), np.uint8)
    expected = np.asarray(network(reference.astype(np.float32), training=False))[:, 0]
    target = export_folder(model)
    sweep(target.parent, (f".{glob.escape(target.name)}.*",))
    with whole_folder(target, replace=True) as part:
        network.export(str(part / "float32.xml"), format="openvino", verbose=False)
        answers = run(part / "float32.xml", "float32")(reference.astype(np.float32))
        difference = float(np.abs(answers - expected).max())
        if not difference <= AGREEMENT:
            raise FracturelabError(f"{model}: its export differs from it by {difference:.2g} in probability; not kept")
        facts = {"file": "float32.xml", "precision": "float32", "threshold": card.get("threshold")}
        networks: dict[str, Any] = {"float32": {**facts, "max_difference": difference}}
        if images is not None and labels is not None:
            mask = np.zeros(len(images), bool) if validation is None else np.asarray(validation, bool)
            networks["fast"] = _fastest(part, images, labels, mask, calibration, float(card["threshold"]))
        files = {path.name: sha256_of(path) for path in sorted(part.iterdir())}
        manifest = {"format": 1, "model_sha256": sha256_of(model), "input_size": size, "networks": networks}
        write_json(part / _MANIFEST, {**manifest, "files": files, "openvino": version("openvino")})
    return read_export(model)


def read_export(model: str | Path) -> Export:
    """Open the export of a model.

    Raises:
        FracturelabError: There is none, it is damaged, or it was made of another model.
    """
    from fracturelab.system.files import sha256_of

    model = Path(model)
    folder = export_folder(model)
    again = f"make it with `fracturelab export {model}`"
    if not (folder / _MANIFEST).is_file():
        raise FracturelabError(f"{folder}: there is no export of {model.name}; {again}")
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        networks, files, size = manifest["networks"], manifest["files"], int(manifest["input_size"])
        named = [network["file"] for network in networks.values()]
        whole = all(Path(file).name == file and file in files for file in named)
        made_of = manifest["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FracturelabError(f"{folder}: its {_MANIFEST} is damaged; {again}") from error
    if made_of != sha256_of(model):
        raise FracturelabError(f"{folder}: is the export of another model than {model.name}; {again}")
    for name, checksum in files.items():
        if Path(name).name != name or not (folder / name).is_file() or sha256_of(folder / name) != checksum:
            whole = False
    if not whole or "float32" not in networks:
        raise FracturelabError(f"{folder}: is not what was exported (a file is missing or was changed); {again}")
    return Export(folder, size, networks)


def run(path: str | Path, precision: str) -> Forward:
    """Open one exported network.

    Args:
        path: Its `.xml` file.
        precision: "float32", "bf16" or "int8".

    Returns:
        float32 (n, size, size, 1), grey levels 0..255, to float32 (n,) P(fractured).

    Raises:
        FracturelabError: OpenVINO is missing, or has no kernel for this processor, as the first answer may show.
    """
    _require("openvino")
    import openvino

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    refused = f"{Path(path).parent}: OpenVINO cannot run it here; use the runtime keras"
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    except RuntimeError as error:
        raise FracturelabError(refused) from error

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        starts = range(0, len(images), _AT_A_TIME)
        try:
            parts = [compiled(np.ascontiguousarray(images[start : start + _AT_A_TIME]))[0] for start in starts]
        except RuntimeError as error:
            raise FracturelabError(refused) from error
        return np.concatenate(parts).astype(np.float32)[:, 0]

    return forward


def images_to_measure(
    hashes: Sequence[str], card: Mapping[str, Any], *, never: Collection[str] = (), seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Choose the images of a folder that faster networks are measured on.

    The model's validation images come first, then those it was trained on. All others may be test images: they are
    measured on only where its own are fewer than `LEAST_IMAGES`, and no threshold is ever chosen on them.

    Args:
        hashes: (n,) sha256 of each file.
        card: The model's, with `train_hashes` and `val_hashes`.
        never: Checksums of images that stay out altogether.
        seed: Decides which, where there are more than `MEASURED_ON`.

    Returns:
        (m,) indices of the images to measure on; (m,) which of them the threshold may be chosen on, none where not all
        of the model's validation images are there; and (k,) indices of images it was trained on, for int8.
    """
    files = np.asarray(hashes, dtype=str)
    wanted = set(card.get("val_hashes") or ())
    trained = np.isin(files, list(card.get("train_hashes") or ()))
    held = np.isin(files, list(wanted)) & ~trained
    other = ~held & ~trained & ~np.isin(files, list(never))
    order = np.random.default_rng(seed).permutation(len(files))
    kinds = (held, trained) if (held | trained).sum() >= LEAST_IMAGES else (held, other, trained)
    order = np.concatenate([order[kind[order]] for kind in kinds])
    most = min(MEASURED_ON, max(LEAST_IMAGES, len(order) - CALIBRATED_ON))
    measured, rest = order[:most], order[most:]
    validation = held[measured] if wanted <= set(files.tolist()) else np.zeros(len(measured), bool)
    return measured, validation, rest[trained[rest]][:CALIBRATED_ON]


def _fastest(
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    validation: NDArray[np.bool_],
    calibration: NDArray[np.uint8] | None,
    threshold: float,
) -> dict[str, Any]:
    """The fastest of the exported networks whose answers stay close to single precision, with its own threshold."""
    import openvino
    from sklearn.metrics import roc_auc_score

    from fracturelab.evaluation import choose_threshold

    base = folder / "float32.xml"
    candidates = {"float32": base}
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        candidates["bf16"] = base
    if calibration is not None:
        candidates["int8"] = quantise(base, folder / "int8.xml", calibration)
    measured = {}
    for name, path in candidates.items():
        try:
            measured[name] = answers_of(run(path, name), images)
        except FracturelabError:  # the processor lists a precision in which some layer cannot run
            if name == "float32":
                raise
    exact, exact_seconds = measured["float32"]
    exact_auc = float(roc_auc_score(labels, exact))
    both_classes = len(set(labels[validation].tolist())) == 2
    tried: list[dict[str, Any]] = []
    for precision, (answers, seconds) in measured.items():
        chooses = both_classes and precision != "float32"
        chosen = choose_threshold(labels[validation], answers[validation]) if chooses else threshold
        facts = {"file": candidates[precision].name, "precision": precision, "threshold": float(chosen)}
        network: dict[str, Any] = {
            **facts,
            "threshold_images": int(validation.sum()) if chooses else 0,
            "max_difference": float(np.abs(answers - exact).max()),
            "auc_difference": float(roc_auc_score(labels, answers)) - exact_auc,
            "images": len(images),
            "seconds_an_image": seconds,
            "times_float32": exact_seconds / seconds,
        }
        tried.append(network)
    close = [
        network
        for network in tried
        if network["max_difference"] <= CLOSE_PROBABILITY and abs(network["auc_difference"]) <= CLOSE_AUC
    ]
    best = min(close, key=lambda network: network["seconds_an_image"])
    for network in tried[1:]:
        if network["file"] not in (best["file"], base.name):
            for suffix in (".xml", ".bin"):
                (folder / network["file"]).with_suffix(suffix).unlink(missing_ok=True)
    return {**best, "tried": tried[1:]}


def quantise(base: Path, target: Path, calibration: NDArray[np.uint8], *, spared: Sequence[str] = ()) -> Path:
    """Write an int8 network.

    Args:
        base: The `.xml` file of the float32 network.
        target: The `.xml` file to write.
        calibration: uint8 (m, size, size, 1), images that ranges are taken from.
        spared: Names of operations that stay float32.

    Returns:
        The target.

    Raises:
        FracturelabError: nncf is not installed.
    """
    _require("nncf")
    import nncf
    import openvino

    inputs = nncf.Dataset([image[None].astype(np.float32) for image in calibration])
    scope = nncf.IgnoredScope(names=list(spared)) if spared else None
    network = openvino.Core().read_model(str(base))
    quantised = nncf.quantize(network, inputs, subset_size=len(calibration), ignored_scope=scope)
    openvino.save_model(quantised, str(target), compress_to_fp16=False)
    return target


def answers_of(forward: Forward, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Answers to uint8 (n, size, size, 1) as float32 (n,), and seconds an image."""
    forward(images[:1].astype(np.float32))  # the first call also sets things up
    began = time.perf_counter()
    parts = [forward(images[i : i + 32].astype(np.float32)) for i in range(0, len(images), 32)]
    return np.concatenate(parts), (time.perf_counter() - began) / len(images)


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise FracturelabError(f"this needs {package}, which is not installed; {HOW_TO_INSTALL}")
