"""Scores of a model with 95% intervals, thresholds from validation data, paired tests of models, and curves."""

# ruff: noqa: F401  # names for `from fracturelab import evaluation`
from fracturelab.evaluation.checks import check_predictions
from fracturelab.evaluation.curves import Calibration, Curve, calibration_curve, precision_recall_curve, roc_curve
from fracturelab.evaluation.ensembles import average, best_member
from fracturelab.evaluation.intervals import Interval, auc_score_interval, wilson
from fracturelab.evaluation.metrics import METRICS, Evaluation, evaluate
from fracturelab.evaluation.multiclass import MulticlassEvaluation, multiclass_metrics
from fracturelab.evaluation.paired import Comparison, McNemar, SeedsComparison, compare, compare_seeds, mcnemar
from fracturelab.evaluation.sentences import conclusion, p_value, verdict
from fracturelab.evaluation.studies import Spread, study_scores, summary_over_seeds
from fracturelab.evaluation.subgroups import subgroup_members, subgroup_scores
from fracturelab.evaluation.thresholds import choose_threshold
