"""Fetching FracAtlas, against a server on this machine: slow, cut off, wrong bytes, no space, no network."""

from __future__ import annotations

import errno
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fracturelab.datasets import fetch
from fracturelab.datasets.published import FRACATLAS, Archive, fetch_fracatlas
from fracturelab.errors import FracturelabError


def zipped() -> bytes:
    """A small archive that does not shrink."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("FracAtlas/dataset.csv", "image_id,fractured\n")
        archive.writestr("FracAtlas/images/Fractured/IMG0000001.jpg", hashlib.sha256(b"1").digest() * 2000)
    return buffer.getvalue()


CONTENT = zipped()


class Server(ThreadingHTTPServer):
    """Sends the archive, each time as the next of `moods` says, then whole."""

    moods: list[str]
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        mood = self.server.moods.pop(0) if self.server.moods else "whole"
        self.server.sent += 1
        body = CONTENT[::-1] if mood == "other bytes" else CONTENT
        self.send_response(503 if mood == "unavailable" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mood == "slow":
            for start in range(0, len(body), 20_000):
                self.wfile.write(body[start : start + 20_000])
                time.sleep(0.02)
        else:
            self.wfile.write(body[: len(body) // 2] if mood == "cut off" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.moods = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def archive_of(server: Server) -> Archive:
    url = f"http://127.0.0.1:{server.server_address[1]}/files/FracAtlas.zip"
    return Archive(url, hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())


@pytest.mark.parametrize(
    ("moods", "sent"), [([], 1), (["slow"], 1), (["cut off"], 2), (["other bytes", "cut off"], 3), (["unavailable"], 2)]
)
def test_it_is_whole_in_the_end_and_nothing_else_lies_there(server, tmp_path, moods, sent):
    server.moods = moods
    folder = fetch_fracatlas(tmp_path / "data" / "fracatlas", archive=archive_of(server), progress=False)
    assert (folder / "FracAtlas/images/Fractured/IMG0000001.jpg").stat().st_size == 64_000
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["fracatlas"]
    assert server.sent == sent
    assert fetch_fracatlas(folder, archive=archive_of(server)) == folder
    assert server.sent == sent  # what is there is kept


@pytest.mark.parametrize(("mood", "words"), [("cut off", "broken"), ("other bytes", "MD5"), ("unavailable", "503")])
def test_after_the_last_try_it_says_what_to_do(server, tmp_path, mood, words):
    server.moods = [mood] * 3
    with pytest.raises(FracturelabError) as caught:
        fetch_fracatlas(tmp_path / "fracatlas", archive=archive_of(server), retries=1, progress=False)
    message = str(caught.value)
    assert words.lower() in message.lower()
    assert f"put it at {tmp_path / 'FracAtlas.zip'}" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_is_one_line(server, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.downloaders.HTTPDownloader.__call__", full)
    with pytest.raises(FracturelabError, match="No space left on device"):
        fetch_fracatlas(tmp_path / "fracatlas", archive=archive_of(server), progress=False)
    assert not list(tmp_path.iterdir())


def test_an_archive_from_a_browser_needs_no_network_and_stays(tmp_path):
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    nowhere = Archive("http://127.0.0.1:9/FracAtlas.zip", md5)
    with pytest.raises(FracturelabError, match=r"could not be downloaded .*\(no connection\)"):
        fetch_fracatlas(tmp_path / "fracatlas", archive=nowhere, retries=0, progress=False)
    (tmp_path / "FracAtlas.zip").write_bytes(CONTENT)
    assert (fetch_fracatlas(tmp_path / "fracatlas", archive=nowhere) / "FracAtlas" / "dataset.csv").is_file()
    assert (tmp_path / "FracAtlas.zip").is_file()


def test_progress_is_shown(server, tmp_path, capsys):
    fetch_fracatlas(tmp_path / "fracatlas", archive=archive_of(server))
    assert "100%" in capsys.readouterr().err


def test_the_command_fetches_the_pinned_release(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("fracturelab.datasets.published.fetch_fracatlas", lambda **how: seen.append(how) or Path("/x"))
    assert fetch("fracatlas", progress=False) == Path("/x")
    assert seen == [{"progress": False}]
    assert ".v7/" in FRACATLAS.url
    assert len(FRACATLAS.md5) == 32
