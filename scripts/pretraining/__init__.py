"""Pretraining of backbones: from phantoms with known truth, then from a teacher's features of real X-rays.

`views` makes augmented views, `stores` keeps them (with every target) in resumable chunks on disk, `student` is the
network with its many outputs, and `run` goes through the stages, small images first. The same code runs on two cores
and on a GPU, and on any backend of Keras.
"""
