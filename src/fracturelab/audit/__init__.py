"""Is this score true? Unreadable files, copies, leaks across splits, label conflicts and shortcuts. It only reads."""

from fracturelab.audit.groups import near_duplicate_groups, with_groups
from fracturelab.audit.hashing import ORIENTATIONS, orient
from fracturelab.audit.parts import with_groups_and_parts
from fracturelab.audit.report import AuditReport, audit, find_unreadable
from fracturelab.audit.verdict import Facts

__all__ = [
    "ORIENTATIONS",
    "AuditReport",
    "Facts",
    "audit",
    "find_unreadable",
    "near_duplicate_groups",
    "orient",
    "with_groups",
    "with_groups_and_parts",
]
