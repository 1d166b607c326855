"""`make test-lowest` installs what setup.cfg promises, and no pinned version has a known vulnerability that can be reached."""

import configparser

import pytest
from packaging.version import Version
from pinned_versions import ROOT, complaints, known_vulnerabilities, pinned, requirements

KNOWN = {"package": "Some_Package", "id": "CVE-1", "affected": ">=1,<2.5"}
REASON = {"untouched": "nothing here calls it"}
PIN = ("constraints.txt", "some-package", "2.4rc1")


def test_the_lowest_constraints_are_the_lower_bounds_but_for_torch():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = requirements(setup["options"]["install_requires"])
    extras = setup["options.extras_require"]
    needed += [each for extra in ("eval", "energy", "figures", "test") for each in requirements(extras[extra])]
    bounds = {each.name: s.version for each in needed for s in each.specifier if s.operator == ">="}
    lowest = requirements((ROOT / "constraints-lowest.txt").read_text())
    pins = {each.name: next(iter(each.specifier)).version for each in lowest}
    assert pins.keys() == bounds.keys()
    assert [name for name in pins if Version(pins[name]) != Version(bounds[name])] == ["torch"]


def test_no_pinned_version_has_a_known_vulnerability_that_can_be_reached():
    assert list(complaints(pinned(), known_vulnerabilities())) == []


@pytest.mark.parametrize(
    ("pins", "known", "complaint"),
    [
        ([PIN], KNOWN, "Some_Package CVE-1 affects 2.4rc1 in constraints.txt; pin another version"),
        ([PIN], KNOWN | {"untouched": " "}, "affects 2.4rc1"),
        ([PIN], KNOWN | REASON, None),
        ([("constraints.txt", "some-package", "2.5")], KNOWN, None),
        (
            [("constraints.txt", "some-package", "2.5")],
            KNOWN | REASON,
            "affects no pinned version any more; take its untouched out",
        ),
        ([], KNOWN, None),
        ([PIN], {"package": "Some_Package", "id": "CVE-1"}, "an entry has affected, id, package"),
        ([PIN], KNOWN | {"ignore": True}, "an entry has affected, id, package"),
    ],
)
def test_an_affected_version_needs_a_reason_and_a_reason_an_affected_version(pins, known, complaint):
    found = list(complaints(pins, [known]))
    assert (complaint is None) == (not found)
    assert complaint is None or complaint in found[0]


def test_a_pin_that_goes_back_to_a_known_vulnerability_is_refused():
    pins = [(file, name, "2.9.1" if name == "torch" else version) for file, name, version in pinned()]
    assert any("torch CVE-2026-24747 affects 2.9.1" in each for each in complaints(pins, known_vulnerabilities()))
