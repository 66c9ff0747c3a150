"""From the folders people have to one table: path, label, group, split, source, kind, study."""

from __future__ import annotations

from fracturelab.datasets.archives import extract_archive
from fracturelab.datasets.choices import reading_lines
from fracturelab.datasets.layouts import read_dataset
from fracturelab.datasets.published import PUBLISHED, fetch
from fracturelab.datasets.table import file_hashes, fingerprint, make_table
from fracturelab.datasets.walking import list_other_files

__all__ = [
    "PUBLISHED",
    "extract_archive",
    "fetch",
    "file_hashes",
    "fingerprint",
    "list_other_files",
    "make_table",
    "read_dataset",
    "reading_lines",
]
