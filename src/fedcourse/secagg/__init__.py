"""Secure aggregation: a server learns the sum of its clients' vectors, and nothing else of them.

The protocol of Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
Learning, with both of the paper's adversaries. Made to be read and measured; nobody has audited it.

`FixedPoint` makes whole numbers of real ones, `run` a session of them; `Client` and `Server` are
what `run` runs.

Lesson: 10
"""

from fedcourse.secagg.client import Client
from fedcourse.secagg.encoding import FixedPoint
from fedcourse.secagg.errors import BelowThreshold, ProtocolError
from fedcourse.secagg.parameters import Parameters, Round, smallest_threshold
from fedcourse.secagg.server import Server
from fedcourse.secagg.session import Enrolment, Outcome, enrol, run

__all__ = [
    "BelowThreshold",
    "Client",
    "Enrolment",
    "FixedPoint",
    "Outcome",
    "Parameters",
    "ProtocolError",
    "Round",
    "Server",
    "enrol",
    "run",
    "smallest_threshold",
]
