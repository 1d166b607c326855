"""Which model one is: a hash that changes when it does."""

import re
from pathlib import Path

from transformers.utils import CONFIG_NAME, cached_file, extract_commit_hash

from hf_lrcompress.files import file_hash, fingerprint
from hf_lrcompress.models.config_file import MODEL_FILES
from hf_lrcompress.models.sentence_modules import module_folders

MODEL_DIR = "model"
"""Where a run's model lies in its folder."""
REPORT_FILE = "report.json"
"""What a run leaves in its folder when it is complete."""
STAGE_RECORD = "stage.json"
"""What a stage leaves beside its model; it is no part of the model."""


def directory_name(directory: Path) -> str:
    """What a model in a directory is called: a run's as the run, a downloaded one by its Hub id, others as the directory.

    Args:
        directory (`Path`): Of the model.
    """
    directory = directory.resolve()
    if directory.name == MODEL_DIR and (directory.parent / REPORT_FILE).is_file():
        return directory.parent.name
    downloaded = re.fullmatch("models--(.+)", directory.parent.parent.name)
    if downloaded and directory.parent.name == "snapshots":
        return downloaded[1].replace("--", "/")
    return directory.name


def model_identity(name_or_dir: str, revision: str | None = None) -> str:
    """A hash that changes with a model: with the content of a directory's files, or with the commit of a repository.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        OSError: If there is no such model.
    """
    directory = Path(name_or_dir)
    if not directory.is_dir():
        return fingerprint([name_or_dir, hub_commit(name_or_dir, revision)])
    folders = [directory, *module_folders(directory)]
    files = [path for folder in folders for path in folder.iterdir() if path.suffix in MODEL_FILES and path.name != STAGE_RECORD]
    return fingerprint({path.relative_to(directory).as_posix(): file_hash(path) for path in files})


def hub_commit(hub_id: str, revision: str | None) -> str | None:
    """The commit of a model on the Hub: a config of transformers 5 does not say which it was read from."""
    return extract_commit_hash(cached_file(hub_id, CONFIG_NAME, revision=revision), None)
