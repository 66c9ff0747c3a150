"""Model builders, one a file; the weights they start from; the files they are kept in.

TensorFlow is imported when something is built, not when this package is.
"""
