"""The weights that a backbone starts from: ImageNet, bundled files, a file of your own, or random ones.

Bundled weights are an HDF5 file of plain arrays (matrices and kernels in half precision, the rest in single) with a
JSON description beside it: `models/weights/NAME.weights.h5` and `NAME.json` in a checkout, `fracturelab/data/weights/`
in an installed wheel. The description says what the arrays are, how the input is scaled for them, where they come
from, under which licence, and their sha256, which is checked before a byte of them is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import build_backbone
from fracturelab.models.efficientnet_lite import PACKAGES, packaged_file
from fracturelab.system.files import sha256_of

if TYPE_CHECKING:
    import keras

SUFFIX = ".weights.h5"
DOWNLOAD_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"  # where keras.applications downloads
OFFLINE = "FRACTURELAB_OFFLINE"  # environment variable: never try to download
_LICENCES = (  # https://github.com/keras-team/keras-applications, section License
    (r"ResNet\d+$|Xception", "MIT"),
    (r"VGG", "CC BY 4.0"),
    (r"DenseNet", "BSD 3-clause"),
)


@dataclass(frozen=True)
class WeightsInfo:
    """What a backbone starts from.

    Attributes:
        name: "imagenet", "none", a bundled name, or a file's name.
        kind: "imagenet", "bundled", "file" or "none".
        backbone: Name of the backbone they fit.
        origin: Who made them, from what.
        licence: Licence of the weights.
        sha256: Of the file; for Keras's ImageNet weights of the arrays as loaded; None for random weights.
        path: The file, "imagenet" for Keras's own download, None for random weights.
        scaling: `{"scale": ..., "offset": ...}` of the input, None for the backbone's own.
        input_size: Side in pixels they were trained at, None if not known.
        options: Options of the backbone they fit.
    """

    name: str
    kind: str
    backbone: str
    origin: str
    licence: str
    sha256: str | None = None
    path: str | None = None
    scaling: dict[str, Any] | None = None
    input_size: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """One line for the person who trains: which weights these are."""
        if self.kind == "none":
            return f"RANDOM WEIGHTS: {self.backbone} has not learned anything yet; this is no transfer learning"
        return f"{self.backbone} starts from {self.name} weights ({self.origin}; {self.licence})"

    def to_dict(self) -> dict[str, Any]:
        """For a card or a record; of the path only the file's name is kept."""
        result = asdict(self)
        result["path"] = Path(self.path).name if self.path else None
        return result


def bundled_folders() -> list[Path]:
    """Folders that may hold bundled weights: `models/weights` of a checkout, then the package's own data."""
    package = Path(__file__).resolve().parents[1]
    return [package.parents[1] / "models" / "weights", package / "data" / "weights"]


def bundled() -> list[WeightsInfo]:
    """The bundled weights there are, by name; a name in the checkout hides the same name in the package."""
    by_name: dict[str, WeightsInfo] = {}
    for folder in bundled_folders():
        for description in sorted(folder.glob("*.json")):
            info = _described(description.with_name(description.stem + SUFFIX), kind="bundled")
            if info is not None:
                by_name.setdefault(info.name, info)
    return [by_name[name] for name in sorted(by_name)]


def resolve(
    backbone: str = "ResNet50", weights: str | Path | None = "auto", options: Mapping[str, Any] | None = None
) -> WeightsInfo:
    """Choose the weights a backbone starts from.

    Args:
        backbone: A name of `keras.applications`.
        weights: "auto" is ImageNet where it can be had (Keras's cache, or a download), else bundled weights, else
            none. "imagenet", "bundled" or a weights file are an error where they cannot be had. None or "none" is
            random.
        options: Options of the backbone; weights fit only the options they were trained with.

    Returns:
        The choice; its `sentence` describes it.

    Raises:
        FracturelabError: What was asked for by name cannot be had.
    """
    options = dict(options or {})
    if weights is None or weights == "none":
        return WeightsInfo("none", "none", backbone, "random initialisation", "none", options=options)
    if weights == "imagenet":
        return _imagenet(backbone, options)
    if weights == "bundled":
        return _bundled_for(backbone, options)
    if weights == "auto":
        for choice in (_imagenet, _bundled_for):
            try:
                return choice(backbone, options)
            except FracturelabError:
                continue
        return resolve(backbone, None, options)
    return _from_file(Path(weights), backbone, options)


def _bundled_for(backbone: str, options: dict[str, Any]) -> WeightsInfo:
    there = bundled()
    for info in there:
        if info.backbone == backbone and info.options == options:
            return info
    have = ", ".join(_with_options(info.backbone, info.options) for info in there) or "no backbone"
    raise FracturelabError(
        f"there are no bundled weights for {_with_options(backbone, options)}; {have} has them. "
        'Use one of those, weights="imagenet", a weights file, or "none"'
    )


def _with_options(backbone: str, options: Mapping[str, Any]) -> str:
    return f"{backbone}({', '.join(f'{k}={v}' for k, v in options.items())})" if options else backbone


def _from_file(path: Path, backbone: str, options: dict[str, Any]) -> WeightsInfo:
    if not path.is_file():
        raise FracturelabError(
            f"{path}: no such weights file; expected weights to be auto, imagenet, bundled, none or a file"
        )
    info = _described(path, kind="file")
    if info is None:
        origin = "a file without description"
        return WeightsInfo(path.name, "file", backbone, origin, "unknown", sha256_of(path), str(path), options=options)
    if info.backbone != backbone or info.options != options:
        raise FracturelabError(
            f"{path}: its description says {_with_options(info.backbone, info.options)}. "
            f"Received: {_with_options(backbone, options)}"
        )
    return info


def _described(path: Path, *, kind: str) -> WeightsInfo | None:
    """The description beside a weights file, None where there is none; refused by name where it is not one."""
    stem = path.name.removesuffix(".h5").removesuffix(".weights")
    description = path.with_name(stem + ".json")
    if not description.is_file():
        return None
    try:
        values = json.loads(description.read_text(encoding="utf-8"))
        file = description.with_name(Path(str(values.get("file", path.name))).name)
        if kind == "file" and file.name != path.name:
            return None
        text = {name: str(values[name]) for name in ("name", "backbone", "origin", "licence", "sha256")}
        size, options = values.get("input_size"), dict(values.get("options") or {})
        size = None if size is None else int(size)
        scaling = values.get("scaling")
        return WeightsInfo(kind=kind, path=str(file), scaling=scaling, input_size=size, options=options, **text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FracturelabError(f"{description}: not a description of weights ({error!r}); mend or remove it") from error


def _imagenet(backbone: str, options: dict[str, Any]) -> WeightsInfo:
    """ImageNet weights from an installed package or through Keras; fails within seconds where there is no network."""
    if backbone in PACKAGES:
        return _packaged(backbone)
    import keras

    missing = FracturelabError(
        f"ImageNet weights of {_with_options(backbone, options)} cannot be had here (not in Keras's cache, and no "
        'download); go online once, or use weights="bundled", a weights file, or "none"'
    )
    if not _in_keras_cache(backbone) and not _reachable():
        raise missing
    try:
        size = 331 if backbone == "NASNetLarge" else 224
        model = build_backbone(backbone, input_size=size, options=options, weights_path="imagenet")
    except FracturelabError:
        raise
    except Exception as error:  # whatever a broken download raises
        raise missing from error
    licence = next((name for pattern, name in _LICENCES if re.match(pattern, backbone)), "Apache-2.0")
    digest = digest_of(model)
    origin = f"ImageNet, as downloaded by Keras {keras.__version__}"
    return WeightsInfo("imagenet", "imagenet", backbone, origin, licence, digest, "imagenet", options=options)


def _packaged(backbone: str) -> WeightsInfo:
    file, digest = packaged_file(backbone), PACKAGES[backbone][1]
    package = PACKAGES[backbone][0].replace("_", "-")
    if file is None:
        raise FracturelabError(
            f'ImageNet weights of {backbone} cannot be had here; pip install {package}, or use weights="none"'
        )
    origin = f"ImageNet, by Google, as packaged in {package}"
    return WeightsInfo("imagenet", "imagenet", backbone, origin, "Apache-2.0", digest, str(file))


def _in_keras_cache(backbone: str) -> bool:
    wanted = re.sub(r"[^a-z0-9]", "", backbone.lower())
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    names = [re.sub(r"[^a-z0-9]", "", file.name.lower()) for file in folder.glob("*.h5")]
    return any(wanted in name and "notop" in name for name in names)


def _reachable(seconds: float = 4.0) -> bool:
    """Whether Keras's download server answers; the thread limits the wait for a slow name server."""
    if os.environ.get(OFFLINE):
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(DOWNLOAD_HOST, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answers.append(True)
        except urllib.error.HTTPError as error:
            answers.append(error.code < 500 and error.code != 407)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return bool(answers and answers[0])


def digest_of(model: keras.Model) -> str:
    """sha256 over a model's arrays in their order, with their shapes, in hexadecimal."""
    import numpy as np

    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()
