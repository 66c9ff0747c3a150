"""Is this score true? Unreadable files, copies, leaks across splits, label conflicts and shortcuts. It only reads."""

from fracturelab.audit.groups import usable_rows, with_groups
from fracturelab.audit.report import audit_dataset

__all__ = ["audit_dataset", "usable_rows", "with_groups"]
