"""Fetch FracAtlas as its authors published it: one archive on figshare, checked and unpacked."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from fracturelab.datasets.fetching.archives import extract_archive
from fracturelab.errors import FracturelabError
from fracturelab.system.folders import project_folder

UNPACKED = 1.1  # times the archive's own length; X-rays are JPEGs


class Archive(NamedTuple):
    """A published archive: where it is, its length in bytes and its MD5."""

    url: str
    length: int
    md5: str


FRACATLAS = Archive(
    "doi:10.6084/m9.figshare.22363012.v7/FracAtlas.zip", 338_436_460, "fe9da2c7c285915ebee69dfdab8fd396"
)


def fetch_fracatlas(
    folder: str | Path | None = None, *, archive: Archive = FRACATLAS, retries: int = 2, progress: bool = True
) -> Path:
    """Download FracAtlas once, check it, and unpack it.

    A download that breaks off or has other bytes is tried again from its beginning; nothing of it stays. An archive
    that lies beside the folder already, such as one from a browser, is checked and used instead.

    Args:
        folder: Where to; `data/fracatlas` of the project if None. What is there already is kept and returned.
        archive: What to fetch.
        retries: How often a failed download is tried again.
        progress: Show a progress bar.

    Returns:
        A folder for `read_dataset`.

    Raises:
        FracturelabError: No network, no space, or other bytes than published; the message has the steps by hand.
    """
    import pooch

    target = Path(folder) if folder is not None else project_folder() / "data" / "fracatlas"
    if target.is_dir() and any(target.iterdir()):
        return target
    base, _, name = archive.url.rpartition("/")
    zipped = target.with_name(name)
    there = zipped.is_file()
    downloader = pooch.DOIDownloader if base.startswith("doi:") else pooch.HTTPDownloader
    logging.getLogger("pooch").setLevel(logging.WARNING)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        needed = archive.length * (UNPACKED if there else 1 + UNPACKED)
        if (free := shutil.disk_usage(target.parent).free) < needed:
            raise OSError(f"{free / 1e6:.0f} MB are free there and {needed / 1e6:.0f} MB are needed")
        store = pooch.create(target.parent, f"{base}/", registry={name: f"md5:{archive.md5}"}, retry_if_failed=retries)
        store.fetch(name, downloader=downloader(progressbar=progress, chunk_size=1 << 16, timeout=30))
    except Exception as error:  # no network, an answer that is no JSON, a full disk: many libraries, many ways to fail
        kind = type(error).__name__
        reason = (
            "no connection" if kind in ("ConnectionError", "ConnectTimeout") else " ".join(str(error).split())[:200]
        )
        page = archive.url.removeprefix("doi:").rpartition("/")[0]
        raise FracturelabError(
            f"FracAtlas could not be downloaded to {target.parent} ({reason or kind}); by hand: download {name} in a "
            f"browser from https://doi.org/{page}, put it at {zipped} and give the same command again"
        ) from error
    extract_archive(zipped, target)
    if not there:
        zipped.unlink()
    return target
