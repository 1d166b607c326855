"""`make test-lowest` installs what setup.cfg promises."""

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_lowest_constraints_are_the_lower_bounds_but_for_torch():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = requirements(setup["options"]["install_requires"])
    needed += [each for extra in ("eval", "energy", "test") for each in requirements(setup["options.extras_require"][extra])]
    bounds = {each.name: s.version for each in needed for s in each.specifier if s.operator == ">="}
    lowest = requirements((ROOT / "constraints-lowest.txt").read_text())
    pins = {each.name: next(iter(each.specifier)).version for each in lowest}
    assert pins.keys() == bounds.keys()
    assert [name for name in pins if Version(pins[name]) != Version(bounds[name])] == ["torch"]
