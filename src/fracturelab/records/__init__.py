"""One JSON file a run: what was run, on which data, with which code and weights, how long, and what came out.

Every number that a document shows comes from such a record. A record carries a checksum over the rest of it, so that
one edited by hand is noticed and refused. It names no person, no host and no place on a disk.
"""

from fracturelab.records.context import code_version, machine, package_versions
from fracturelab.records.files import (
    EditedRecordError,
    default_folder,
    plain,
    read_record,
    read_records,
    write_record,
    write_text,
)
from fracturelab.records.tables import COLUMNS, fill_markdown, results_table

__all__ = [
    "COLUMNS",
    "EditedRecordError",
    "code_version",
    "default_folder",
    "fill_markdown",
    "machine",
    "package_versions",
    "plain",
    "read_record",
    "read_records",
    "results_table",
    "write_record",
    "write_text",
]
