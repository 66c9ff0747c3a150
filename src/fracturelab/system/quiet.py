"""Import TensorFlow without the start-up messages of its libraries, whatever log level is set."""

from __future__ import annotations

import os
import re
import sys
import tempfile

CHATTER = re.compile(
    rb"(WARNING: All log messages before absl::|[IW]\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\] |To enable the following instr)"
)
"""How lines begin that TensorFlow's libraries write to the error stream while they load."""


def load_tensorflow() -> None:
    """Import TensorFlow and Keras without the start-up messages of their libraries; other messages reach stderr.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            captured.seek(0)
            rest = b"".join(line for line in captured if not CHATTER.match(line))
            if rest.strip():
                os.write(2, rest)
