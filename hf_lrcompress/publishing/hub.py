"""The final model on the Hugging Face Hub, in one commit."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import get_session, hf_raise_for_status, validate_repo_id

from hf_lrcompress.files import json_hash
from hf_lrcompress.messages import one_line
from hf_lrcompress.models.loading import OWN_CODE_TAG
from hf_lrcompress.publishing.hub_access import check_write_access
from hf_lrcompress.publishing.hub_errors import one_line_errors
from hf_lrcompress.publishing.hub_files import PUBLISHED, files_to_publish, linked_files
from hf_lrcompress.publishing.licence import LICENSE_KEYS
from hf_lrcompress.publishing.metadata import FINGERPRINT

logger = logging.getLogger(__name__)

EVAL_RESULTS_FILE = ".eval_results/hf_lrcompress.yaml"
CARD_HASH = "hf_lrcompress_card"
"""Key of a published card: the hash of all else in it, by which a card that was changed on the Hub is known."""
LOCAL_ID = 'model_id = "."  # the directory of this card'


@dataclass(frozen=True)
class Publish:
    """Where a model goes on the Hub.

    Args:
        hub_model_id (`str`): `ORG/NAME` or `USER/NAME`.
        public (`bool`, *optional*, defaults to `False`): Whether a repository that does not exist yet is made public.
        hub_revision (`str`, *optional*, defaults to `"main"`): Branch to commit to; made from `main` where it does not exist.
        overwrite (`bool`, *optional*, defaults to `False`): Replace what another run, or a person, has put there.

    Raises:
        ValueError: If the Hub would refuse the name.
    """

    hub_model_id: str
    public: bool = False
    hub_revision: str = "main"
    overwrite: bool = False

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.hub_model_id)
        except HFValidationError as error:
            raise ValueError(f"the Hub refuses the name {self.hub_model_id!r}: {error}") from error
        if "/" not in self.hub_model_id:
            raise ValueError(f"{self.hub_model_id!r} does not say whose it is; give ORG/NAME or USER/NAME")

    def check(self, fingerprint: str) -> None:
        """Ask the Hub whether a run may be published; changes nothing there.

        Args:
            fingerprint (`str`): Fingerprint of the run, as `report.json` has it.

        Raises:
            ValueError: If there is no token, it may not write there, or the repository holds something else.
            OSError: If the Hub refuses or cannot be reached.
        """
        if get_token() is None:
            raise ValueError("there is no Hugging Face token; log in with hf auth login or set HF_TOKEN")
        api = HfApi()
        with one_line_errors("asking the Hub"):
            check_write_access(api.whoami(), self.hub_model_id)
            info = self._repository(api)
            if info:
                self._check_contents(api, info, fingerprint)

    def run(self, model_dir: Path, fingerprint: str, license: Mapping[str, Any], eval_results: str = "") -> str:
        """Publish a directory in one commit: the repository has all of it afterwards, or has not changed.

        Large files are uploaded before the commit; after a failure those that arrived are not uploaded again.

        Args:
            model_dir (`Path`): The final model, its tokenizer, card and figures.
            fingerprint (`str`): Fingerprint of the run, as `report.json` has it.
            license (`Mapping`): `license`, `license_name` and `license_link` for the card.
            eval_results (`str`, *optional*): Scores on registered benchmarks, as [`render_eval_results`] writes them.

        Returns:
            `str`: URL of the commit.

        Raises:
            ValueError, OSError: As [`Publish.check`]; or if a file would not be published whole, or the Hub refuses the card.
        """
        self.check(fingerprint)
        api = HfApi()
        additions = self._additions(model_dir, license)
        if eval_results:
            additions.append(CommitOperationAdd(EVAL_RESULTS_FILE, eval_results.encode()))
        with one_line_errors(f"publishing {self.hub_model_id}"):
            _check_card(api, additions[0])
            api.create_repo(self.hub_model_id, private=not self.public, exist_ok=True)
            if self.hub_revision != "main":
                api.create_branch(self.hub_model_id, branch=self.hub_revision, exist_ok=True)
            info = api.model_info(self.hub_model_id, revision=self.hub_revision)
            self._check_contents(api, info, fingerprint)
            self._check_card_there(api, info, additions[0])
            self._say_what_stays(info, additions)
            commit = api.create_commit(
                self.hub_model_id,
                [*additions, *self._deletions(info, additions)],
                commit_message=f"Model of run {fingerprint}",
                revision=self.hub_revision,
                parent_commit=info.sha,
            )
        return commit.commit_url

    def _repository(self, api: HfApi) -> ModelInfo | None:
        """What is there at the branch, or at `main`, which a new branch starts from; `None` if there is no repository."""
        try:
            return api.model_info(self.hub_model_id, revision=self.hub_revision)
        except RevisionNotFoundError:
            return api.model_info(self.hub_model_id)
        except RepositoryNotFoundError:
            return None

    def _check_contents(self, api: HfApi, info: ModelInfo, fingerprint: str) -> None:
        """Refuse a repository that holds something else, or that everybody sees while `public` was not asked for."""
        if not (info.private or self.public):
            raise ValueError(f"{self.hub_model_id} is a public repository; set `public`, or give another `hub_model_id`")
        if self.overwrite or not _files(info):
            return
        there = self._fingerprint_there(api, info)
        if there != fingerprint:
            whose = f"run {there}" if there else "no run of hf_lrcompress"
            raise ValueError(
                f"{self.hub_model_id} holds files of {whose}, not of run {fingerprint}; "
                "give another `hub_model_id`, or replace them by hf-lrcompress publish with `overwrite`"
            )

    def _fingerprint_there(self, api: HfApi, info: ModelInfo) -> str | None:
        """Fingerprint of the run whose model the repository holds; `None` if its card names no run, or if it has no card."""
        card = self._card_there(api, info)
        return card.data.get(FINGERPRINT) if card else None

    def _card_there(self, api: HfApi, info: ModelInfo) -> ModelCard | None:
        if "README.md" not in _files(info):
            return None
        path = api.hf_hub_download(self.hub_model_id, "README.md", revision=info.sha)
        return ModelCard.load(path, ignore_metadata_errors=True)

    def _check_card_there(self, api: HfApi, info: ModelInfo, ours: CommitOperationAdd) -> None:
        """Refuse to replace a card that was changed on the Hub since it was published."""
        there = None if self.overwrite else self._card_there(api, info)
        if there is None:
            return
        if _card_hash(there) not in (there.data.get(CARD_HASH), _card_hash(ModelCard(_text_of(ours)))):
            raise ValueError(
                f"the card of {self.hub_model_id} was changed there; put it in the place of the model's README.md to keep it, "
                "or replace it by hf-lrcompress publish with `overwrite`"
            )

    def _additions(self, model_dir: Path, license: Mapping[str, Any]) -> list[CommitOperationAdd]:
        card_path = model_dir / "README.md"
        card = _read_card(card_path) if card_path.is_file() else None
        own_code = card is not None and OWN_CODE_TAG in (card.data.get("tags") or ())
        paths = set(files_to_publish(model_dir, (*PUBLISHED, ".py") if own_code else PUBLISHED))
        if not any(path.suffix == ".safetensors" and path.parent == model_dir for path in paths):
            raise ValueError(f"{model_dir} has no weights as safetensors")
        if card is None:
            raise ValueError(f"{model_dir} has no card; put README.md back, or delete the directory and start the run again")
        for key in LICENSE_KEYS:
            if key in license:
                card.data[key] = license[key]
            else:
                card.data.pop(key, None)  # of the licence that is replaced
        paths |= set(linked_files(card, model_dir))
        card.text = card.text.replace(LOCAL_ID, f'model_id = "{self.hub_model_id}"')
        card.data[CARD_HASH] = _card_hash(card)
        others = [CommitOperationAdd(path.relative_to(model_dir).as_posix(), path) for path in sorted(paths - {card_path})]
        return [CommitOperationAdd("README.md", str(card).encode()), *others]

    def _say_what_stays(self, info: ModelInfo, additions: Sequence[CommitOperationAdd]) -> None:
        """Warn of what a user may not expect to find there."""
        if self.public and info.private:
            logger.warning("%s is private and stays so; its settings on the Hub can change that", self.hub_model_id)
        others = sorted(_files(info) - {operation.path_in_repo for operation in additions} - {EVAL_RESULTS_FILE})
        if others and not self.overwrite:
            said = "%s keeps what this model has not, hf-lrcompress publish with `overwrite` removes it: %s"
            logger.warning(said, self.hub_model_id, ", ".join(others))

    def _deletions(self, info: ModelInfo, additions: Sequence[CommitOperationAdd]) -> list[CommitOperationDelete]:
        """Of what is in the repository all that is not replaced, if it is to be overwritten."""
        if not self.overwrite:
            return []
        ours = {operation.path_in_repo for operation in additions}
        return [CommitOperationDelete(path) for path in sorted(_files(info) - ours)]


def _read_card(path: Path) -> ModelCard:
    """A card, which somebody may have written.

    Raises:
        ValueError: If its header is no valid YAML, or has tags that are no list.
    """
    try:
        card = ModelCard.load(path)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(f"the header of {path} is not valid: {one_line(error)}; mend it") from error
    if not isinstance(card.data.get("tags"), list | None):
        raise ValueError(f"the header of {path} has tags that are no list; mend it")
    return card


def _text_of(card: CommitOperationAdd) -> str:
    with card.as_file() as file:
        return file.read().decode()


def _card_hash(card: ModelCard) -> str:
    """Hash of what a card says, however its header is laid out."""
    header = {key: value for key, value in card.data.to_dict().items() if key != CARD_HASH}
    return json_hash([header, card.text])[:16]


def _check_card(api: HfApi, card: CommitOperationAdd) -> None:
    """Raise if the Hub would refuse a card, before anything is made there. The client itself asks only when it commits."""
    question = {"content": _text_of(card), "repoType": "model"}
    answer = get_session().post(f"{api.endpoint}/api/validate-yaml", json=question)
    if answer.status_code == 400:
        said = "; ".join(error["message"] for error in answer.json()["errors"])
        raise ValueError(f"the Hub refuses the card: {said}")
    hf_raise_for_status(answer)


def _files(info: ModelInfo) -> set[str]:
    """What is in a repository besides what the Hub puts into every new one."""
    return {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
