"""The model card, made from a run's records alone."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from hf_lrcompress.configuration import RunConfig
from hf_lrcompress.demo import DEMO_NOTICE


def render_model_card(
    config: RunConfig, rows: Sequence[Mapping[str, Any]], table: str, version: str, environment: Mapping[str, str]
) -> str:
    """The card of a run as Markdown with a metadata header.

    Args:
        config ([`RunConfig`]): The run's settings.
        rows (`Sequence[Mapping]`): One row a stage, the first the teacher's, the last the final model's.
        table (`str`): The rows as a Markdown table.
        version (`str`): Of this package.
        environment (`Mapping`): Versions and machine of the run.
    """
    teacher, final = rows[0], rows[-1]
    base_model = {"base_model": config.teacher_name} if "/" in config.teacher_name else {}
    metadata = ModelCardData(
        language=config.language.tag,
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["hf_lrcompress", "model-compression"],
        **base_model,
    )
    template = files("hf_lrcompress").joinpath("templates/model_card.md").read_text(encoding="utf-8")
    return (
        Environment(undefined=StrictUndefined, keep_trailing_newline=True)
        .from_string(template)
        .render(
            metadata=metadata.to_yaml(),
            title=f"{config.teacher_name.rstrip('/').rpartition('/')[2]} compressed to {config.language.name}",
            notice=DEMO_NOTICE if config.machine_written else None,
            language_name=config.language.name,
            parameters=final["parameters"],
            teacher=config.teacher_name,
            teacher_parameters=teacher["parameters"],
            version=version,
            table=table,
            masked_tokens=final["masked_tokens"],
            stages=", ".join(row["stage"] for row in rows[1:]),
            settings=yaml.safe_dump(_without_paths(config.to_mapping()), sort_keys=False, allow_unicode=True),
            environment=", ".join(f"{name} {value}" for name, value in environment.items()),
        )
    )


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the names of local files instead of where they lie on this machine."""
    for name in ("train", "validation"):
        if isinstance(settings[name], dict):
            settings[name] = settings[name] | {"files": [Path(file).name for file in settings[name]["files"]]}
    return settings | {"teacher": Path(settings["teacher"]).name} if Path(settings["teacher"]).is_dir() else settings
