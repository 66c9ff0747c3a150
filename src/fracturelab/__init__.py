"""fracturelab: finding fractures in bone X-rays, and finding out whether the score is true.

For teaching and research. Not for clinical use.
"""

__version__ = "0.1.0"
