"""Synthetic bone radiographs from a seed: anatomy, fractures, physics of the radiograph, and a data set writer.

Every image made here is synthetic. It shows no patient and is no medical evidence.
"""

# ruff: noqa: F401  # names for `from fracturelab import phantoms`
from fracturelab.phantoms.anatomy import REGIONS
from fracturelab.phantoms.defaults import RECIPES, default_data
from fracturelab.phantoms.faults import plant_faults
from fracturelab.phantoms.fractures import FRACTURE_KINDS
from fracturelab.phantoms.render import NUISANCES, Phantom, render
from fracturelab.phantoms.sources import GENERATOR_VERSION, SOURCES
from fracturelab.phantoms.truth import fracture_boxes
from fracturelab.phantoms.visibility import Visibility, fracture_visibility
from fracturelab.phantoms.writer import Recipe, write_set
