"""One fit in its own process; its result holds the probabilities of images that it was not trained on.

A fresh process makes fits equal wherever they run. The number of threads is set before TensorFlow starts, no state of
an earlier fit is left, and two fits never share a random state, in sequence, at the same time, or on another machine.
The process ends when the process that waits for it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fracturelab.datasets import file_hashes
from fracturelab.errors import FracturelabError
from fracturelab.images import load_images
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.pipeline import Augmentation
from fracturelab.records import package_versions, plain
from fracturelab.training.checkpoints import code_digest, work_folder
from fracturelab.training.epochs import Schedule, predict
from fracturelab.training.features import FeatureStore
from fracturelab.training.fitting import Fit
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import train_v1
from fracturelab.training.v2 import train_v2

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_running: set[subprocess.Popen] = set()


@dataclass(frozen=True)
class Job:
    """A fit that another process makes, on this machine or on another one.

    Attributes:
        name: Name of the fit, for messages.
        table: Columns path, label, group and split: "train", "val", "test", or <NA> for an image left out.
        hashes: (n,) sha256 of each file.
        size: Side of the images in pixels.
        settings: `recipe` ("v1" or "v2"), its `options` as plain values, `seed`, and `threads` of the fit.
        weights: The weights that v2 starts from.
        work: Folder for checkpoints and features; it may not exist where the fit runs.
        code: From `code_digest`.
    """

    name: str
    table: pd.DataFrame
    hashes: NDArray[np.str_]
    size: int
    settings: Mapping[str, Any]
    weights: WeightsInfo | None
    work: str
    code: str

    @cached_property
    def key(self) -> str:
        """Checksum of everything that the result depends on; paths are no part of it."""
        content = {name: value for name, value in vars(self).items() if name not in ("name", "work")}
        content["table"] = self.table.drop(columns="path")
        text = json.dumps([plain(content), package_versions()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Name of the record of the result, without its suffix."""
        return f"{self.name.replace(' ', '-')}-{self.key[:12]}"


def fit_in_process(job: Job) -> dict[str, Any]:
    """Make a fit in its own process.

    Returns:
        `p_test` and `p_val` (P(fractured) of those images, in order), `threshold`, `chosen`, `candidates`, `history`,
        `recipe`, `weights`, `seconds`, and `warnings`.

    Raises:
        FracturelabError: The fit cannot be made, or its process died; the message names the job.
    """
    source = str(Path(__file__).resolve().parents[2])
    threads = str(job.settings["threads"])
    environment = {
        **os.environ,
        **dict.fromkeys((*_THREADS, "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    command = [sys.executable, "-m", "fracturelab.experiments.fold_process"]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as log:
        # A process that died early leaves a pipe that breaks, when it is written to and when it is closed.
        with (
            contextlib.suppress(BrokenPipeError),
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=environment) as child,
        ):
            assert child.stdin is not None and child.stdout is not None
            _running.add(child)
            try:
                with contextlib.suppress(BrokenPipeError):
                    pickle.dump(job, child.stdin)
                    child.stdin.flush()
                output = child.stdout.read()
                child.wait()
            finally:
                child.kill()
                _running.discard(child)
        if child.returncode == 0:
            result = json.loads(output)
            if "error" in result:
                raise FracturelabError(f"{job.name}: {result['error']}")
            return result
        if child.returncode < 0:
            raise FracturelabError(
                f"{job.name}: its process was killed (signal {-child.returncode}), as happens where memory runs out; "
                "start again with the same arguments, and what is finished is kept"
            )
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise RuntimeError(f"{job.name}: its process failed: {lines[-1]}\n" + "\n".join(lines[-30:]))


def stop() -> None:
    """End the fits that run in other processes."""
    for child in list(_running):
        child.kill()


def main() -> None:
    """Read a job from stdin, make its fit, and write the result to stdout."""
    job = pickle.load(sys.stdin.buffer)  # from `fit_in_process` alone
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the result
    try:
        result = _fit(job)
    except FracturelabError as error:
        result = {"error": str(error)}
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    out.write(json.dumps(result).encode())
    out.flush()
    os._exit(0)  # without cleanup: a thread still waits for stdin


def _exit_with_parent() -> None:
    """End this process when the process that started it ends, for whatever reason."""
    sys.stdin.buffer.read()
    os._exit(1)


def _fit(job: Job) -> dict[str, Any]:
    if job.code != code_digest():
        raise FracturelabError(
            "fracturelab's code is another one where this fit runs, or was changed meanwhile; have the same everywhere"
        )
    prepared = _prepared(job)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job.settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job.settings["threads"])
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always", UserWarning)
        work = Path(job.work)
        if not work.is_dir():  # another machine, where the folder does not exist
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fracturelab-")))
        checkpoints = stack.enter_context(work_folder(work, prepared, {"key": job.key}))
        fit = _train(job, prepared, store=FeatureStore(work / "stores", shared=True), work_dir=checkpoints)
        p_test, p_val = (predict(fit.model, prepared.images, rows=prepared.rows(part)) for part in ("test", "val"))
    messages = dict.fromkeys(str(warning.message) for warning in caught if type(warning.message) is UserWarning)
    kept = {name: getattr(fit, name) for name in ("threshold", "chosen", "candidates", "recipe", "weights", "seconds")}
    history = fit.history.to_dict("records")
    return plain({**kept, "p_test": p_test, "p_val": p_val, "history": history, "warnings": list(messages)})


def _prepared(job: Job) -> Prepared:
    """The job's images; they must be those that the job was made for."""
    paths = job.table["path"].tolist()
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise FracturelabError(
            f"this worker does not see {missing[0]}; keep the images where every machine has them at the same path"
        )
    if file_hashes(paths) != job.hashes.tolist():
        raise FracturelabError("the images changed, or are others on this worker; start again")
    pixels = load_images(paths, job.size, progress=False)
    return Prepared(job.table, pixels, job.hashes, pd.DataFrame({"path": [], "reason": []}))


def _train(job: Job, prepared: Prepared, *, store: FeatureStore, work_dir: Path) -> Fit:
    options = {**job.settings["options"], "seed": job.settings["seed"], "work_dir": work_dir, "progress": False}
    options["augmentation"] = Augmentation(**options["augmentation"])
    options["schedule"] = Schedule(**options["schedule"])
    if job.weights is None:
        return train_v1(prepared, **options)
    info = job.weights
    name = info.path if info.kind == "file" else info.kind
    here = resolve(info.backbone, name, info.options)
    if (here.sha256, here.scaling) != (info.sha256, info.scaling):
        raise FracturelabError(f"the {name} weights of {info.backbone} are others on this worker")
    return train_v2(prepared, weights=here, store=store, **options)


if __name__ == "__main__":
    main()
