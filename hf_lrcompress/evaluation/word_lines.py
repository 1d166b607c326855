"""Files with a word a line and blank lines between sentences: CoNLL-2003, CoNLL-U, and IOB2 as Universal NER has it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, dropwhile, groupby
from pathlib import Path
from typing import NamedTuple

from hf_lrcompress.evaluation.tasks import NOT_IOB2, Task
from hf_lrcompress.messages import shown
from hf_lrcompress.texts.lines import read_lines
from hf_lrcompress.texts.rows import kind_of

CONLLU = ".conllu"
KINDS_OF_WORDS = (CONLLU, ".conll", ".iob2")
"""How the names of files end that [`read_word_lines`] reads."""

CONLLU_WIDTH = 10
MISSING = ("_", "")
"""What stands where a word has no tag."""

NUMBER = re.compile(r"\d+([-.]\d+)?")
"""A word's number in its sentence, or that of what is no word of its own: a range (1-2) or an empty node (1.1)."""

MOST_UNNUMBERED = 0.1
"""Share of lines whose first column is no number, from which on it is a column of words, some of which are numbers."""


class _Line(NamedTuple):
    """A line of a file, with its number from 1; a blank one has no columns."""

    number: int
    text: str
    columns: list[str]


def read_word_lines(path: Path, task: Task, chosen: Sequence[str | int] | None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Read sentences: of each where it begins, its words and their tags.

    Columns are separated by tabs, on a line without any by spaces. The word is in the first column and its tag in the last. If
    the first column numbers the words, they are in the second and the one column after it that has such tags; in CoNLL-U in the
    second (FORM) and the fourth (UPOS).

    Args:
        path (`Path`): The file.
        task ([`Task`]): The task.
        chosen (`Sequence[str | int]`, *optional*): Other columns for the word and its tag, from 1.

    Raises:
        ValueError: If lines differ in their number of columns, a word has no tag, or it is not clear which column is which.
    """
    lines = list(_read(path))
    width = _usual_width(path, lines)
    sentences = list(_sentences(lines, width))
    for line in chain.from_iterable(sentences):
        _check_width(path, line, width)
    numbered = _is_numbered(path, list(chain.from_iterable(sentences)))
    if numbered:
        sentences = [[line for line in sentence if line.columns[0].isdecimal()] for sentence in sentences]
    words = list(chain.from_iterable(sentences))
    if words:
        word, tag = _indices(path, words[0], task, chosen) if chosen else _guess(path, words, task, numbered)
        _check_values(path, words, task, word, tag)
    for sentence in filter(None, sentences):
        where = f"{path}, line {sentence[0].number}"
        yield where, [line.columns[word] for line in sentence], [line.columns[tag] for line in sentence]


def _is_numbered(path: Path, words: Sequence[_Line]) -> bool:
    """Whether the first column numbers the words.

    Raises:
        ValueError: If it does in nearly all lines: in the others a number is damaged.
    """
    others = [line for line in words if not NUMBER.fullmatch(line.columns[0])]
    if others and len(words[0].columns) > 2 and len(others) < MOST_UNNUMBERED * len(words):
        first = f"{path}, line {others[0].number}: the first column numbers the words, but here it is"
        raise ValueError(f"{first} {shown(others[0].columns[0])}; correct it")
    return not others


def split_at_spaces(text: str) -> list[str]:
    """Its parts between spaces; a no-break space belongs to a word."""
    return [part for part in text.split(" ") if part]


def _read(path: Path) -> Iterator[_Line]:
    for number, text in enumerate(read_lines(path), start=1):
        by_tabs = "\t" in text or kind_of(path) == CONLLU
        columns = [column.strip(" ") for column in text.split("\t")] if by_tabs else split_at_spaces(text)
        is_blank = not text.strip() or columns[0] == "-DOCSTART-"
        yield _Line(number, text, [] if is_blank else columns)


def _usual_width(path: Path, lines: Sequence[_Line]) -> int:
    """Number of columns of most lines that are surely no comments."""
    if kind_of(path) == CONLLU:
        return CONLLU_WIDTH
    widths = Counter(len(line.columns) for line in lines if line.columns and not line.text.startswith("#"))
    return widths.most_common(1)[0][0] if widths else 0


def _sentences(lines: Sequence[_Line], width: int) -> Iterator[list[_Line]]:
    """Lines between blank ones, without the comments before the first word."""
    tags = {line.columns[-1] for line in lines if line.columns and not line.text.startswith("#")}
    is_comment = partial(_is_comment, width=width, tags=tags)
    for is_blank, group in groupby(lines, key=lambda line: not line.columns):
        sentence = [] if is_blank else list(dropwhile(is_comment, group))
        if sentence:
            yield sentence


def _is_comment(line: _Line, width: int, tags: set[str]) -> bool:
    """Whether a line before a sentence is a comment, not a word that starts with #.

    Such a word has as many columns as the others and no space in it; without tabs, its tag must be one that other words have.
    """
    if not line.text.startswith("#"):
        return False
    return len(line.columns) != width or " " in line.columns[0] or ("\t" not in line.text and line.columns[-1] not in tags)


def _check_width(path: Path, line: _Line, width: int) -> None:
    found = len(line.columns)
    where = f"{path}, line {line.number}: {found} columns"
    if kind_of(path) == CONLLU and not (found == CONLLU_WIDTH and NUMBER.fullmatch(line.columns[0])):
        raise ValueError(f"{where}; CoNLL-U has {CONLLU_WIDTH}, separated by tabs, and the first numbers the words")
    if found == 1:
        raise ValueError(f"{path}, line {line.number}: a token without a tag; give both, separated by a tab or a space")
    if found != width:
        raise ValueError(f"{where} where most lines have {width}; separate columns by tabs")


def _guess(path: Path, words: Sequence[_Line], task: Task, numbered: bool) -> tuple[int, int]:
    """Indices of the columns of word and tag, if there is no doubt."""
    first = words[0]
    width = len(first.columns)
    if kind_of(path) == CONLLU:
        if task.spans:
            raise ValueError(_unclear(path, first, task, f"CoNLL-U has parts of speech, {task.name} needs entities"))
        return 1, 3
    tags = [index for index in range(2, width) if all(task.allows(line.columns[index]) for line in words)]
    if not numbered and (width == 2 or task.spans):
        return 0, width - 1
    if numbered and width > 2 and len(tags) < 2:
        return 1, tags[0] if tags else 2
    raise ValueError(_unclear(path, first, task, "it is not clear which column is which"))


def _indices(path: Path, line: _Line, task: Task, chosen: Sequence[str | int]) -> tuple[int, int]:
    """Indices of the columns that were chosen."""
    numbers = {str(number): number - 1 for number in range(1, len(line.columns) + 1)}
    for column in chosen:
        if str(column) not in numbers:
            raise ValueError(_unclear(path, line, task, f"there is no column {column}"))
    word, tag = (numbers[str(column)] for column in chosen)
    return word, tag


def _check_values(path: Path, words: Sequence[_Line], task: Task, word: int, tag: int) -> None:
    if all(line.columns[word] in MISSING for line in words):
        raise ValueError(f"{path}: every word is {words[0].columns[word]!r}; get the text that belongs to these tags")
    for line in words:
        found = line.columns[tag]
        if not task.allows(found) and not found.isdecimal():
            raise ValueError(_unclear(path, line, task, f"tag {found!r} {NOT_IOB2}"))
        if found in MISSING:
            raise ValueError(f"{path}, line {line.number}: the tag of {line.columns[word]!r} is {found!r}; give every word one")


def _unclear(path: Path, line: _Line, task: Task, why: str) -> str:
    """What is wrong with the columns of a line, what they are, and how to choose others."""
    found = ", ".join(f"{number}: {column!r}" for number, column in enumerate(line.columns, start=1))
    choose = f"choose those of word and tag with --task_columns {task.name}=2,3 (in a configuration evaluate.columns)"
    return f"{path}, line {line.number}: {why}; its columns are {found}; {choose}"
