"""Slides for a talk: one sentence and one picture each. Every number comes from a record."""

from scripts.presentation.content import Slide, slides_of
from scripts.presentation.deck import write_deck

__all__ = ["Slide", "slides_of", "write_deck"]
