"""The versions that constraints*.txt pin, against `known_vulnerabilities.toml`; as a script, prints what is wrong with them."""

import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
KEYS = {"package", "id", "affected"}


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def pinned() -> list[tuple[str, str, str]]:
    """File, package and version of every pin."""
    return [
        (path.name, canonicalize_name(each.name), next(iter(each.specifier)).version)
        for path in sorted(ROOT.glob("constraints*.txt"))
        for each in requirements(path.read_text(encoding="utf-8"))
    ]


def known_vulnerabilities() -> list[dict[str, Any]]:
    return tomllib.loads((ROOT / "known_vulnerabilities.toml").read_text(encoding="utf-8"))["vulnerability"]


def complaints(pins: Iterable[tuple[str, str, str]], vulnerabilities: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What is wrong: affected pins without a reason, reasons without an affected pin, entries that say too little."""
    pins = list(pins)
    for known in vulnerabilities:
        name = f"{known.get('package')} {known.get('id')}"
        if not KEYS <= known.keys() <= KEYS | {"untouched"}:
            yield f"{name}: an entry has {', '.join(sorted(KEYS))}, and may have untouched"
            continue
        versions = SpecifierSet(known["affected"])
        package = canonicalize_name(known["package"])
        affected = [pin for pin in pins if pin[1] == package and versions.contains(pin[2], prereleases=True)]
        reason = known.get("untouched", "").strip()
        if affected and not reason:
            where = f"{affected[0][2]} in {affected[0][0]}"
            yield f"{name} affects {where}; pin another version, or say in untouched why it is out of reach"
        if "untouched" in known and not affected:
            yield f"{name} affects no pinned version any more; take its untouched out"


if __name__ == "__main__":
    found = list(complaints(pinned(), known_vulnerabilities()))
    print("\n".join(found), end="\n" if found else "")
    sys.exit(len(found) > 0)
