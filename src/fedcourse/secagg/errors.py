"""What the protocol does not allow, by name. Whoever meets one of these keeps the state it had."""


class ProtocolError(Exception):
    """A message or a request that the protocol does not allow.

    Lesson: 09
    """


class Malformed(ProtocolError):
    """Bytes that are no message of this protocol: cut short, too long, of a wrong type or size.

    Lesson: 09
    """


class WrongSession(ProtocolError):
    """A message of another session, or of one with other parameters.

    Lesson: 09
    """


class WrongRound(ProtocolError):
    """A message that comes too early, too late, or for a second time.

    Lesson: 09
    """


class UnknownSender(ProtocolError):
    """A message from someone who is not, or no longer, part of the session.

    Lesson: 09
    """


class Duplicate(ProtocolError):
    """A second message from the same client in a round, or keys that another client has.

    Lesson: 09
    """


class Tampered(ProtocolError):
    """A seal or a signature that does not fit what it is on.

    Lesson: 09
    """


class Refused(ProtocolError):
    """A client ends its part: what the server says or asks could cost someone their privacy.

    Lesson: 09
    """


class Inconsistent(ProtocolError):
    """Shares that do not add up to the secret their owner committed to.

    Lesson: 09
    """


class BelowThreshold(ProtocolError):
    """Fewer clients are left than the threshold: the session ends without a sum.

    Lesson: 09
    """
