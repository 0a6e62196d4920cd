"""What the protocol does not allow, by name. Whoever meets one of these keeps the state it had."""


class ProtocolError(Exception):
    """A message or a request that the protocol does not allow.

    Lesson: 10
    """


class Malformed(ProtocolError):
    """Bytes that are no message of this protocol: cut short, too long, of a wrong type or size.

    Lesson: 10
    """


class TooLarge(Malformed):
    """More bytes than any message of the round has. Nothing of it but its head was looked at.

    Lesson: 10
    """


class WrongSession(ProtocolError):
    """A message of another session, or of one with other parameters.

    Lesson: 10
    """


class WrongRound(ProtocolError):
    """A message that comes too early, too late, or for a second time.

    Lesson: 10
    """


class UnknownSender(ProtocolError):
    """A message from someone who is not, or no longer, part of the session.

    Lesson: 10
    """


class Duplicate(ProtocolError):
    """A second message from the same client in a round, or keys that another client has.

    Lesson: 10
    """


class Tampered(ProtocolError):
    """A seal or a signature that does not fit what it is on.

    Lesson: 10
    """


class Refused(ProtocolError):
    """What the other side says or asks could cost someone their privacy.

    Lesson: 10
    """


class WeakKey(Refused):
    """A public key of small order: a secret that is agreed on with it is none.

    Lesson: 10
    """


class Inconsistent(ProtocolError):
    """Too many wrong shares, or an owner whose shares are not of the secret it committed to.

    Lesson: 10
    """


class BelowThreshold(ProtocolError):
    """Fewer clients are left than the threshold: the session ends without a sum.

    Lesson: 10
    """
