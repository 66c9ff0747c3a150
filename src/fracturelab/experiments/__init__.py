"""Studies built on the training recipes: fracture types, backbones, folds, distillation and tuning."""
