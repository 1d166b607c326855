"""Stage: put the final model on the Hugging Face Hub, in one commit. It makes no model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id

from hf_lrcompress.models.loading import OWN_CODE_TAG

PUBLISHED = (".safetensors", ".json", ".txt", ".model", ".md", ".png")
FINGERPRINT = "hf_lrcompress_fingerprint"
EVAL_RESULTS_FILE = ".eval_results/hf_lrcompress.yaml"
LOCAL_ID = 'model_id = "."  # the directory of this card'
NETWORK_ERRORS = (*HfHubHTTPError.__bases__, OSError, RuntimeError)
"""Requests' or httpx's base class, as huggingface_hub has it; RuntimeError is what a failed upload of a large file raises."""
ADVICE = {
    401: "the token is not valid; log in again with hf auth login or set HF_TOKEN",
    403: "the token may not do this; make one that may write at https://huggingface.co/settings/tokens",
    409: "something else is changing the repository; try again",
    412: "somebody has changed the repository meanwhile; look at it and try again",
    429: "too many requests; try again in some minutes",
}


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

    def __post_init__(self):
        try:
            validate_repo_id(self.hub_model_id)
        except HFValidationError as error:
            raise ValueError(f"the Hub refuses the name {self.hub_model_id!r}: {error}") from error
        if "/" not in self.hub_model_id:
            raise ValueError(f"{self.hub_model_id!r} does not say whose it is; give ORG/NAME or USER/NAME")

    def check(self, fingerprint: str) -> None:
        """Ask the Hub whether a run may be published; changes nothing there.

        Args:
            fingerprint (`str`): Of the run.

        Raises:
            ValueError: If there is no token, it may not write there, or the repository holds something else.
            OSError: If the Hub refuses or cannot be reached.
        """
        if get_token() is None:
            raise ValueError("there is no Hugging Face token; log in with hf auth login or set HF_TOKEN")
        api = HfApi()
        with _in_one_line("asking the Hub"):
            _check_write_access(api.whoami(), self.hub_model_id)
            info = self._repository(api)
            if info:
                self._check_contents(api, info, fingerprint)

    def run(self, model_dir: Path, fingerprint: str, license: Mapping[str, Any], eval_results: str = "") -> str:
        """Publish a directory in one commit: the repository has all of it afterwards, or has not changed.

        Large files are uploaded before the commit; after a failure those that arrived are not uploaded again.

        Args:
            model_dir (`Path`): The final model, its tokenizer, card and figures.
            fingerprint (`str`): Of the run.
            license (`Mapping`): `license`, `license_name` and `license_link` for the card.
            eval_results (`str`, *optional*): What [`render_eval_results`] gives, to put beside the card.

        Returns:
            `str`: URL of the commit.

        Raises:
            ValueError, OSError: As [`Publish.check`]; or if a file would not be published whole.
        """
        self.check(fingerprint)
        api = HfApi()
        additions = self._additions(model_dir, license)
        if eval_results:
            additions.append(CommitOperationAdd(EVAL_RESULTS_FILE, eval_results.encode()))
        with _in_one_line(f"publishing {self.hub_model_id}"):
            api.create_repo(self.hub_model_id, private=not self.public, exist_ok=True)
            if self.hub_revision != "main":
                api.create_branch(self.hub_model_id, branch=self.hub_revision, exist_ok=True)
            info = api.model_info(self.hub_model_id, revision=self.hub_revision)
            self._check_contents(api, info, fingerprint)
            ours = {operation.path_in_repo for operation in additions}
            stale = [CommitOperationDelete(path) for path in sorted(_files(info) - ours)] if self.overwrite else []
            commit = api.create_commit(
                self.hub_model_id,
                [*additions, *stale],
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
            raise ValueError(f"{self.hub_model_id} is a public repository; say --public, or give another --hub_model_id")
        if self.overwrite or not _files(info):
            return
        there = None
        if "README.md" in _files(info):
            card = api.hf_hub_download(self.hub_model_id, "README.md", revision=info.sha)
            there = ModelCard.load(card, ignore_metadata_errors=True).data.get(FINGERPRINT)
        if there != fingerprint:
            whose = f"run {there}" if there else "no run of hf_lrcompress"
            raise ValueError(
                f"{self.hub_model_id} holds files of {whose}, not of run {fingerprint}; "
                "give another --hub_model_id, or --overwrite to replace them"
            )

    def _additions(self, model_dir: Path, license: Mapping[str, Any]) -> list[CommitOperationAdd]:
        card = ModelCard.load(model_dir / "README.md") if (model_dir / "README.md").is_file() else None
        kinds = (*PUBLISHED, ".py") if card and OWN_CODE_TAG in (card.data.tags or ()) else PUBLISHED
        paths = sorted(path for path in model_dir.iterdir() if path.suffix in kinds)
        if not any(path.suffix == ".safetensors" for path in paths):
            raise ValueError(f"{model_dir} has no weights as safetensors")
        if not card:
            raise ValueError(f"{model_dir} has no card; put README.md back, or delete the directory and start the run again")
        for key, value in license.items():
            card.data[key] = value
        text = str(card).replace(LOCAL_ID, f'model_id = "{self.hub_model_id}"')
        contents = {"README.md": text.encode()}
        return [CommitOperationAdd(path.name, contents.get(path.name, path)) for path in paths]


def render_eval_results(report: Mapping[str, Any], benchmarks: Mapping[str, str]) -> str:
    """The final model's scores on data sets that are registered benchmarks, as the Hub reads them from `.eval_results/*.yaml`.

    The format is that of https://huggingface.co/docs/hub/eval-results; values are those of the report, from 0 to 1.

    Args:
        report (`Mapping`): What `report.json` holds.
        benchmarks (`Mapping[str, str]`): Data set id → id of the task in the `eval.yaml` of the data set.

    Raises:
        ValueError: If the final model was not scored on one of the data sets.
    """
    final = report["stages"][-1]["stage"]
    scores = {score.get("dataset"): score for score in report.get("scores", ()) if score["model"] == final}
    entries = []
    for dataset, task in benchmarks.items():
        if dataset not in scores:
            there_are = ", ".join(filter(None, scores)) or "none"
            raise ValueError(f"the model of this run has no score on {dataset}; it has scores on: {there_are}")
        score = scores[dataset]
        runs = f"{score['metric']}, mean over seeds {', '.join(map(str, score['seeds']))}, tuning {score['tuning']}"
        notes = f"{runs}, fewer epochs than usual" if score["quick"] else runs
        entries.append({"dataset": {"id": dataset, "task_id": task}, "value": score["mean"], "notes": notes})
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True) if entries else ""


def _check_write_access(user: Mapping[str, Any], hub_model_id: str) -> None:
    """Raise if what `whoami` says of a token rules out that it may write to the repository."""
    owner = hub_model_id.split("/")[0]
    orgs = [org["name"] for org in user.get("orgs", ())]
    if owner not in (user["name"], *orgs):
        there_are = ", ".join([user["name"], *orgs])
        raise ValueError(f"{user['name']} is no member of {owner}; give --hub_model_id under one of: {there_are}")
    token = user.get("auth", {}).get("accessToken", {})
    scopes = token.get("fineGrained", {}).get("scoped", ())
    writable = {scope["entity"].get("name") for scope in scopes if "repo.write" in scope["permissions"]}
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not writable & {owner, hub_model_id}):
        raise ValueError(
            f"the token {token.get('displayName', '')!r} may not write to {hub_model_id}; "
            "make one that may at https://huggingface.co/settings/tokens"
        )


def _files(info: ModelInfo) -> set[str]:
    """What is in a repository besides what the Hub puts into every new one."""
    return {file.rfilename for file in info.siblings or ()} - {".gitattributes"}


@contextmanager
def _in_one_line(doing: str) -> Iterator[None]:
    """Say in one line what the Hub refused, instead of how the client found out."""
    try:
        yield
    except NETWORK_ERRORS as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        response = getattr(cause, "response", None)
        if response is None:
            raise OSError(f"{doing}: the Hub cannot be reached ({type(cause).__name__}); try again") from error
        said = response.headers.get("X-Error-Message") or getattr(cause, "server_message", None) or ""
        advice = ADVICE.get(response.status_code, "try again later" if response.status_code >= 500 else "it refuses this")
        raise OSError(f"{doing}: the Hub answered {response.status_code} {said}: {advice}") from error
