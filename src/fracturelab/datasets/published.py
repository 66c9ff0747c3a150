"""Fetch published data sets, each at a pinned version, or give the steps to get them by hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from fracturelab.datasets.archives import extract_archive
from fracturelab.errors import FracturelabError
from fracturelab.system.folders import project_folder


class Archive(NamedTuple):
    """A published archive: where it is, and its MD5."""

    url: str
    md5: str


FRACATLAS = Archive("doi:10.6084/m9.figshare.22363012.v7/FracAtlas.zip", "fe9da2c7c285915ebee69dfdab8fd396")


class Published(NamedTuple):
    """A data set that others have published.

    Attributes:
        title: What it is called.
        page: Where it can be read about and downloaded by hand.
        handle: Kaggle's owner, name and version, or a DOI and a file's name. None where the terms ask each user to
            accept them in person.
        terms: Licence or terms, as the page states them.
    """

    title: str
    page: str
    handle: str | None
    terms: str


# Version 1 is the one each owner first published; a pinned version never changes under a result.
PUBLISHED = {
    "fracatlas": Published(
        "FracAtlas: 4,083 X-rays of hand, leg, hip and shoulder (Abedeen et al., 2023)",
        "https://doi.org/10.6084/m9.figshare.22363012.v7",
        FRACATLAS.url,
        "CC BY 4.0, Abedeen et al., Scientific Data 2023",
    ),
    "multi-region": Published(
        "Bone fracture multi-region X-ray data: 10,580 images, fractured and not, with published splits",
        "https://www.kaggle.com/datasets/bmadushanirodrigo/fracture-multi-region-x-ray-data",
        "bmadushanirodrigo/fracture-multi-region-x-ray-data/versions/1",
        "ODC-By 1.0",
    ),
    "fracture-types": Published(
        "Bone break classification: 1,129 images of ten fracture types, with published splits",
        "https://www.kaggle.com/datasets/pkdarabi/bone-break-classification-image-dataset",
        "pkdarabi/bone-break-classification-image-dataset/versions/1",
        "as stated on its page",
    ),
    "mura": Published(
        "MURA: 40,561 X-rays of the upper limb, normal and abnormal (Rajpurkar et al., 2018)",
        "https://stanfordmlgroup.github.io/competitions/mura/",
        None,
        "Stanford's research use agreement, which each user accepts in person",
    ),
}


def fetch(name: str, *, progress: bool = True) -> Path:
    """Download a published data set once, and return its folder.

    FracAtlas comes from figshare into `data/fracatlas`. The others come through kagglehub, which keeps downloads in its
    own cache and needs no account for these sets. Read a set's terms first: they bind whoever uses it.

    Args:
        name: One of `PUBLISHED`: "fracatlas", "multi-region", "fracture-types"; "mura" only gives the steps by hand.
        progress: Show a progress bar.

    Returns:
        A folder for `read_dataset`.

    Raises:
        FracturelabError: The name is unknown, kagglehub is not installed, or the download failed; the message has the
            steps by hand.
    """
    published = PUBLISHED.get(name)
    if published is None:
        raise FracturelabError(f"expected one of {', '.join(PUBLISHED)}. Received: {name!r}")
    if published.handle is None:
        raise FracturelabError(f"{name} is not fetched for you: its terms are {published.terms}; {by_hand(name)}")
    if name == "fracatlas":
        return fetch_fracatlas(progress=progress)
    try:
        import kagglehub
    except ImportError:
        raise FracturelabError(
            f"fetching {name} needs kagglehub: python -m pip install 'fracturelab[kaggle]'; or {by_hand(name)}"
        ) from None
    try:
        return Path(kagglehub.dataset_download(published.handle))
    except Exception as error:  # no network, no permission, a full disk: kagglehub has many ways to fail
        text = " ".join(str(error).split())[:160] or type(error).__name__
        reason = "no connection to Kaggle" if "Max retries exceeded" in text else text
        raise FracturelabError(f"{name} could not be downloaded ({reason}); {by_hand(name)}") from error


def by_hand(name: str) -> str:
    """Return the steps to get a data set by hand, in one sentence."""
    published = PUBLISHED[name]
    return (
        f"by hand: download it in a browser from {published.page}, unpack it into data/{name}, "
        f"then use that folder (fracturelab audit data/{name})"
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
    import pooch  # type: ignore[import-untyped]

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
