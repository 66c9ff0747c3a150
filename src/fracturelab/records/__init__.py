"""One JSON file a run: what was run, on which data, with which code and weights, how long, and what came out.

Every number that a document shows comes from such a record. A record carries a checksum over the rest of it, so that
one edited by hand is noticed and refused. It names no person, no host and no place on a disk.
"""

from fracturelab.records.comparison import compare_records, comparison_table, main_scores, markdown_table
from fracturelab.records.files import (
    code_version,
    default_folder,
    machine,
    own_folder,
    package_versions,
    plain,
    read_record,
    read_records,
    write_record,
)
from fracturelab.records.names import interval_text, metric_name
from fracturelab.records.scores import PARTS, score_table

__all__ = [
    "PARTS",
    "code_version",
    "compare_records",
    "comparison_table",
    "default_folder",
    "interval_text",
    "machine",
    "main_scores",
    "markdown_table",
    "metric_name",
    "own_folder",
    "package_versions",
    "plain",
    "read_record",
    "read_records",
    "score_table",
    "write_record",
]
