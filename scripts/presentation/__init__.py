"""Slides for people who were not there: what was asked, what came out, what fails. Every number comes from a record."""

from scripts.presentation.content import Slide, slides_of
from scripts.presentation.deck import write_deck

__all__ = ["Slide", "slides_of", "write_deck"]
