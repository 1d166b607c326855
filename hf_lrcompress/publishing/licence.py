"""Licences: what the teacher's card states, and what it allows."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.repocard import metadata_load

from hf_lrcompress.demo.texts import DEMO_TEACHER_LICENSE
from hf_lrcompress.messages import one_line
from hf_lrcompress.run.configuration import DEMO, RunConfig
from hf_lrcompress.run.licences import check_license_name

LICENSE_KEYS = ("license", "license_name", "license_link")


def teacher_license(config: RunConfig) -> dict[str, Any]:
    """What the teacher's card says of its licence: `license`, and `license_name` and `license_link` where they are stated.

    Empty where the teacher has no card or its card names no licence.

    Args:
        config ([`RunConfig`]): The run; its teacher may be on the Hub.

    Raises:
        ValueError: If the card of a local teacher has a header that is not YAML, or a licence that is no text.
        OSError: If the Hub cannot be asked.
    """
    if config.teacher == DEMO:
        return {"license": DEMO_TEACHER_LICENSE}
    card = _teacher_card(config)
    if card is None:
        return {}
    try:
        stated = stated_license(metadata_load(card) or {})
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"the header of {card} is not valid YAML: {one_line(error)}; mend it or delete the file") from error
    for key, value in stated.items():
        names = value if isinstance(value, list) else [value or ""]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"the header of {card} has a {key} that is no text, nor a list of texts; mend it or delete the file")
    return stated


def stated_license(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `license`, `license_name` and `license_link` that a card's header, or a stage's row of the report, has.

    Args:
        facts (`Mapping`): The header or the row.
    """
    return {key: facts[key] for key in LICENSE_KEYS if key in facts}


def license_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The licence of a run's model: the one its configuration gives, otherwise the teacher's.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    if report["settings"].get("license"):
        return {"license": report["settings"]["license"]}
    return stated_license(report["stages"][0])


def check_license(license: Mapping[str, Any], teacher_license: Mapping[str, Any], teacher: str) -> None:
    """Refuse to publish what a licence forbids, or what has none.

    Args:
        license (`Mapping`): Licence of the model to publish, as [`license_of`] gives it.
        teacher_license (`Mapping`): What the teacher's card states.
        teacher (`str`): Name of the teacher.

    Raises:
        ValueError: If the teacher's licence forbids derivatives, or no licence that the Hub knows is stated.
    """
    own_name = teacher_license.get("license_name") or ""
    for name in (*_names(teacher_license), str(own_name)):
        if re.search(r"-nd\b", name):
            raise ValueError(f"the licence of {teacher}, {name}, forbids derivatives: a compressed model may not be published")
    if not _names(license):
        raise ValueError(f"the card of {teacher} states no licence; find out which it is and give it as `license`, such as mit")
    for name in _names(license):
        check_license_name(name)


def _names(license: Mapping[str, Any]) -> list[str]:
    """The licences that a card's header states: one, several or none."""
    stated = license.get("license") or []
    return list(map(str, stated if isinstance(stated, list) else [stated]))


def _teacher_card(config: RunConfig) -> Path | None:
    """The file with the teacher's card; `None` if it has none, or if it is not in the cache of a machine that is offline."""
    if config.base_model is None:
        card = Path(config.teacher) / "README.md"
        return card if card.is_file() else None
    try:
        return Path(hf_hub_download(config.teacher, "README.md", revision=config.teacher_revision))
    except EntryNotFoundError:
        return None
