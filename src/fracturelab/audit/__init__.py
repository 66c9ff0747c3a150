"""Is this score true? Unreadable files, copies, leaks across splits, label conflicts and shortcuts. It only reads."""

from fracturelab.audit.groups import near_duplicate_groups, usable_rows, with_groups, with_groups_and_parts
from fracturelab.audit.hashing import ORIENTATIONS, orient
from fracturelab.audit.report import AuditReport, audit_dataset
from fracturelab.audit.verdict import Facts

__all__ = [
    "ORIENTATIONS",
    "AuditReport",
    "Facts",
    "audit_dataset",
    "near_duplicate_groups",
    "orient",
    "usable_rows",
    "with_groups",
    "with_groups_and_parts",
]
