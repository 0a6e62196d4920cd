"""Differential privacy for clients: clip, add noise, count what it cost, and check the count.

The unit of privacy is a client: results hardly change with a client added or left out.
"""

from fedcourse.privacy.accounting import epsilon, noise_for, tree_sensitivity
from fedcourse.privacy.auditing import Audit, audit
from fedcourse.privacy.mechanism import clip, poisson_cohort, private_mean

__all__ = [
    "Audit",
    "audit",
    "clip",
    "epsilon",
    "noise_for",
    "poisson_cohort",
    "private_mean",
    "tree_sensitivity",
]
