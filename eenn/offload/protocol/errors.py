"""Errors between edge and cloud, as one tree below EennError.

    OffloadError
      BadRequest        request: cannot be built, or is not one
      CloudUnreachable  refused, reset, dns, tls, network (no way there),
                        breaker (not asked: it failed too often)
      CloudTimeout      connect, read (and 408), deadline
      CloudRefused      artifact (409), token (401, 403), request (other 4xx)
      CloudOverloaded   overloaded (429: it works), unavailable (503: it, or one before it)
      CloudBroken       server (other 5xx), truncated (a reply cut short)
        BadReply        garbage: the reply is not one

After each class are the causes that it is raised with; a cause is the label of a counter.
"""

from eenn.errors import EennError


class OffloadError(EennError):
    """An error that kept the cloud from answering an image; `cause` is one word for the reason."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class BadRequest(OffloadError):
    """A request that breaks the protocol, or holds values that the protocol cannot carry."""

    def __init__(self, message: str, cause: str = "request") -> None:
        super().__init__(message, cause)


class CloudUnreachable(OffloadError):
    """A connection to the cloud that broke or could not be made."""


class CloudTimeout(OffloadError):
    """A cloud or link that took longer than allowed."""


class CloudRefused(OffloadError):
    """A refusal by the cloud that another try would not change."""


class CloudOverloaded(OffloadError):
    """A cloud with more requests than it can take; `retry_after_s` is the pause it asks for."""

    def __init__(self, message: str, cause: str, retry_after_s: float) -> None:
        super().__init__(message, cause)
        self.retry_after_s = retry_after_s


class CloudBroken(OffloadError):
    """A failure of the cloud while answering."""


class BadReply(CloudBroken):
    """A reply that breaks the protocol."""

    def __init__(self, message: str, cause: str = "garbage") -> None:
        super().__init__(message, cause)
