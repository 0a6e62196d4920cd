"""What a curious server can read out of an update or a trained network.

`inversion` rebuilds images and counts labels from gradients, `likeness` judges what was rebuilt,
`membership` tells members from strangers by their loss.
"""

from fedcourse.attacks.inversion import (
    gradient,
    inputs_of_dense,
    labels_of,
    match_features,
    match_gradients,
)
from fedcourse.attacks.likeness import Likeness, best_match, likeness
from fedcourse.attacks.membership import Roc, losses_of, membership_roc

__all__ = [
    "Likeness",
    "Roc",
    "best_match",
    "gradient",
    "inputs_of_dense",
    "labels_of",
    "likeness",
    "losses_of",
    "match_features",
    "match_gradients",
    "membership_roc",
]
