"""Heat maps of what an answer depends on, and scores of how well they point at the fracture.

A map is float32 (n, size, size), never negative, higher where the image counts more towards "fractured". Its unit is
the method's own; `to_unit` brings it to 0..1 for pictures. No map proves why a model answers as it does: `score_maps`
measures how well it points, `sanity_check` whether it depends on the learned weights at all.
"""

# ruff: noqa: F401  # names for `from fracturelab import explanations`
from fracturelab.explanations.baselines import centre_maps, random_maps
from fracturelab.explanations.gradcam import GradCam, grad_cam
from fracturelab.explanations.lime import lime_maps
from fracturelab.explanations.occlusion import logit, occlusion_maps
from fracturelab.explanations.overlay import blend, on_radiograph, stretch, to_unit
from fracturelab.explanations.randomisation import sanity_check
from fracturelab.explanations.scores import (
    TOLERANCE,
    areas,
    deletion_curves,
    insertion_curves,
    mean_interval,
    pointing_hits,
    score_maps,
)
from fracturelab.explanations.shap import shap_maps
