"""What the rest stands on: folders, files written whole, progress bars, worker processes and a quiet TensorFlow."""
