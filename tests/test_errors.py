"""Messages stay one printable line, and errors travel between processes."""

from __future__ import annotations

import os
import pickle

from fracturelab.errors import FracturelabError, UnreadableImageError


def test_a_message_is_one_printable_line() -> None:
    error = UnreadableImageError("two\nlines\x1b[31m " + os.fsdecode(b"latin\xe9.png") + " 骨.png", "damaged")
    assert str(error) == "two\\nlines\\x1b[31m latin\\udce9.png 骨.png: damaged"
    assert error.path.startswith("two\nlines")
    str(error).encode()
    assert str(FracturelabError("plain words, é")) == "plain words, é"


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImageError("a\nb.png", "truncated")))
    assert (error.path, error.reason, str(error)) == ("a\nb.png", "truncated", "a\\nb.png: truncated")
