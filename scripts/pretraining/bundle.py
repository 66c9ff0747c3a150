"""From data to bundled weights: what a pretraining sees, and the export of what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError
from scripts.pretraining.stores import write_phantoms
from scripts.pretraining.teacher import build_teacher
from scripts.pretraining.views import Radiographs

if TYPE_CHECKING:
    import keras

    from fracturelab.models.weights import WeightsInfo
    from scripts.pretraining.run import Stage

VIEW_SIZE = 160  # side of the phantoms, in pixels
PHANTOM_ZOOM = (1.1, 3.2)  # near enough that a fracture covers more than a pixel or two of a small image
SCALING = "tf"  # pretrained networks see grey / 127.5 - 1, three times

ORIGIN_PHANTOMS = "fracturelab: phantoms alone"
LICENCE_PHANTOMS = "Apache-2.0"
ORIGIN_BOTH = (
    "fracturelab: phantoms and training X-rays of FracAtlas (Abedeen et al., Scientific Data 2023), their labels, and "
    "features of an ImageNet MobileNet (Howard et al. 2017, Google, Apache-2.0) on both"
)
LICENCE_BOTH = "Apache-2.0; trained on FracAtlas (CC BY 4.0, Abedeen et al. 2023, doi:10.1038/s41597-023-02432-4)"


def prepare_phantoms(folder: str | Path, *, count: int = 16_000, seed: int = 0) -> Path:
    """Render the phantoms of a pretraining, from gross to subtle; what is there already is kept.

    Args:
        folder: Where they go, as `phantoms`.
        count: How many.
        seed: Phantom seeds start at seed * 10,000,000 + 1,000,000, far from the embedded default's.

    Returns:
        The folder of the phantoms.
    """
    return write_phantoms(
        Path(folder) / "phantoms",
        count=count,
        size=VIEW_SIZE,
        seed=seed * 10_000_000 + 1_000_000,
        difficulty=(0.0, 0.6),
        zoom=PHANTOM_ZOOM,
    )


def prepare_real(
    real: str | Path | None,
    teacher_weights: str | Path | None,
    *,
    backbone: str = "MobileNet",
    options: Mapping | None = None,
) -> tuple[Radiographs | None, Callable[[int], keras.Model] | None]:
    """Real X-rays and a teacher, both or neither.

    Args:
        real: A folder of labelled X-rays (FracAtlas); its fixed test and validation parts are left out, with whole
            groups.
        teacher_weights: ImageNet weights of the teacher.
        backbone: The teacher's name in `keras.applications`.
        options: Options of its builder; by default `{"alpha": 0.75}`.

    Returns:
        The X-rays, and what builds the teacher for a size; `run.pretrain` takes both.

    Raises:
        FracturelabError: Only one of real X-rays and teacher weights was given.
    """
    if real is None and teacher_weights is None:
        return None, None
    if real is None or teacher_weights is None:
        raise FracturelabError(
            "expected real X-rays and a teacher's weights together, or neither. Received: one of them"
        )
    chosen = {"alpha": 0.75} if options is None else dict(options)
    return Radiographs(training_rows(real)), lambda size: build_teacher(
        teacher_weights, backbone=backbone, options=chosen, size=size
    )


def training_rows(folder: str | Path):
    """Readable, labelled rows of a data set, without FracAtlas' fixed test and validation parts and their groups."""
    from fracturelab.audit import usable_rows
    from fracturelab.datasets import read_dataset

    table, _ = usable_rows(read_dataset(folder))
    apart = table["split"].isin(["val", "test"])
    return table[~apart & ~table["group"].isin(table.loc[apart, "group"])].reset_index(drop=True)


def pretrained_backbone(
    folder: str | Path, stages: Sequence[Stage], *, backbone: str, options: Mapping | None = None
) -> keras.Model:
    """The backbone alone, with the weights of the last of the given stages.

    Args:
        folder: Folder of the run.
        stages: Stages of the recipe, up to the one wanted.
        backbone: Its name in `keras.applications`.
        options: Options of its builder.

    Returns:
        A backbone as `models.backbones.build_backbone` builds it.
    """
    import numpy as np

    from fracturelab.models.backbones import build_backbone

    last = stages[-1]
    model = build_backbone(backbone, input_size=last.size, options=options, scaling=SCALING)
    path = Path(folder) / f"{last.name}.weights.npz"
    if not path.exists():
        raise FracturelabError(f"{path}: no such file; run the stage {last.name!r} first")
    saved = np.load(path)
    for layer in model.layers:
        for i, weight in enumerate(layer.weights):
            weight.assign(saved[f"{layer.name}/{i}"])
    return model


def export(
    folder: str | Path,
    stages: Sequence[Stage],
    *,
    backbone: str,
    name: str,
    origin: str,
    licence: str,
    into: str | Path,
    options: Mapping | None = None,
    input_size: int | None = None,
    **further,
) -> WeightsInfo:
    """Write the weights of the last given stage as bundled weights, in half precision.

    Args:
        folder: Folder of the run.
        stages: Stages up to the one to export.
        backbone: Its name in `keras.applications`.
        name: Name of the weights.
        origin: Data and method, in a sentence.
        licence: Licence and the names it asks for.
        into: Usually `models/weights`.
        options: Options of the backbone's builder.
        input_size: Side in pixels recommended to users; the last stage's where not given.
        further: Further keys of the description.

    Returns:
        What `save_bundled` gives.

    Raises:
        FracturelabError: A stage was not run, or with other settings than the recipe would say.
    """
    from fracturelab.models.backbones import check_scaling
    from fracturelab.models.weights import WeightsInfo
    from scripts.pretraining.bundled_files import save_bundled
    from scripts.pretraining.run import check_stage, started_from

    for stage in stages:
        check_stage(Path(folder), stage, backbone=backbone, options=dict(options or {}))
    model = pretrained_backbone(folder, stages, backbone=backbone, options=options)
    start = started_from(Path(folder), stages[0])
    steps = (f"from weights with sha256 {start[:16]} on; " if start else "") + "; ".join(
        f"{s.name}: {s.images} views at {s.size} px, learning rate {s.learning_rate:g}"
        + (f", {s.real_share:.0%} real, label weight {s.supervision:g}" if s.real_share else "")
        + (f", {s.window:.0%} magnified parts" if s.window else "")
        for s in stages
    )
    info = WeightsInfo(
        name=name,
        kind="bundled",
        backbone=backbone,
        origin=origin,
        licence=licence,
        input_size=input_size or stages[-1].size,
        scaling=check_scaling(SCALING, backbone),
        options=dict(options or {}),
    )
    return save_bundled(model, into, info, recipe=steps, **further)
