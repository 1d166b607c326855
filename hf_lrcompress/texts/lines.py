"""Reading files by lines: text, JSON objects and tables, packed or not. Errors are one line: file, line, what to do."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_lrcompress.messages import shown

LONGEST_LINE = 100_000_000
"""Bytes of a line, which is held in memory whole."""


def read_lines(file: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 file, which may be packed (`.gz`), without what ends them.

    Raises:
        ValueError: If a line is not UTF-8, with the number of such lines, or the packed file is damaged.
    """
    return (line.rstrip("\r\n") for line in _decoded_lines(file))


def read_json_lines(file: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file with a JSON object a line, each with the number of its line.

    Raises:
        ValueError: If a line that is not blank is not UTF-8 or no JSON object, with the number of such lines.
    """
    lines = ((number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip())
    for number, line in lines:
        try:
            row = _parse_json(line)
        except ValueError as error:
            damaged = 1 + sum(not _is_json(other) for _, other in lines)
            found = f"{file}, line {number}: {error}; give one JSON object a line"
            raise ValueError(found + _in_all(damaged)) from None
        yield number, row


def read_table_lines(file: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table whose first line names the columns, each with the number of the line that it ends in.

    In `.csv` a quoted field may hold commas and line breaks; in `.tsv` a quotation mark is a character like any other.

    Raises:
        ValueError: If a line is not UTF-8, a quote is not closed, or a row has more or fewer columns than the first line; with
            the number of such lines.
    """
    csv.field_size_limit(LONGEST_LINE)  # Python's own is 131,072 characters
    if Path(file).name.lower().removesuffix(".gz").endswith(".tsv"):
        reader = csv.reader(_decoded_lines(file), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(_decoded_lines(file), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            raise ValueError(f"{file} has two columns {shown(twice[0])}; give each a name of its own")
        for row in filter(None, reader):
            if len(row) != len(names):
                found = f"{file}, line {reader.line_num}: {len(row)} columns, the first line has {len(names)}"
                damaged = 1 + sum(len(other) != len(names) for other in filter(None, reader))
                raise ValueError(f"{found}; quote fields that hold what separates them{_in_all(damaged)}")
            yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}; is a quote not closed?") from None


def _decoded_lines(file: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 file with what ends them. After a damaged one there are none; those that are damaged too are counted."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file} is no file; give one that is there, no pipe or device")
    number = 0
    first = ""
    damaged = 0
    packed = Path(file).suffix.lower() == ".gz"
    with gzip.open(file) if packed else open(file, "rb") as lines:
        try:
            for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{file}, line {number} has more than {LONGEST_LINE:,} bytes; break it up")
                if number == 1:
                    _check_kind(file, line)
                if number == 1 and b"\n" not in line and b"\r" in line.rstrip(b"\r"):
                    raise ValueError(f"{file} ends its lines by carriage returns alone; write it again with line feeds")
                try:
                    text = line.decode("utf-8-sig")  # files may have been put together of several, each with its mark
                except UnicodeDecodeError as error:
                    byte = line[error.start]
                    first = first or f"{file}, line {number}: byte 0x{byte:02x} is not UTF-8; convert the file to UTF-8"
                    damaged += 1
                    continue
                if not first:
                    yield text
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise ValueError(f"{file} is damaged after line {number}: no whole gzip file; make or download it again") from None
    if first:
        raise ValueError(first + _in_all(damaged))


def _check_kind(file: str | Path, line: bytes) -> None:
    """Refuse, by how its first line begins, what is no text in UTF-8."""
    if line.startswith(b"\x1f\x8b"):
        raise ValueError(f"{file} is packed by gzip; let its name end in .gz, or unpack it")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{file} is UTF-16; convert it to UTF-8")


def _in_all(damaged: int) -> str:
    """How many lines are damaged, where that is more than the one that is named."""
    return f" (in all {damaged:,} lines are damaged)" if damaged > 1 else ""


def _is_json(line: str) -> bool:
    try:
        _parse_json(line)
    except ValueError:
        return False
    return True


def _parse_json(line: str) -> dict[str, Any]:
    """The object in a line; a `ValueError` says why there is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # what Python says of an integer of more than 4,300 digits
        raise ValueError("a number has too many digits") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    if "\\u" in line:
        _check_characters(row)
    return row


def _check_characters(row: dict[str, Any]) -> None:
    """Refuse one half of a surrogate pair without the other: such text can be neither saved nor tokenised."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"{half} is half a character; write the whole one, or leave it out") from None
