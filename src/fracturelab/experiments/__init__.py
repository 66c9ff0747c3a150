"""Studies built on the training recipes: fracture types, leaking splits, folds, distillation and tuning."""
