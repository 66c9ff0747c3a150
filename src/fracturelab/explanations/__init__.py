"""Where does a model look, and does it look at the fracture: heat maps, scored against the truth.

A map is float32 (size, size), never negative, higher where the image speaks more for a fracture. Its unit is the
method's own; `overlay.to_unit` brings it to 0..1 for pictures. No map proves why a model answers as it does: `scores`
measures how well it points, `randomisation` whether it depends on what was learnt at all.
"""

from fracturelab.explanations.baselines import centre_maps, random_maps
from fracturelab.explanations.gradcam import cam_layers, grad_cam
from fracturelab.explanations.lime import lime_maps
from fracturelab.explanations.occlusion import logit, occlusion_maps
from fracturelab.explanations.overlay import blend, on_radiograph, stretch, to_unit
from fracturelab.explanations.randomisation import SanityCheck, sanity_check, shuffled
from fracturelab.explanations.scores import (
    TOLERANCE,
    MapScores,
    areas,
    deletion_curves,
    heat_inside,
    insertion_curves,
    mean_curve,
    mean_interval,
    pointing_hits,
    pointing_sentence,
    score_maps,
)
from fracturelab.explanations.shap import shap_maps
from fracturelab.explanations.trials import Switched, Trials, fracture_trials, switched

__all__ = [
    "TOLERANCE",
    "MapScores",
    "SanityCheck",
    "Switched",
    "Trials",
    "areas",
    "blend",
    "cam_layers",
    "centre_maps",
    "deletion_curves",
    "fracture_trials",
    "grad_cam",
    "heat_inside",
    "insertion_curves",
    "lime_maps",
    "logit",
    "mean_curve",
    "mean_interval",
    "occlusion_maps",
    "on_radiograph",
    "pointing_hits",
    "pointing_sentence",
    "random_maps",
    "sanity_check",
    "score_maps",
    "shap_maps",
    "shuffled",
    "stretch",
    "switched",
    "to_unit",
]
