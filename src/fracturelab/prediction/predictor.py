"""A saved model and any image: probabilities. What a runtime needs is imported only when that runtime is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.prediction.likeness import Likeness, of_card

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
LABELS = ("normal", "fractured")


@dataclass(frozen=True)
class Predictor:
    """A model ready to answer.

    Attributes:
        path: The model file.
        runtime: What runs it.
        input_size: Side of the square input in pixels.
        threshold: From this P(fractured) on an image is called fractured; chosen on validation images.
        card: What was saved beside the model.
        forward: float32 (n, size, size, 1), grey levels 0..255, to float32 (n,) P(fractured).
        likeness: What its training images look like; None where the card does not say.
    """

    path: Path
    runtime: str
    input_size: int
    threshold: float
    card: dict[str, Any]
    forward: Forward
    likeness: Likeness | None = None

    def predict(self, images: NDArray, *, batch_size: int = 32) -> NDArray[np.float32]:
        """P(fractured) of images as `fracturelab.images` gives them.

        Args:
            images: uint8 (n, size, size, 1), bone bright; may be a memory map.
            batch_size: Images a batch.

        Returns:
            float32 (n,).

        Raises:
            FracturelabError: Images of another size, or a model whose answer is not a probability.
        """
        images = images if isinstance(images, np.ndarray) else np.asarray(images)
        expected = (self.input_size, self.input_size, 1)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise FracturelabError(
                f"expected images of shape (n, {self.input_size}, {self.input_size}, 1). Received: {images.shape}"
            )
        parts = [
            self.forward(np.asarray(images[start : start + batch_size], np.float32))
            for start in range(0, len(images), batch_size)
        ]
        probabilities = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (probabilities <= 1).all()):
            raise FracturelabError(
                f"{self.path}: its answers are no probabilities; the file is damaged or not a classifier"
            )
        return probabilities

    def label(self, probability: float) -> str:
        """The class of a probability: "fractured" from the threshold on, else "normal"."""
        return LABELS[int(probability >= self.threshold)]

    def cautions(self, images: NDArray[np.uint8]) -> list[str]:
        """What answers on these images (n, size, size, 1) should be read with: they are unlike the training images."""
        return self.likeness.of_set(images) if self.likeness is not None else []

    def predict_files(self, paths: Sequence[str | os.PathLike[str]], *, batch_size: int = 32) -> list[dict[str, Any]]:
        """A row for each file, in order: path, p_fracture and label, or path and error.

        A row has a `remark` as well where an answer should not be taken as it is: the picture is unlike the training
        images, or the file was read in part or in spite of a defect.

        Args:
            paths: Image files, read and letterboxed as in training.
            batch_size: Images in memory at a time.
        """
        from fracturelab.images import load_image

        rows: list[dict[str, Any]] = []
        for start in range(0, len(paths), batch_size):
            part: list[dict[str, Any]] = []
            pixels, reading = [], []
            for path in paths[start : start + batch_size]:
                row: dict[str, Any] = {"path": os.fspath(path)}
                try:
                    remarks: list[str] = []
                    pixels.append(load_image(os.fspath(path), self.input_size, remarks=remarks))
                    reading.append(" ".join(remarks))
                except UnreadableImageError as error:
                    row["error"] = error.reason
                except FracturelabError as error:
                    row["error"] = str(error)
                except OSError as error:
                    row["error"] = error.strerror or str(error)
                part.append(row)
            batch = np.stack(pixels) if pixels else np.zeros((0, self.input_size, self.input_size, 1), np.uint8)
            unlike = self.likeness.remarks(batch) if self.likeness is not None else [""] * len(batch)
            answers = zip(self.predict(batch), reading, unlike, strict=True)
            for row in part:
                if "error" not in row:
                    answer, *noted = next(answers)
                    row["p_fracture"] = float(answer)
                    row["label"] = self.label(row["p_fracture"])
                    if any(noted):
                        row["remark"] = " ".join(remark for remark in noted if remark)
            rows += part
        return rows


def load_predictor(path: str | Path, *, runtime: str = "auto") -> Predictor:
    """Open a saved model with the card beside it.

    Args:
        path: A `.keras` file as `fracturelab train` writes it.
        runtime: A name of `RUNTIMES`: "keras"; "float32", its export to OpenVINO, which equals Keras within 1e-4;
            "fast", the fastest exported network that stays close, with a threshold of its own. "auto" takes the export
            where there is one and OpenVINO is installed, else Keras.

    Raises:
        FracturelabError: An unknown runtime; no such file; a file that is not a model, holds code, is not the one its
            card describes, or is no classifier of fractured against normal.
    """
    from fracturelab.models.files import read_card
    from fracturelab.system.files import sha256_of

    path = Path(path)
    if not path.is_file():
        raise FracturelabError(f"{path}: no such model file")
    if path.suffix != ".keras":
        raise FracturelabError(f"{path}: not a model; expected a .keras file as written by `fracturelab train`")
    runtime = choose_runtime(path, runtime)
    opened = RUNTIMES[runtime](path)
    card = read_card(path)
    if card.get("sha256") not in (None, sha256_of(path)):
        raise FracturelabError(
            f"{path}: is not the file its card describes ({path.with_suffix('.json').name}); train it again"
        )
    if card.get("threshold") is None:
        raise FracturelabError(f"{path.with_suffix('.json')}: expected a threshold in the model's card. Received: none")
    threshold = float(card["threshold"] if opened.threshold is None else opened.threshold)
    return Predictor(path, runtime, opened.input_size, threshold, card, opened.forward, of_card(card))


@dataclass(frozen=True)
class Opened:
    """A model as one runtime opened it; a threshold only where the runtime's answers need one of their own."""

    forward: Forward
    input_size: int
    threshold: float | None = None


def choose_runtime(path: str | Path, runtime: str = "auto") -> str:
    """What runs a model: what was asked for, or by itself its export where that can be used, else Keras.

    Args:
        path: The model file.
        runtime: "auto" or a name of `RUNTIMES`.

    Raises:
        FracturelabError: An unknown runtime.
    """
    from fracturelab.prediction.export import export_folder, openvino_is_there, read_export

    if runtime not in ("auto", *RUNTIMES):
        raise FracturelabError(f"expected a runtime out of auto, {', '.join(RUNTIMES)}. Received: {runtime!r}")
    if runtime != "auto":
        return runtime
    if not export_folder(path).is_dir() or not openvino_is_there():
        return "keras"
    try:
        read_export(path)
    except FracturelabError as error:
        warnings.warn(f"{error}. Keras answers instead", stacklevel=3)
        return "keras"
    return "float32"


def _exported_runtime(name: str) -> Callable[[Path], Opened]:
    def opened(path: Path) -> Opened:
        from fracturelab.prediction.export import read_export, run

        export = read_export(path)
        if name not in export.networks:
            raise FracturelabError(f"{export.folder}: has no {name!r} network; export with --data to measure one")
        network = export.networks[name]
        forward = run(export.folder / network["file"], network["precision"])
        return Opened(forward, export.input_size, network["threshold"])

    return opened


def _keras_runtime(path: Path) -> Opened:
    from fracturelab.models.files import load_model
    from fracturelab.models.inference import compiled

    model = load_model(path)
    shape, outputs = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and len(shape) == 4 and shape[1] == shape[2] and shape[3] == 1):
        raise FracturelabError(f"{path}: expected a model of square grey images. Received: input {shape}")
    if not (isinstance(outputs, tuple) and outputs == (None, 1)):
        raise FracturelabError(f"{path}: expected a model with one output, P(fractured). Received: output {outputs}")
    run = compiled(model)
    return Opened(lambda images: run(images).numpy()[:, 0], int(shape[1]))


RUNTIMES: dict[str, Callable[[Path], Opened]] = {
    "keras": _keras_runtime,
    "float32": _exported_runtime("float32"),
    "fast": _exported_runtime("fast"),
}
