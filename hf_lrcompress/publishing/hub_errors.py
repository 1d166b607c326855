"""What the Hub refuses, in one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError

ADVICE = {
    401: "the token is not valid; log in again with hf auth login or set HF_TOKEN",
    403: "the token may not do this; make one that may write at https://huggingface.co/settings/tokens",
    409: "something else is changing the repository; try again",
    412: "somebody has changed the repository meanwhile; look at it and try again",
    429: "too many requests; try again in some minutes",
}
HTTP_ERRORS = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
"""Base class of the errors of requests or httpx, whichever huggingface_hub is built on."""
REFUSALS: tuple[type[Exception], ...] = (*HTTP_ERRORS, OSError, RuntimeError)
"""RuntimeError is what a failed upload of a large file raises."""


@contextmanager
def one_line_errors(doing: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Raise one `OSError` with advice for all that the Hub or the network can refuse while the block runs.

    Args:
        doing (`str`): What is done in the block; the message begins with it.
        but (`type[Exception]`, *optional*): What is raised as it is.
    """
    try:
        yield
    except but:
        raise
    except REFUSALS as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise OSError(f"{doing}: {_explanation(cause)}") from error


def _explanation(cause: BaseException) -> str:
    response = getattr(cause, "response", None)
    if isinstance(cause, OSError) and cause.filename:
        return str(cause)  # a file of this machine
    if response is None:
        return f"the Hub cannot be reached ({type(cause).__name__}); try again"
    said = response.headers.get("X-Error-Message") or getattr(cause, "server_message", None) or ""
    otherwise = "try again later" if response.status_code >= 500 else "it refuses this"
    return f"the Hub answered {response.status_code} {said}: {ADVICE.get(response.status_code, otherwise)}"
