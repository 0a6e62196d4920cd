"""Shared code of the course: image classification by federated learning.

Import this package before TensorFlow; it makes TensorFlow Federated run on today's stack.
"""

from fedcourse import compat, environment

__all__ = ["compat", "environment"]
__version__ = "0.2.0"
REPOSITORY = "https://github.com/paxF3E/Image-Classification-by-Federated-Learning"

compat.apply()
