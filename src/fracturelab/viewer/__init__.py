"""What the app shows, without a browser: bounded uploads, answers with heat maps, words, tables and pictures.

`app/app.py` lays it out on a page. Nothing here writes to disk.
"""

from fracturelab.viewer.answers import Answer, Reader, available_models, open_reader
from fracturelab.viewer.results import answers_csv, answers_sheet, overlay, png
from fracturelab.viewer.uploads import LIMITS, Limits, Upload, examples, read_upload, too_many
from fracturelab.viewer.words import NOT_CLINICAL, in_words, model_facts

__all__ = [
    "LIMITS",
    "NOT_CLINICAL",
    "Answer",
    "Limits",
    "Reader",
    "Upload",
    "answers_csv",
    "answers_sheet",
    "available_models",
    "examples",
    "in_words",
    "model_facts",
    "open_reader",
    "overlay",
    "png",
    "read_upload",
    "too_many",
]
