"""Model builders, one a file; the weights they start from; the files they are kept in.

TensorFlow is imported when something is built, not when this package is.
"""

import logging

# Several models in one process are the rule here; TensorFlow's advice on retracing is meant for loops over one model.
logging.getLogger("tensorflow").addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())
