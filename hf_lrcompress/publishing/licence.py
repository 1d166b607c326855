"""Licences: what the teacher's card states, and what it allows."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.repocard import metadata_load

from hf_lrcompress.demo.texts import DEMO_TEACHER_LICENSE
from hf_lrcompress.messages import one_line
from hf_lrcompress.publishing.hub_errors import one_line_errors
from hf_lrcompress.run.configuration import DEMO, RunConfig
from hf_lrcompress.run.licences import check_license_name

logger = logging.getLogger(__name__)

LICENSE_KEYS = ("license", "license_name", "license_link")
NO_DERIVATIVES = re.compile(r"\bnd\b|no[ -]?deriv", re.IGNORECASE)
"""How licences say that nothing may be made of a work: `cc-by-nd-4.0`, `CC BY-NC-ND 4.0`, `NoDerivatives`."""


def teacher_license(config: RunConfig) -> dict[str, Any]:
    """What the teacher's card states of its licence: `license`, and `license_name` and `license_link` where they are stated.

    Empty where the teacher has no card or its card names no licence, and where a machine that is offline has no copy of the card.

    Args:
        config ([`RunConfig`]): The run; its teacher may be on the Hub.

    Raises:
        ValueError: If the card of a local teacher has a header that is not YAML, or a licence that is no text.
        OSError: If the Hub refuses.
    """
    if config.teacher == DEMO:
        return {"license": DEMO_TEACHER_LICENSE}
    if config.base_model is None:
        card = Path(config.teacher) / "README.md"
        return _read(card) if card.is_file() else {}
    try:
        return _on_hub(config.base_model, config.teacher_revision)
    except LocalEntryNotFoundError:
        return {}


def recorded_license(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the teacher's card states, see [`teacher_license`], as a run has recorded it.

    Where it recorded nothing of a teacher on the Hub it may have been offline: then the Hub is asked.

    Args:
        report (`Mapping`): What `report.json` holds.

    Raises:
        ValueError, OSError: As [`teacher_license`]; or if the Hub would have to be asked and cannot be.
    """
    stated = stated_license(report["stages"][0])
    teacher = report["base_model"]
    if stated or teacher is None:
        return stated
    try:
        return _on_hub(teacher, report["settings"].get("teacher_revision"))
    except LocalEntryNotFoundError as error:
        asked = f"the Hugging Face Hub cannot be asked for the licence of {teacher}"
        raise OSError(f"{asked}; publish when it can be reached") from error


def _on_hub(teacher: str, revision: str | None) -> dict[str, Any]:
    """What a card on the Hub states.

    Raises:
        LocalEntryNotFoundError: If the Hub cannot be asked, and the card has not been downloaded before.
    """
    with one_line_errors(f"reading the card of {teacher}", but=LocalEntryNotFoundError):
        try:
            card = hf_hub_download(teacher, "README.md", revision=revision)
        except LocalEntryNotFoundError:  # a kind of the next one, though the card may exist
            raise
        except EntryNotFoundError:
            return {}
    stated = _read(Path(card))
    link = stated.get("license_link")
    if link and "://" not in link:  # a file beside that card
        stated["license_link"] = hf_hub_url(teacher, link, revision=revision)
    return stated


def _read(card: Path) -> dict[str, Any]:
    """What the header of a card states.

    Raises:
        ValueError: If it is not YAML, or a licence is no text.
    """
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


def license_of(report: Mapping[str, Any], stated: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The licence of a run's model: the one its configuration gives, otherwise the teacher's.

    Args:
        report (`Mapping`): What `report.json` holds.
        stated (`Mapping`, *optional*): What the teacher's card states, if the report does not say it.
    """
    if report["settings"].get("license"):
        return {"license": report["settings"]["license"]}
    return dict(stated) if stated is not None else stated_license(report["stages"][0])


def check_license(license: Mapping[str, Any], teacher_license: Mapping[str, Any], teacher: str) -> None:
    """Refuse to publish what a licence forbids, or what has none; say it where the model's is not the teacher's.

    Args:
        license (`Mapping`): Licence of the model to publish, as [`license_of`] gives it.
        teacher_license (`Mapping`): What the teacher's card states.
        teacher (`str`): Name of the teacher.

    Raises:
        ValueError: If the teacher's licence forbids derivatives, or no licence that the Hub knows is stated.
    """
    own_name = teacher_license.get("license_name") or ""
    for name in (*_names(teacher_license), str(own_name)):
        if NO_DERIVATIVES.search(name):
            raise ValueError(f"the licence of {teacher}, {name}, forbids derivatives: a compressed model may not be published")
    if not _names(license):
        raise ValueError(f"the card of {teacher} states no licence; find out which it is and give it as `license`, such as mit")
    for name in _names(license):
        check_license_name(name)
    stated = _names(teacher_license)
    if stated and stated != _names(license):
        given = ", ".join(_names(license))
        logger.warning(
            "the card of %s states the licence %s, and the model is published under %s", teacher, ", ".join(stated), given
        )


def _names(license: Mapping[str, Any]) -> list[str]:
    """The licences that a card's header states: one, several or none."""
    stated = license.get("license") or []
    return list(map(str, stated if isinstance(stated, list) else [stated]))
