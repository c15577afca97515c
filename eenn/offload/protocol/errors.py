"""What can go wrong between edge and cloud, as one tree below EennError.

    OffloadError
      BadRequest        request: cannot be built, or is not one
      CloudUnreachable  refused, reset, dns, tls, network (no way there),
                        breaker (not asked: it failed too often)
      CloudTimeout      connect, read (and 408), deadline
      CloudRefused      artifact (409), token (401, 403), request (other 4xx)
      CloudOverloaded   overloaded (429: it works), unavailable (503: it, or one before it)
      CloudBroken       server (other 5xx), truncated (a reply cut short)
        BadReply        garbage: the reply is not one

After each class stand the causes it is raised with; a cause is the label of a counter.
"""

from eenn.errors import EennError


class OffloadError(EennError):
    """An image could not be answered by the cloud; `cause` is one word that says why."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class BadRequest(OffloadError):
    """A request that breaks the protocol, or values that it cannot carry."""

    def __init__(self, message: str, cause: str = "request") -> None:
        super().__init__(message, cause)


class CloudUnreachable(OffloadError):
    """No connection to the cloud, or one that broke."""


class CloudTimeout(OffloadError):
    """The cloud, or the link to it, took longer than allowed."""


class CloudRefused(OffloadError):
    """The cloud understood and said no: it will not help to ask again."""


class CloudOverloaded(OffloadError):
    """The cloud has more requests than it can take; it may say when to ask again."""

    def __init__(self, message: str, cause: str, retry_after_s: float) -> None:
        super().__init__(message, cause)
        self.retry_after_s = retry_after_s


class CloudBroken(OffloadError):
    """The cloud failed at answering."""


class BadReply(CloudBroken):
    """A reply that breaks the protocol."""

    def __init__(self, message: str, cause: str = "garbage") -> None:
        super().__init__(message, cause)
