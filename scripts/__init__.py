"""What a user of the package never imports: pretraining, evidence, slides and the notebook runner."""
