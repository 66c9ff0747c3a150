"""A saved model and any image: probabilities. What a runtime needs is imported only when that runtime is used."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.prediction.likeness import Likeness, of_card

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from fracturelab.explanations.gradcam import GradCam, OwnMap

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
LABELS = ("normal", "fractured")
COLUMNS = ["path", "probability", "label", "threshold", "remark", "problem"]
NO_LIKENESS = "Its card does not describe the training images, so no answer is marked as one on an unlike picture."


@dataclass(frozen=True, repr=False)
class Predictor:
    """A model ready to answer.

    Attributes:
        path: The model file.
        runtime: What runs it.
        input_size: Side of the square input in pixels.
        threshold: From this P(fractured) on an image is called fractured; chosen on validation images.
        card: What was saved beside the model, with the file's `sha256`.
        forward: float32 (n, size, size, 1), grey levels 0..255, to float32 (n,) P(fractured).
        likeness: What its training images look like; None where the card does not describe them.
        notes: Sentences on the model itself, such as what its card lacks.
        model: The Keras model where Keras runs it, else None.
        lock: For callers with several threads: one batch at a time.
    """

    path: Path
    runtime: str
    input_size: int
    threshold: float
    card: dict[str, Any] = field(default_factory=dict)
    forward: Forward = lambda images: np.full(len(images), np.nan, np.float32)
    likeness: Likeness | None = None
    notes: tuple[str, ...] = ()
    model: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def __repr__(self) -> str:
        """One line; the card has thousands of checksums."""
        return f"Predictor({str(self.path)!r}, {self.input_size} px, {self.runtime}, threshold {self.threshold:.3f})"

    @property
    def name(self) -> str:
        """What the model is called."""
        return str(self.card.get("name") or self.path.stem)

    @overload
    def predict(self, source: NDArray, *, batch_size: int = 32) -> NDArray[np.float32]: ...

    @overload
    def predict(self, source: Paths, *, batch_size: int = 32) -> pd.DataFrame: ...

    def predict(self, source: Any, *, batch_size: int = 32) -> Any:
        """P(fractured) of images, or of files.

        Args:
            source: uint8 (n, size, size, 1), bone bright, as `fracturelab.images` gives them; may be a memory map. Or
                a path, a list of paths, or a folder.
            batch_size: Images a batch.

        Returns:
            float32 (n,) for images; for files the table of `predict_files`.

        Raises:
            FracturelabError: Images of another size, or a model whose answer is not a probability.
        """
        if isinstance(source, str | os.PathLike) or (
            isinstance(source, list | tuple) and all(isinstance(path, str | os.PathLike) for path in source)
        ):
            return self.predict_files(source, batch_size=batch_size)
        images, size = np.asanyarray(source), self.input_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 1):
            raise FracturelabError(f"expected images of shape (n, {size}, {size}, 1). Received: {images.shape}")
        parts = [
            self.forward(np.asarray(images[start : start + batch_size], np.float32))
            for start in range(0, len(images), batch_size)
        ]
        return self._checked(np.concatenate(parts) if parts else np.zeros(0, np.float32))

    def _checked(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise FracturelabError(f"{self.path}: its answers are no probabilities; the file is damaged")
        return probabilities

    def explain(self, images: NDArray) -> tuple[NDArray[np.float32], NDArray | None]:
        """P(fractured) of images, and heat maps of what speaks for a fracture.

        Args:
            images: uint8 (n, size, size, 1), as for `predict`.

        Returns:
            float32 (n,); and float32 (n, size, size) in 0..1, each by its own maximum and all 0 where nothing speaks
            for a fracture, or None for a model without feature maps.
        """
        from fracturelab.explanations.overlay import stretch, to_unit

        if self.explainer is None:
            return self.predict(images, batch_size=8), None
        probabilities, evidence = self.explainer(images, batch_size=8)
        heat = to_unit(evidence, least=self.explainer.least)
        return self._checked(probabilities), stretch(heat, (self.input_size, self.input_size))

    @cached_property
    def explainer(self) -> GradCam | OwnMap | None:
        """Images to P(fractured) and signed evidence; None where the model has no feature map."""
        from fracturelab.explanations.gradcam import explainer

        model = _adapted(self.path, self.card)[0] if self.model is None else self.model
        return explainer(model, self.card.get("map"))

    def label(self, probability: float) -> str:
        """The class of a probability: "fractured" from the threshold on, else "normal"."""
        return LABELS[int(probability >= self.threshold)]

    def cautions(self, images: NDArray[np.uint8]) -> list[str]:
        """Sentences for a whole set of images (n, size, size, 1) that is unlike the training images."""
        return self.likeness.of_set(images) if self.likeness is not None else []

    def remarks(self, images: NDArray[np.uint8]) -> list[str]:
        """A sentence for each image (n, size, size, 1) that is unlike the training images, "" for the others."""
        return self.likeness.remarks(images) if self.likeness is not None else [""] * len(images)

    def remarks_on_files(self, images: NDArray[np.uint8], hashes: Sequence[str], names: Sequence[str]) -> list[str]:
        """Why the answer to each file should not be taken as it is, or "".

        It was used in training, or is unlike the training images.

        Args:
            images: uint8 (n, size, size, 1), the files as the model takes them.
            hashes: sha256 of each file.
            names: Name of each file.
        """
        from fracturelab.models.seen import REMARKS, seen_files

        uses = (REMARKS.get(use) for use in seen_files(self.card, hashes, names))
        return [" ".join(filter(None, pair)) for pair in zip(uses, self.remarks(images), strict=True)]

    def predict_files(self, paths: Paths, *, batch_size: int = 32) -> pd.DataFrame:
        """A row for each file, in order.

        Args:
            paths: A file, a folder, or a list of both; read and letterboxed as in training.
            batch_size: Images in memory at a time.

        Returns:
            A table with the columns `path`; `probability`, P(fractured), NaN for a file that cannot be read; `label`,
            at the `threshold`, "" for such a file; `remark`, why an answer should not be taken as it is (the picture
            is unlike the training images, the file was used in training, or was read in part or in spite of a defect),
            or ""; `problem`, why the file cannot be read, or "".
        """
        import pandas as pd

        rows = list(self.answers(paths, batch_size=batch_size))
        table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)  # a name may be no text
        return table.astype({"probability": float, "threshold": float})

    def answers(self, paths: Paths, *, batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """The rows of `predict_files`, one by one, each as a dictionary."""
        files = image_files(paths)[0]
        for start in range(0, len(files), batch_size):
            yield from self._rows(files[start : start + batch_size])

    def _rows(self, paths: list[str]) -> list[dict[str, Any]]:
        from fracturelab.images import load_image
        from fracturelab.system.files import sha256_of

        rows, pixels = [], []
        for path in paths:
            row: dict[str, Any] = {"path": path, "label": "", "threshold": self.threshold, "remark": "", "problem": ""}
            rows.append(row)
            reading: list[str] = []
            try:
                picture = load_image(path, self.input_size, remarks=reading)
                row |= {"sha256": sha256_of(path), "remark": " ".join(reading)}
                pixels.append(picture)
            except UnreadableImageError as error:
                row["problem"] = error.reason
            except (FracturelabError, OSError) as error:
                row["problem"] = (getattr(error, "strerror", None) or str(error)).removeprefix(f"{path}: ")
        readable = [row for row in rows if not row["problem"]]
        if readable:
            images = np.stack(pixels)
            hashes, names = ([row[key] for row in readable] for key in ("sha256", "path"))
            remarks = self.remarks_on_files(images, hashes, names)
            for row, p, remark in zip(readable, self.predict(images), remarks, strict=True):
                row |= {"probability": float(p), "label": self.label(p)}
                row["remark"] = " ".join(filter(None, (row["remark"], remark)))
        return rows


def image_files(paths: Paths) -> tuple[list[str], list[str]]:
    """The images among some paths; a folder stands for the images in it and below.

    Returns:
        The images, and the files of the folders that are no images by name.

    Raises:
        FracturelabError: A folder that cannot be read, or no image in the folders.
    """
    from fracturelab.datasets.walking import walk

    images: list[str] = []
    others: list[str] = []
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for path in given:
        if os.path.isdir(path):
            listed = walk(Path(path))
            images += [image for image, _ in listed.paths()]
            others += [os.path.join(path, name) for name in listed.others]
        else:
            images.append(os.fspath(path))
    if given and not images:
        names = ", ".join(os.fspath(path) for path in given)
        raise FracturelabError(f"expected X-ray files. Received: {names}, without an image in it")
    return images, others


def load_predictor(path: str | Path, *, runtime: str = "auto", threshold: float | None = None) -> Predictor:
    """Open a saved model with the card beside it.

    Args:
        path: A `.keras` file as `fracturelab train` writes it.
        runtime: A name of `RUNTIMES`: "keras"; "float32", its export to OpenVINO, which equals Keras within 1e-4;
            "fast", the fastest exported network that stays close, with a threshold of its own. "auto" takes the export
            where there is one and OpenVINO is installed, else Keras.
        threshold: From this P(fractured) on an image is called fractured; the card's own if None.

    Raises:
        FracturelabError: An unknown runtime; no such file; a file that is not a model, holds code, is not the one its
            card describes, or is no classifier of fractured against normal.
    """
    path = Path(path)
    if runtime not in ("auto", *RUNTIMES):
        raise FracturelabError(f"expected a runtime out of auto, {', '.join(RUNTIMES)}. Received: {runtime!r}")
    card = checked_card(path)
    runtime, opened = _opened(path, card, runtime)
    if threshold is not None and not 0 <= threshold <= 1:
        raise FracturelabError(f"expected a threshold from 0 to 1. Received: {threshold}")
    own, likeness = opened.pop("threshold", None), of_card(card)
    chosen = next(value for value in (threshold, own, card["threshold"]) if value is not None)
    notes = (*opened.pop("notes", ()), *([] if likeness else [NO_LIKENESS]))
    return Predictor(path, runtime, threshold=float(chosen), card=card, likeness=likeness, notes=notes, **opened)


def checked_card(path: Path) -> dict[str, Any]:
    """The card beside a model file, with everything checked that can be without opening the model.

    Raises:
        FracturelabError: No such file, not a model's file, no card, a card of another file, or one without threshold.
    """
    from fracturelab.models.files import check_model_file, read_card
    from fracturelab.system.files import sha256_of

    if not path.is_file():
        raise FracturelabError(f"{path}: no such model file")
    if path.suffix != ".keras" or not path.with_suffix(".json").is_file():
        check_model_file(path)  # what is wrong with the file itself comes first
    if path.suffix != ".keras":
        raise FracturelabError(f"{path}: not a model; expected a .keras file as written by `fracturelab train`")
    card, sha256 = read_card(path), sha256_of(path)
    if card.get("sha256") not in (None, sha256):
        name = path.with_suffix(".json").name
        raise FracturelabError(f"{path}: is not the file its card describes ({name}); train it again")
    if card.get("threshold") is None:
        raise FracturelabError(f"{path.with_suffix('.json')}: expected a threshold in the model's card. Received: none")
    return {**card, "sha256": sha256}


def _opened(path: Path, card: dict[str, Any], runtime: str) -> tuple[str, dict[str, Any]]:
    """The runtime that was asked for, or by itself the export where that can be used, and what it gives."""
    from fracturelab.prediction.export import export_folder, openvino_is_there

    if runtime == "auto":
        runtime = "keras"
        if export_folder(path).is_dir() and openvino_is_there():
            try:
                return "float32", RUNTIMES["float32"](path, card)
            except FracturelabError as error:
                warnings.warn(f"{error}. Keras answers instead", stacklevel=3)
    return runtime, RUNTIMES[runtime](path, card)


# From the path and the card to fields of the predictor; a threshold only where the answers need one of their own.
Runtime = Callable[[Path, dict[str, Any]], dict[str, Any]]


def _exported_runtime(name: str) -> Runtime:
    def opened(path: Path, card: dict[str, Any]) -> dict[str, Any]:
        from fracturelab.prediction.export import read_export, run

        export = read_export(path)
        if name not in export.networks:
            raise FracturelabError(f"{export.folder}: has no {name!r} network; export with --data to measure one")
        network = export.networks[name]
        forward = run(export.folder / network["file"], network["precision"])
        return {"forward": forward, "input_size": export.input_size, "threshold": network["threshold"]}

    return opened


def _adapted(path: Path, card: dict[str, Any]) -> tuple[keras.Model, tuple[str, ...]]:
    from fracturelab.models.files import load_model
    from fracturelab.models.foreign import adapt

    return adapt(load_model(path), card, where=str(path))


def _keras_runtime(path: Path, card: dict[str, Any]) -> dict[str, Any]:
    from fracturelab.models.inference import compiled

    model, notes = _adapted(path, card)
    run = compiled(model)
    facts = {"input_size": int(model.input_shape[1]), "notes": notes, "model": model}
    return {"forward": lambda images: run(images).numpy()[:, 0], **facts}


RUNTIMES: dict[str, Runtime] = {
    "keras": _keras_runtime,
    "float32": _exported_runtime("float32"),
    "fast": _exported_runtime("fast"),
}
