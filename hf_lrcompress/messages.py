"""What a user reads of a mistake: one line, of bounded length, with all that is wrong in it."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

SECRET = re.compile(r"\bhf_[A-Za-z0-9]{30,}|(?<=\w\w:/)/?[^\s/@]+@")
"""What access tokens of the Hub look like, and user and password in a URL."""

UNREACHABLE = re.compile("couldn't connect|connection error|offline mode", re.IGNORECASE)
"""What `transformers` says where the Hub cannot be reached; "connect" alone may stand in the name of a model."""

LONGEST_VALUE = 100
LONGEST_LINE = 2000


class Mistakes(ValueError):
    """Several mistakes, to be mended before the next start.

    Args:
        found (`list[str]`): What each is.
    """

    def __init__(self, found: list[str]) -> None:
        self.found = found
        numbered = " ".join(f"({number}) {said}" for number, said in enumerate(found, start=1))
        super().__init__(f"{len(found)} mistakes: {numbered}")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say of a `ValueError` of the block what it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


@contextmanager
def noted(found: list[str]) -> Iterator[None]:
    """Append to `found` the mistakes by which the block ends, and go on after it."""
    try:
        yield
    except Mistakes as error:
        found += error.found
    except (ValueError, OSError) as error:
        found.append(str(error))


def refuse(found: list[str]) -> None:
    """Raise a `ValueError` if there are mistakes."""
    if len(found) > 1:
        raise Mistakes(found)
    if found:
        raise ValueError(found[0])


def read_all(**readers: Callable[[], Any]) -> SimpleNamespace:
    """What the readers return, by their names.

    Raises:
        ValueError: All that is wrong with what they read.
    """
    found: list[str] = []
    read = SimpleNamespace()
    for name, reader in readers.items():
        with noted(found):
            setattr(read, name, reader())
    refuse(found)
    return read


def one_line(error: Exception | str) -> str:
    """What an error says, in one line without secrets: what is long is cut in the middle."""
    said = cut(SECRET.sub("…", str(error)), LONGEST_LINE)
    return " ".join(said.split())


def shown(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    return cut(repr(value), LONGEST_VALUE)


def cut(text: str, longest: int) -> str:
    """A text without its middle, where it is longer than `longest`; what is left is no longer."""
    half = (longest - len(" … ")) // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def check_settings(values: Iterable[Any]) -> None:
    """Refuse settings that may not, or cannot, stand in the files that a run leaves: secrets are not repeated.

    Args:
        values (`Iterable`): Settings; what is no text is passed over.

    Raises:
        ValueError: If one holds an access token, a URL with a password, or bytes that are no UTF-8, as a file name may.
    """
    for value in values:
        text = str(value)
        if SECRET.search(text):
            raise ValueError(
                "a setting holds an access token of the Hub, or a URL with a password; take it out, and log in with hf auth login"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name {shown(text)} is not UTF-8; give the file or folder another name") from None


def is_unreachable(error: Exception) -> bool:
    """Whether an error of `transformers` says that the Hub cannot be reached, or is not to be."""
    return UNREACHABLE.search(str(error)) is not None


def whole_number(name: str, value: Any) -> int:
    """A whole number, of Python or of NumPy.

    Args:
        name (`str`): What it is, for the error.
        value (`Any`): What was given.

    Raises:
        ValueError: If it is none: `12 / 2` is 6.0, no number of layers.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {shown(value)}") from None
