"""A local HTTP server that speaks the Hugging Face Hub's protocol as far as publishing models and loading models and data use it.

Repositories, branches, commits and large files are in memory. `fail(...)` makes it misbehave. The protocol is that of
https://huggingface.co/docs/hub/api and of the client's own source.
"""

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import langcodes
import yaml

from hf_lrcompress.run.licences import HUB_LICENSES

LARGE = (".safetensors", ".bin", ".png", ".model")
REPO = r"(?P<repo>(?:[\w.-]+/)?[\w.-]+)"
ANY = f"(?:models|datasets)/{REPO}"
REVISION = "(?P<revision>refs/convert/parquet|[^/]+)"


@dataclass
class File:
    content: bytes
    large: bool

    @property
    def etag(self) -> str:
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    private: bool
    gated: bool = False
    branches: dict[str, list[str]] = field(default_factory=dict)  # name → commits, oldest first
    commits: dict[str, dict[str, File]] = field(default_factory=dict)

    def add_commit(self, branch: str, files: dict[str, File]) -> str:
        sha = secrets.token_hex(20)  # no two are equal: clients keep what they have downloaded of a commit
        self.commits[sha] = files
        self.branches.setdefault(branch, []).append(sha)
        return sha

    def sha(self, revision: str) -> str | None:
        return self.branches[revision][-1] if revision in self.branches else revision if revision in self.commits else None


@dataclass
class Failure:
    method: str
    path: str
    status: int | None  # None: cut the connection
    times: int
    seconds: float


class Answer(Exception):
    """An HTTP answer that ends the request."""

    def __init__(self, status: int, body=b"", **headers: str):
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class HubServer(ThreadingHTTPServer):
    """`tokens` says who may do what: token → (user, role, organisations)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens = {"hf_write": ("jana", "write", ["lab"]), "hf_read": ("jana", "read", ["lab"])}
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.failures: list[Failure] = []
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that is gone is no error here."""

    def fail(self, method: str, path: str, status: int | None, times: int = 1, seconds: float = 0.0) -> None:
        """Answer the next `times` requests of a kind with `status`, or cut their connection, after some seconds."""
        self.failures.append(Failure(method, path, status, times, seconds))

    def add(self, repo: str, files: dict[str, bytes], private: bool = False, gated: bool = False) -> Repository:
        """Make a repository, with one commit."""
        made = self.repositories[repo] = Repository(private, gated)
        made.add_commit("main", {path: File(content, path.endswith(LARGE)) for path, content in files.items()})
        self.large_files |= {file.etag: file.content for file in made.commits[made.sha("main")].values() if file.large}
        return made

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[repo]
        return {path: file.content for path, file in repository.commits[repository.sha(revision)].items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        self.route = unquote(urlsplit(self.path).path)
        try:
            self.misbehave()
            length = int(self.headers.get("Content-Length", 0))
            self.content = self.rfile.read(length)
            if len(self.content) < length:  # the client is gone
                self.close_connection = True
                return
            for method, pattern, action in ROUTES:
                match = re.fullmatch(pattern, self.route)
                if match and self.command in method:
                    with self.server.lock:
                        action(self, **match.groupdict())
            raise Answer(404)
        except Answer as answer:
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    def misbehave(self) -> None:
        for failure in self.server.failures:
            if failure.times and failure.method == self.command and re.search(failure.path, self.route):
                failure.times -= 1
                length = int(self.headers.get("Content-Length", 0))
                self.rfile.read(length if failure.status else length // 2)
                time.sleep(failure.seconds)
                if failure.status is None:
                    self.close_connection = True
                    self.connection.close()
                    raise ConnectionAbortedError
                raise Answer(failure.status, {"error": "on purpose"}, X_Error_Message="on purpose")

    # what the routes need

    def json(self) -> dict:
        return json.loads(self.content)

    def user(self) -> tuple[str, str, list[str]] | None:
        return self.server.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def readable(self, repo: str) -> Repository:
        repository, user = self.server.repositories.get(repo), self.user()
        if repository is None or (repository.private and not self.may(user, repo)):
            raise Answer(404 if user else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return repository

    def writable(self, repo: str) -> Repository:
        if not (self.may(self.user(), repo) and self.user()[1] == "write"):
            raise Answer(403 if self.user() else 401, {"error": "no"}, X_Error_Message="no write access")
        return self.readable(repo)

    @staticmethod
    def may(user, repo: str) -> bool:
        return user is not None and repo.split("/")[0] in (user[0], *user[2])

    def revision(self, repo: str, revision: str) -> tuple[str, dict[str, File]]:
        repository = self.readable(repo)
        sha = repository.sha(revision)
        if sha is None:
            raise Answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return sha, repository.commits[sha]

    # the routes

    def whoami(self) -> None:
        if self.user() is None:
            raise Answer(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials in Authorization header")
        name, role, orgs = self.user()
        token = {"displayName": "test", "role": role}
        if role == "write:lab/only":
            scope = {"entity": {"type": "model", "name": "lab/only"}, "permissions": ["repo.content.read", "repo.write"]}
            token |= {"role": "fineGrained", "fineGrained": {"scoped": [scope]}}
        auth = {"type": "access_token", "accessToken": token}
        raise Answer(200, {"type": "user", "name": name, "orgs": [{"type": "org", "name": org} for org in orgs], "auth": auth})

    def validate_yaml(self) -> None:
        is_json = self.headers["Content-Type"].startswith("application/json")
        text = self.json()["content"] if is_json else parse_qs(self.content.decode())["content"][0]
        errors = card_errors(text)
        raise Answer(400 if errors else 200, {"errors": [{"message": error} for error in errors], "warnings": []})

    def create(self) -> None:
        wanted, user = self.json(), self.user()
        repo = f"{wanted.get('organization') or user[0]}/{wanted['name']}"
        if not (self.may(user, repo) and user[1] == "write"):
            raise Answer(403 if user else 401, {"error": "no"}, X_Error_Message="no write access")
        if repo in self.server.repositories:
            raise Answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{repo}"})
        private = wanted.get("private", False) or wanted.get("visibility") == "private"  # huggingface_hub 2 says visibility
        self.server.add(repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        raise Answer(200, {"url": f"{self.server.url}/{repo}", "name": repo})

    def branch(self, repo: str, branch: str) -> None:
        repository = self.writable(repo)
        if branch in repository.branches:
            raise Answer(409, {"error": "Reference already exists"})
        repository.branches[branch] = [repository.sha("main")]
        raise Answer(200, {})

    def info(self, repo: str, revision: str = "main") -> None:
        sha, files = self.revision(repo, revision)
        siblings = [{"rfilename": path} for path in sorted(files)]
        private = self.server.repositories[repo].private
        raise Answer(200, {"id": repo, "modelId": repo, "sha": sha, "private": private, "tags": [], "siblings": siblings})

    def tree(self, repo: str, revision: str, folder: str | None = None) -> None:
        files = self.revision(repo, revision)[1]
        start = f"{folder}/" if folder else ""
        if not any(path.startswith(start) for path in files):
            raise Answer(404, {"error": "no such folder"}, X_Error_Code="EntryNotFound")
        whole = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        parents = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
        below = [entry(path, files) for path in sorted([*files, *parents]) if path.startswith(start)]
        raise Answer(200, [found for found in below if whole or "/" not in found["path"].removeprefix(start)])

    def paths_info(self, repo: str, revision: str) -> None:
        files = self.revision(repo, revision)[1]
        wanted = self.json() if self.headers["Content-Type"].startswith("application/json") else parse_qs(self.content.decode())
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        raise Answer(200, [entry(path, files) for path in wanted["paths"] if path in files or path in folders])

    def preupload(self, repo: str, revision: str) -> None:
        self.writable(repo)
        files = self.revision(repo, revision)[1]
        modes = []
        for file in self.json()["files"]:
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            oid = files[file["path"]].etag if file["path"] in files else None
            modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise Answer(200, {"files": modes})

    def lfs_batch(self, repo: str) -> None:
        self.writable(repo)
        objects = []
        for wanted in self.json()["objects"]:
            url = f"{self.server.url}/lfs/{wanted['oid']}"
            actions = {} if wanted["oid"] in self.server.large_files else {"actions": {"upload": {"href": url, "header": {}}}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.content).hexdigest() != oid:
            raise Answer(400, {"error": "not what was announced"})
        self.server.large_files[oid] = self.content
        self.server.uploads.append(oid)
        raise Answer(200, ETag=f'"{oid}"')

    def commit(self, repo: str, revision: str) -> None:
        repository = self.writable(repo)
        sha, files = self.revision(repo, revision)
        files = dict(files)
        for line in map(json.loads, self.content.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", sha) != sha:
                raise Answer(412, {"error": "A commit has happened since"})
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), large=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.large_files:
                    raise Answer(400, {"error": "the large file was not uploaded"})
                files[value["path"]] = File(self.server.large_files[value["oid"]], large=True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.add_commit(revision, files)
        raise Answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{sha}", "commitOid": sha})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        if self.readable(repo).gated and not self.may(self.user(), repo):
            raise Answer(403 if self.user() else 401, {"error": "Access is restricted"}, X_Error_Code="GatedRepo")
        sha, files = self.revision(repo, revision)
        if path not in files:
            raise Answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        file = files[path]
        headers = {"X_Repo_Commit": sha, "ETag": f'"{file.etag}"'}
        if file.large:
            headers |= {"X_Linked_ETag": f'"{file.etag}"', "X_Linked_Size": str(len(file.content))}
            # Another host than the Hub's, as there: within a host, huggingface_hub 2 follows before it reads the headers.
            raise Answer(302, Location=f"http://localhost:{self.server.server_port}/cdn/{file.etag}", **headers)
        raise Answer(200, file.content, **headers)

    def cdn(self, oid: str) -> None:
        raise Answer(200, self.server.large_files[oid], ETag=f'"{oid}"')


ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("POST", "/api/repos/create", Handler.create),
    ("GET", f"/api/{ANY}", Handler.info),
    ("GET", f"/api/{ANY}/revision/(?P<revision>.+)", Handler.info),
    ("GET", f"/api/{ANY}/tree/{REVISION}(?:/(?P<folder>.+))?", Handler.tree),
    ("POST", f"/api/{ANY}/paths-info/{REVISION}", Handler.paths_info),
    ("POST", f"/api/models/{REPO}/branch/(?P<branch>.+)", Handler.branch),
    ("POST", f"/api/models/{REPO}/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", f"/api/models/{REPO}/commit/(?P<revision>.+)", Handler.commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_upload),
    ("GET HEAD", f"/(?:datasets/)?{REPO}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
    ("GET HEAD", "/cdn/(?P<oid>[0-9a-f]{64})", Handler.cdn),
]


def entry(path: str, files: dict[str, File]) -> dict:
    if path not in files:
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
    return {"type": "file", "path": path, "oid": files[path].etag, "size": len(files[path].content)}


def card_errors(text: str) -> list[str]:
    """What the Hub's check of a card's header would find, as far as our cards go."""
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        card = yaml.safe_load(header[1]) if header else {}
    except yaml.YAMLError as error:
        return [f"YAML metadata: {error}"]
    errors = []
    for license in listed(card.get("license", "mit")):
        if license not in HUB_LICENSES:
            errors.append(f'"license" must be one of {sorted(HUB_LICENSES)}')
    for code in listed(card.get("language", "en")):
        if not (re.fullmatch("[a-z]{2,3}", str(code)) and langcodes.get(code).is_valid()):
            may = 'an ISO 639-1, 639-2 or 639-3 code (two/three letters), or a special value like "code", "multilingual"'
            advice = "If you want to use BCP-47 identifiers, you can specify them in language_bcp47."
            errors.append(f'"language" with value "{code}" is not valid. It must be {may}. {advice}')
    for key in ("base_model", *(f"datasets.{i}" for i in range(len(card.get("datasets", []))))):
        value = card["datasets"][int(key.split(".")[1])] if "." in key else card.get(key, "a/b")
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", value):
            errors.append(f'"{key}" with value "{value}" is not valid; use a model or data set id')
    if card.get("base_model_relation", "finetune") not in ("finetune", "adapter", "merge", "quantized"):
        errors.append('"base_model_relation" is not one that there is')
    required = [path for i, model in enumerate(card.get("model-index", [])) for path in required_of(model, f"model-index[{i}]")]
    return errors + [f'"{path}" is required' for path, value in required if value in (None, "", [])]


def listed(value: Any) -> list:
    """What may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def required_of(model: dict, path: str) -> Iterator[tuple[str, Any]]:
    """What a model of `model-index` must have, and what it has."""
    yield f"{path}.name", model.get("name")
    yield f"{path}.results", model.get("results")
    for i, result in enumerate(model.get("results", ())):
        here = f"{path}.results[{i}]"
        yield f"{here}.task.type", result.get("task", {}).get("type")
        for key in ("type", "name"):
            yield f"{here}.dataset.{key}", result.get("dataset", {}).get(key)
        yield f"{here}.metrics", result.get("metrics")
        for j, metric in enumerate(result.get("metrics", ())):
            for key in ("type", "value"):
                yield f"{here}.metrics[{j}].{key}", metric.get(key)
