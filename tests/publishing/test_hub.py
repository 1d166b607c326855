"""Publishing and loading with the unpatched client, against a local server that speaks the Hub's protocol."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from hub_server import File, HubServer
from made_up_texts import make_texts
from own_code import ADD_ROW, CODE_FILES, with_own_code
from saved_teachers import save_teacher

from hf_lrcompress.commands.publish import not_of_the_run
from hf_lrcompress.publishing.hub import CARD_HASH, Publish
from hf_lrcompress.publishing.hub_errors import one_line_errors
from hf_lrcompress.publishing.licence import check_license

ROOT = Path(__file__).parent.parent.parent
REPO = "lab/tiny"
FAULTS = {
    "data.license = 'nonsense'": "license",
    "data.language = 'Slovak'": "language",
    "data.base_model = './teacher'": "base_model",
    "data.datasets = ['a/b/c']": "datasets",
    "data.model_name = ''": "model-index[0].name",
    "data.eval_results[0].task_type = ''": "model-index[0].results[0].task.type",
    "data.eval_results[0].dataset_type = None": "model-index[0].results[0].dataset.type",
    "data.eval_results[0].metric_value = None": "model-index[0].results[0].metrics[0].value",
}
"""What can be done to a card's metadata, and what the Hub's check then names."""


@pytest.fixture
def hub(server):
    """The server, with nothing in it."""
    server.repositories, server.large_files, server.uploads, server.failures = {}, {}, [], []
    server.tokens = {"hf_write": ("jana", "write", ["lab"]), "hf_read": ("jana", "read", ["lab"])}
    return server


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def environment(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return plain | {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder),
        "HF_TOKEN": "hf_write",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",  # the local server speaks the basic LFS transfer only
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture(scope="module")
def work(environment, tmp_path_factory):
    """Run a recipe, or code that leaves `result`, in a process that knows the local server as the Hub."""
    command = [sys.executable, str(ROOT / "tests" / "recipe_worker.py")]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    code_file = tmp_path_factory.mktemp("code") / "code.py"

    def work(*argv, code="", token="hf_write"):
        code_file.write_text(code, encoding="utf-8")
        script = str(ROOT / "recipes" / argv[0]) if argv else str(code_file)
        task = {"script": script, "argv": [str(word) for word in argv], "environment": {"HF_TOKEN": token}}
        worker.stdin.write(json.dumps(task) + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())

    yield work
    worker.stdin.close()
    worker.wait()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a teacher, texts and a configuration."""
    folder = tmp_path_factory.mktemp("inputs")
    save_teacher(folder / "teacher")
    (folder / "teacher" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    for name, count, seed in (("train", 300, 1), ("validation", 60, 2)):
        (folder / f"{name}.txt").write_text("\n".join(make_texts(count, seed)), encoding="utf-8")
    config = {
        "teacher": str(folder / "teacher"),
        "train": {"files": [str(folder / "train.txt")]},
        "validation": {"files": [str(folder / "validation.txt")]},
        "block_size": 32,
        "stages": ["trim_vocab", "prune_ffn"],
        "prune_ffn": {"intermediate_size": 20},
        "trim_vocab": {"vocab_size": 300},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def compress(work, inputs):
    def compress(output_dir, *arguments, **keywords):
        config = inputs / "tiny.yaml"
        return work("compress.py", "--lang", "sk", "--config", config, "--output_dir", output_dir, *arguments, **keywords)

    return compress


@pytest.fixture(scope="module")
def finished(compress, tmp_path_factory):
    """A complete run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert compress(run)["code"] == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the complete run that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def assert_error(answer, *messages, code=2):
    """One line that says what is wrong."""
    lines = [line for line in answer["err"].splitlines() if line.startswith("error: ")]
    assert answer["code"] == code and len(lines) == 1 and "Traceback" not in answer["err"], answer
    assert all(message in lines[0] for message in messages), lines[0]


def test_push_and_load_back(hub, work, run):
    answer = work("publish.py", run, REPO)
    assert answer["code"] == 0, answer
    repository = hub.repositories[REPO]
    assert repository.private and len(repository.branches["main"]) == 2  # the Hub's own first commit, and ours
    assert repository.branches["main"][-1] in answer["out"]
    local = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    remote = hub.files(REPO)
    assert remote.keys() - {".gitattributes"} == local.keys()
    assert all(remote[name] == content for name, content in local.items() if name != "README.md")
    assert not any(b"hf_write" in content for content in remote.values()) and "hf_write" not in answer["out"] + answer["err"]
    assert "HTTP" not in answer["out"] + answer["err"]  # the addresses of uploads are signed
    card = remote["README.md"].decode()
    assert f'model_id = "{REPO}"' in card and yaml.safe_load(card.split("---")[1])["license"] == "mit"

    answer = work(
        code=f"""
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

def logits_of(name):
    inputs = AutoTokenizer.from_pretrained(name)({make_texts(1, 5)[0]!r}, return_tensors="pt")
    with torch.no_grad():
        return AutoModelForMaskedLM.from_pretrained(name)(**inputs).logits

fill_mask = pipeline("fill-mask", model="{REPO}")
result = {{
    "equal": torch.equal(logits_of("{REPO}"), logits_of("{run / "model"}")),
    "hidden_size": AutoModel.from_pretrained("{REPO}").config.hidden_size,
    "filled": len(fill_mask(f"a {{fill_mask.tokenizer.mask_token}} b", top_k=3)),
}}"""
    )
    assert answer["result"] == {"equal": True, "hidden_size": 24, "filled": 3}, answer["err"]
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert work(code=example)["code"] == 0


def test_the_hubs_own_check_accepts_the_cards_and_finds_their_faults(hub, work):
    answer = work(
        code=f"""
import glob, huggingface_hub
from huggingface_hub import ModelCard

if hasattr(huggingface_hub, "configure_http_backend"):  # huggingface_hub 0: it asks huggingface.co whatever the endpoint
    import requests

    class Local(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            request.url = request.url.replace("https://huggingface.co", "{hub.url}")
            return super().send(request, **options)

    def session():
        session = requests.Session()
        session.mount("https://huggingface.co", Local())
        return session

    huggingface_hub.configure_http_backend(session)

def complaint(path, fault):
    card = ModelCard.load(path)
    exec(fault, {{"data": card.data}})
    try:
        card.validate()
    except ValueError as error:
        return str(error)

cards = glob.glob("{ROOT}/model_cards/*/README.md")
result = [[fault, complaint(path, fault)] for path in cards for fault in {["", *FAULTS]}]
"""
    )
    assert len(answer["result"]) == len(list(ROOT.glob("model_cards/*/README.md"))) * (1 + len(FAULTS)), answer
    for fault, found in answer["result"]:
        assert FAULTS[fault] in found if fault else found is None, (fault, found)


def test_sentence_transformers_loads_it(hub, work, run):
    assert work("publish.py", run, REPO)["code"] == 0
    code = f'from sentence_transformers import SentenceTransformer\nresult = SentenceTransformer("{REPO}").encode("a").shape[0]'
    assert work(code=code)["result"] == 24


def test_the_recipe_publishes_and_does_not_commit_twice(hub, compress, run):
    for _ in range(2):
        answer = compress(run, "--push_to_hub", "--hub_model_id", REPO, "--public")
        assert answer["code"] == 0 and "Published: " in answer["out"], answer
    assert not hub.repositories[REPO].private and len(hub.repositories[REPO].branches["main"]) == 2


def test_a_branch(hub, work, run):
    assert work("publish.py", run, REPO, "--hub_revision", "v1")["code"] == 0
    assert set(hub.files(REPO, "main")) == {".gitattributes"} and "model.safetensors" in hub.files(REPO, "v1")


def test_only_safetensors_are_published(hub, work, run):
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "notes.py"):
        (run / "model" / name).write_bytes(b"x")
    (run / "model" / "figure.png").write_bytes(b"figure")
    assert work("publish.py", run, REPO)["code"] == 0
    assert {path for path in hub.files(REPO) if not path.endswith((".safetensors", ".json", ".md", ".png"))} == {".gitattributes"}
    assert "figure.png" in hub.files(REPO)
    (run / "model" / "README.md").rename(run / "README.md")
    assert_error(work("publish.py", run, REPO), "has no card")
    (run / "model" / "model.safetensors").unlink()
    assert_error(work("publish.py", run, REPO), "model.safetensors was changed; delete model")


@pytest.fixture
def scored_run(run):
    """A complete run whose report has scores on a data set of the Hub and on a local one."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    score = {"model": "prune_ffn", "task": "tc", "metric": "macro_f1", "mean": 0.25, "seeds": [42, 43, 44]}
    score |= {"tuning": "seq_bn", "quick": False}
    report["scores"] = [
        score | {"model": "teacher", "dataset": "Davlan/sib200", "mean": 0.75},
        score | {"dataset": "Davlan/sib200"},
        score | {"dataset": "local"},
    ]
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return run


def test_scores_on_registered_benchmarks_are_in_the_same_commit(hub, work, scored_run):
    assert work("publish.py", scored_run, REPO, "--eval_results", "Davlan/sib200=slk_Latn")["code"] == 0
    assert len(hub.repositories[REPO].branches["main"]) == 2
    (entry,) = yaml.safe_load(hub.files(REPO)[".eval_results/hf_lrcompress.yaml"])
    notes = "macro_f1, mean over seeds 42, 43, 44, tuning seq_bn"
    assert entry == {"dataset": {"id": "Davlan/sib200", "task_id": "slk_Latn"}, "value": 0.25, "notes": notes}
    if hasattr(huggingface_hub, "parse_eval_result_entries"):  # the client's own reader, since huggingface_hub 1
        (parsed,) = huggingface_hub.parse_eval_result_entries([entry])
        assert (parsed.dataset_id, parsed.task_id, parsed.value, parsed.notes) == ("Davlan/sib200", "slk_Latn", 0.25, notes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Davlan/sib200", "give it as DATASET_ID=TASK_ID"),
        ("local=tc", "give it as DATASET_ID=TASK_ID"),
        ("lab/other=tc", "no score on lab/other; it has scores on: Davlan/sib200, local"),
    ],
)
def test_a_benchmark_that_the_run_was_not_scored_on(hub, work, scored_run, value, message):
    assert_error(work("publish.py", scored_run, REPO, "--eval_results", value), message)
    assert not hub.repositories


def test_what_a_person_added_to_the_repository_stays(hub, work, run):
    assert work("publish.py", run, REPO)["code"] == 0
    repository = hub.repositories[REPO]
    files = repository.commits[repository.sha("main")]
    repository.add_commit("main", files | {"LICENSE": files["README.md"], "onnx/model.onnx": files["README.md"]})
    again = work("publish.py", run, REPO)
    assert again["code"] == 0
    assert f"{REPO} keeps what this model has not, " in again["err"]
    assert "publish with `overwrite` removes it: LICENSE, onnx/model.onnx" in again["err"]
    assert {"LICENSE", "onnx/model.onnx"} <= hub.files(REPO).keys()


def test_a_private_repository_stays_private_and_that_is_said(hub, work, run):
    assert "is private" not in work("publish.py", run, REPO)["err"]
    assert f"{REPO} is private and stays so" in work("publish.py", run, REPO, "--public")["err"]


def test_what_a_card_leads_to_is_published_or_said(tmp_path, caplog):
    """Somebody's own card has pictures of its own, and a licence a file."""
    links = ["<images/a b.png>", "images/b%20c.png#x", "NOTES", "https://example.org/e", "#use", "../secret", "images"]
    links += ["%2Fetc%2Fpasswd", "n" * 300, "/models"]
    text = "# A model\n`f[0](x)`\n" + " ".join(f"[it]({link})" for link in links)
    card = f"---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n{text}\n```python\nf[0](x)\n```\n"
    folder = tmp_path / "model"
    (folder / "images").mkdir(parents=True)
    (tmp_path / "secret").write_text("not ours")
    for name, content in {"README.md": card, "model.safetensors": "", "LICENSE": "terms", "images/b c.png": ""}.items():
        (folder / name).write_text(content, encoding="utf-8")
    stated = {"license": "other", "license_name": "own", "license_link": "LICENSE"}
    published = {operation.path_in_repo for operation in Publish(REPO)._additions(folder, stated)}
    assert published == {"README.md", "model.safetensors", "LICENSE", "images/b c.png"}
    missing = [record.args[0] for record in caplog.records]
    assert missing == ["../secret", "/etc/passwd", "NOTES", "images/a b.png", "n" * 300]


def test_a_card_that_a_person_changed_is_not_replaced(hub, work, run):
    assert work("publish.py", run, REPO)["code"] == 0
    repository = hub.repositories[REPO]
    files = repository.commits[repository.sha("main")]
    theirs = files["README.md"].content.replace(b"# ", b"# The tiny ", 1)
    repository.add_commit("main", files | {"README.md": File(theirs, large=False)})
    (run / "model" / "new.json").write_text("{}")
    assert_error(work("publish.py", run, REPO), f"the card of {REPO} was changed there; put it in the place", "`overwrite`")
    assert hub.files(REPO)["README.md"] == theirs and "new.json" not in hub.files(REPO)
    (run / "model" / "README.md").write_bytes(theirs)
    assert work("publish.py", run, REPO)["code"] == 0
    assert b"# The tiny " in hub.files(REPO)["README.md"] and "new.json" in hub.files(REPO)
    (run / "model" / "README.md").write_bytes(theirs.replace(b"The tiny ", b""))
    assert work("publish.py", run, REPO)["code"] == 0, "what was published last is the run's own"
    assert b"# The tiny " not in hub.files(REPO)["README.md"]


def test_the_modules_of_sentence_transformers_are_published_too(hub, work, run):
    (run / "model" / "1_Pooling").mkdir()
    (run / "model" / "checkpoint-5").mkdir()
    for name in ("modules.json", "1_Pooling/config.json", "1_Pooling/pytorch_model.bin", "checkpoint-5/config.json"):
        (run / "model" / name).write_bytes(b"{}")
    listed = [{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    (run / "model" / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    assert work("publish.py", run, REPO)["code"] == 0
    assert {path for path in hub.files(REPO) if "/" in path} == {"1_Pooling/config.json"} and "modules.json" in hub.files(REPO)


def test_somebody_elses_repository_is_left_alone_without_overwrite(hub, compress, work, run):
    theirs = {"README.md": b"---\nhf_lrcompress_fingerprint: other\n---\n", "pytorch_model.bin": b"theirs"}
    for files in (theirs, {"thesis.tex": b"theirs"}):
        hub.add(REPO, files, private=True)
        assert_error(work("publish.py", run, REPO), f"{REPO} holds files of", "`overwrite`")
        assert hub.files(REPO) == files
        answer = compress(run, "--overwrite", "--push_to_hub", "--hub_model_id", REPO)  # that is of the run folder
        assert_error(answer, f"{REPO} holds files of")
        assert hub.files(REPO) == files
    assert work("publish.py", run, REPO, "--overwrite")["code"] == 0
    assert "model.safetensors" in hub.files(REPO) and "thesis.tex" not in hub.files(REPO)


def test_a_public_repository_is_not_published_to_without_saying_so(hub, work, run):
    hub.add(REPO, {".gitattributes": b""})
    assert_error(work("publish.py", run, REPO), "public repository", "`public`")
    assert work("publish.py", run, REPO, "--public")["code"] == 0


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        (REPO, "", "no Hugging Face token"),
        (REPO, "hf_wrong", "the token is not valid"),
        (REPO, "hf_read", "may not write"),
        (REPO, "hf_fine", "may not write"),
        ("strangers/tiny", "hf_write", "no member of strangers; give a `hub_model_id` under one of: jana, lab"),
        ("lab/a--b", "hf_write", "the Hub refuses the name"),
        ("tiny", "hf_write", "does not say whose"),
    ],
)
def test_bad_targets_are_found_before_any_work(hub, compress, work, run, tmp_path, name, token, message):
    hub.tokens["hf_fine"] = ("jana", "write:lab/only", ["lab"])
    assert_error(compress(tmp_path / "new", "--push_to_hub", "--hub_model_id", name, token=token), message)
    assert not (tmp_path / "new").exists()
    assert_error(work("publish.py", run, name, token=token), message)
    assert not hub.repositories


def test_a_fine_grained_token_for_this_repository_will_do():
    from hf_lrcompress.publishing.hub_access import check_write_access

    scope = {"entity": {"type": "org", "name": "lab"}, "permissions": ["repo.write"]}
    user = {"name": "jana", "orgs": [{"name": "lab"}], "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {}}}}
    with pytest.raises(ValueError, match="may not write to lab/tiny"):
        check_write_access(user, REPO)
    user["auth"]["accessToken"]["fineGrained"]["scoped"] = [scope]
    check_write_access(user, REPO)


def test_push_to_hub_needs_a_name(compress, tmp_path):
    assert_error(compress(tmp_path / "run", "--push_to_hub"), "--hub_model_id")
    assert_error(compress(tmp_path / "run", "--hub_model_id", REPO), "without --push_to_hub")


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("/commit/", "POST", 403, "the token may not do this"),
        ("/commit/", "POST", 409, "try again"),
        ("/commit/", "POST", 412, "somebody has changed the repository"),
        ("/commit/", "POST", 429, "too many requests"),
        ("/commit/", "POST", 503, "the Hub answered 503"),
        ("/commit/", "POST", None, "the Hub cannot be reached"),
        ("/lfs/", "PUT", 403, "the Hub answered 403"),
        ("whoami", "GET", 429, "too many requests"),
        ("/preupload/", "POST", 500, "the Hub answered 500"),
        ("/validate-yaml", "POST", 500, "the Hub answered 500"),
    ],
)
def test_a_failure_leaves_all_or_nothing_and_the_same_command_finishes_it(hub, work, run, path, method, status, message):
    hub.fail(method, path, status, times=6 if "whoami" not in path else 1)
    assert_error(work("publish.py", run, REPO), message)
    if REPO in hub.repositories:
        assert set(hub.files(REPO)) == {".gitattributes"}
    hub.failures.clear()
    assert work("publish.py", run, REPO)["code"] == 0
    assert len(hub.uploads) == len(set(hub.uploads)) > 0
    assert len(hub.repositories[REPO].branches["main"]) == 2


@pytest.mark.parametrize("status", [503, None])
def test_an_upload_that_fails_once_is_tried_again(hub, work, run, status):
    hub.fail("PUT", "/lfs/", status)
    assert work("publish.py", run, REPO)["code"] == 0
    assert "model.safetensors" in hub.files(REPO)


def test_a_failed_push_of_the_recipe_says_how_to_push_later(hub, compress, run):
    hub.fail("POST", "/commit/", 503, times=9)
    answer = compress(run, "--push_to_hub", "--hub_model_id", REPO)
    assert_error(answer, "answered 503", f"hf-lrcompress publish {run} {REPO}", code=1)


@pytest.mark.once
def test_a_killed_push_leaves_no_commit_and_can_be_finished(hub, environment, work, run):
    hub.fail("PUT", "/lfs/", None, seconds=30)
    command = [sys.executable, str(ROOT / "recipes" / "publish.py"), str(run), REPO]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while hub.failures[0].times:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert set(hub.files(REPO)) == {".gitattributes"}
    assert work("publish.py", run, REPO)["code"] == 0
    assert len(hub.repositories[REPO].branches["main"]) == 2


def test_a_run_that_is_not_complete_is_refused(hub, work, run, tmp_path):
    assert_error(work("publish.py", tmp_path / "nowhere", REPO), "nowhere does not exist")
    assert_error(work("publish.py", run / "model", REPO), f"model is no run folder; give {run}")
    record = run / "02-prune_ffn" / "stage.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"complete": False}))
    assert_error(work("publish.py", run, REPO), "holds no complete run")
    assert not hub.repositories


def test_a_teacher_without_licence_runs_but_is_not_published_until_one_is_given(hub, compress, work, inputs, tmp_path):
    teacher = shutil.copytree(inputs / "teacher", tmp_path / "teacher")
    (teacher / "README.md").unlink()
    arguments = (tmp_path / "run", "--teacher", teacher)
    assert_error(compress(*arguments, "--push_to_hub", "--hub_model_id", REPO), "states no licence", "`license`, such as mit")
    assert not (tmp_path / "run").exists()
    assert compress(*arguments)["code"] == 0
    assert_error(work("publish.py", tmp_path / "run", REPO), "states no licence", "`license`, such as mit")
    assert work("publish.py", tmp_path / "run", REPO, "--license", "apache-2.0")["code"] == 0
    assert yaml.safe_load(hub.files(REPO)["README.md"].decode().split("---")[1])["license"] == "apache-2.0"
    before = set(hub.repositories)
    for license in ("nonsense", " "):
        assert_error(work("publish.py", tmp_path / "run", "lab/2", "--license", license), f"the Hub knows no licence '{license}'")
        assert_error(compress(tmp_path / "new", "--license", license, "--dry_run"), f"the Hub knows no licence '{license}'")
    (teacher / "README.md").write_text("---\nlicense: nonsense\n---\n", encoding="utf-8")
    answer = compress(tmp_path / "new", "--teacher", teacher, "--push_to_hub", "--hub_model_id", "lab/2")
    assert_error(answer, "the Hub knows no licence 'nonsense'")
    assert set(hub.repositories) == before and not (tmp_path / "new").exists()


def test_a_card_that_the_hub_refuses_leaves_no_repository(hub, work, run):
    card = run / "model" / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("language: sk", "language: sr-Latn"), encoding="utf-8")
    assert_error(work("publish.py", run, REPO), 'the Hub refuses the card: "language" with value "sr-Latn" is not valid')
    assert not hub.repositories


def test_a_licence_that_forbids_derivatives(hub, compress, inputs, tmp_path):
    teacher = shutil.copytree(inputs / "teacher", tmp_path / "teacher")
    (teacher / "README.md").write_text("---\nlicense: cc-by-nd-4.0\n---\n", encoding="utf-8")
    answer = compress(tmp_path / "run", "--teacher", teacher, "--push_to_hub", "--hub_model_id", REPO, "--license", "mit")
    assert_error(answer, "cc-by-nd-4.0, forbids derivatives")
    assert not (tmp_path / "run").exists() and not hub.repositories


@pytest.mark.parametrize(
    "stated",
    [
        {"license": "cc-by-nc-nd-4.0"},
        {"license": ["mit", "cc-by-nd-3.0"]},
        {"license": "other", "license_name": "own-nc-nd-1.0"},
        {"license": "other", "license_name": "CC-BY-NC-ND-4.0"},
        {"license": "other", "license_name": "CC BY-ND 4.0"},
        {"license": "other", "license_name": "Attribution-NoDerivatives"},
        {"license": "other", "license_name": "no derivs"},
    ],
)
def test_no_derivatives_in_every_spelling(stated):
    with pytest.raises(ValueError, match="forbids derivatives"):
        check_license({"license": "mit"}, stated, "t")


def test_another_licence_than_the_teachers_is_said(caplog):
    check_license({"license": "mit"}, {"license": "mit"}, "t")
    check_license({"license": "mit"}, {}, "t")
    assert not caplog.text
    check_license({"license": "mit"}, {"license": "cc-by-nc-4.0"}, "t")
    assert "the card of t states the licence cc-by-nc-4.0, and the model is published under mit" in caplog.text


@pytest.mark.parametrize("name", ["andaluz-1.0", "nda", "open-and-free", "hand-made"])
def test_other_licences_allow_derivatives(name):
    check_license({"license": "mit"}, {"license": "other", "license_name": name}, "t")


@pytest.mark.parametrize("header", ["title: Model: small", "tags: 5", "- a"])
def test_a_card_whose_header_is_not_valid_is_one_line(hub, work, run, header):
    (run / "model" / "README.md").write_text(f"---\n{header}\n---\nmine\n", encoding="utf-8")
    assert_error(work("publish.py", run, REPO), f"the header of {run / 'model' / 'README.md'} ", "; mend it")
    assert not hub.repositories


def test_what_modules_name_is_published_and_nothing_else(tmp_path):
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "pooling", "type": "a.Pooling"}]
    ours = {"README.md": "# A model\n", "model.safetensors": "", "modules.json": json.dumps(modules), "pooling/config.json": "{}"}
    private = {
        ".notes.json": "{}",
        "2024_private/letters.txt": "Dear",
        "onnx/.half.onnx": "",
        "checkpoint-3/model.safetensors": "",
    }
    for name, content in (ours | private).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    published = Publish(REPO)._additions(tmp_path, {"license": "mit"})
    assert {operation.path_in_repo for operation in published} == ours.keys()


def test_what_the_run_has_not_made_is_named_when_it_is_published(hub, work, run):
    assert not_of_the_run(run) == []
    (run / "model" / "notes.txt").write_text("mine", encoding="utf-8")
    assert not_of_the_run(run) == ["notes.txt"]
    done = work("publish.py", run, REPO)
    assert done["code"] == 0 and "published as well, though the run has not made it: notes.txt" in done["err"]
    assert "notes.txt" in hub.files(REPO)


def test_a_licence_given_leaves_nothing_of_the_one_before(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    card = "---\nlicense: other\nlicense_name: own-terms\nlicense_link: https://example.org\n---\n# A model\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    published = Publish(REPO)._additions(tmp_path, {"license": "mit"})[0]
    with published.as_file() as file:
        header = yaml.safe_load(file.read().decode().split("---")[1])
    assert header.keys() == {"license", CARD_HASH} and header["license"] == "mit"


def test_a_file_of_this_machine_is_not_the_hubs_fault():
    said = r"^publishing lab/model: \[Errno 13\] Permission denied: '/cache/x'$"
    with pytest.raises(OSError, match=said), one_line_errors("publishing lab/model"):
        raise PermissionError(13, "Permission denied", "/cache/x")


def test_names_that_the_hub_refuses():
    for name in ("lab/a..b", "a/b/c", "lab/-a", "lab/" + "a" * 100):
        with pytest.raises(ValueError, match="the Hub refuses the name"):
            Publish(name)


@pytest.mark.parametrize("name", ["lab/teacher", "bert-tiny"])
def test_a_teacher_from_the_hub_and_its_licence(hub, compress, inputs, tmp_path, name):
    hub.add(name, {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()})
    assert compress(tmp_path / "run", "--teacher", name)["code"] == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert (metadata["base_model"], metadata["license"]) == (name, "mit") and f"huggingface.co/{name}" in card


def test_a_licence_that_could_not_be_asked_for_is_asked_for_before_publishing(hub, compress, work, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    hub.add("lab/nd", files | {"README.md": b"---\nlicense: cc-by-nc-nd-4.0\n---\n"})
    hub.fail("HEAD", "/lab/nd/resolve/.*/README.md", 503, times=100)
    answer = compress(tmp_path / "run", "--teacher", "lab/nd", "--license", "mit")
    assert answer["code"] == 0, answer["err"]
    assert_error(work("publish.py", tmp_path / "run", REPO), "cannot be asked for the licence of lab/nd")
    hub.failures.clear()
    hub.fail("GET", "/lab/nd/resolve/.*/README.md", None, times=100)
    assert_error(work("publish.py", tmp_path / "run", REPO), "reading the card of lab/nd: the Hub cannot be reached")
    hub.failures.clear()
    assert_error(work("publish.py", tmp_path / "run", REPO), "cc-by-nc-nd-4.0, forbids derivatives")
    assert REPO not in hub.repositories


def test_how_a_teacher_pools_decides_what_a_run_is_and_not_to_know_it_is_said(hub, compress, inputs, tmp_path):
    """A teacher whose files are in the cache but for that of its modules, which nobody had asked for."""
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    beside = {"modules.json": modules, "1_Pooling/config.json": pooling}
    hub.add("lab/first", files | {path: json.dumps(content).encode() for path, content in beside.items()})
    representation = ("--set", "objective=representation", "--set", "prune_ffn.method=refit")
    command = (tmp_path / "run", "--teacher", "lab/first", *representation)
    hub.fail("HEAD", "modules.json", 503, times=100)
    answer = compress(*command)
    assert answer["code"] == 0 and "mean pooling is taken" in answer["err"], answer["err"]
    hub.failures.clear()
    assert_error(compress(*command), "was made with other settings")
    answer = compress(*command, "--overwrite")
    assert answer["code"] == 0 and "mean pooling" not in answer["err"]
    found = json.loads((tmp_path / "run" / "model" / "1_Pooling" / "config.json").read_text())
    assert found["pooling_mode_cls_token"]
    hub.add("lab/plain", files)  # has no modules, and the Hub says so
    answer = compress(tmp_path / "plain", "--teacher", "lab/plain", *representation)
    assert answer["code"] == 0 and "is not known" not in answer["err"]


def test_a_link_to_the_teachers_licence_leads_there(hub, compress, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    card = b"---\nlicense: other\nlicense_name: own-terms\nlicense_link: LICENSE\n---\n"
    hub.add("lab/own-terms", files | {"README.md": card, "LICENSE": b"terms"})
    assert compress(tmp_path / "run", "--teacher", "lab/own-terms")["code"] == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license_link"] == f"{hub.url}/lab/own-terms/resolve/main/LICENSE"


def test_a_teacher_with_code_of_its_own_is_run_only_if_trusted(hub, compress, work, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    hub.add("lab/own", with_own_code(files, ("TokenClassification",), repository="lab/own"))
    command = (tmp_path / "run", "--teacher", "lab/own")
    assert_error(compress(*command), "lab/own needs code of its own", "--trust_remote_code")
    assert_error(compress(*command, "--trust_remote_code"), "'own-xlmr' is not supported", "architectures.py")
    assert not (tmp_path / "run").exists()

    work(code=ADD_ROW)
    rows = "".join(json.dumps({"text": f"text {i}", "label": f"topic {i % 2}"}) + "\n" for i in range(4))
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    evaluation = ("--stages", "trim_vocab,evaluate", "--set", f"evaluate={{tasks: [tc], data: {{tc: {tmp_path}}}}}")
    assert_error(compress(*command, "--trust_remote_code", *evaluation), "no class to classify texts")
    score = ("evaluate.py", "--model", "lab/own", "--lang", "sk", "--tasks", "tc", "--task_data", f"tc={tmp_path}")
    assert_error(work(*score, "--trust_remote_code"), "no class to classify texts")
    answer = compress(*command, "--trust_remote_code", "--push_to_hub", "--hub_model_id", REPO)
    assert answer["code"] == 0, answer["err"]
    assert CODE_FILES.keys() < hub.files(REPO).keys()
    assert not [reference for reference in json.loads(hub.files(REPO)["config.json"])["auto_map"].values() if "--" in reference]
    card = hub.files(REPO)["README.md"].decode()
    assert "trust_remote_code=True" in card and "custom_code" in yaml.safe_load(card.split("---")[1])["tags"]
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    answer = work(code=example + "result = [type(fill_mask.model).__name__, fill_mask.model.config.intermediate_size]")
    assert answer["result"] == ["OwnForMaskedLM", 20], answer["err"]


def test_code_that_a_supported_teacher_brings_is_not_used(hub, compress, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    config = json.loads(files["config.json"]) | {"auto_map": {"AutoModelForMaskedLM": "modeling_own.OwnForMaskedLM"}}
    hub.add("lab/more", files | {"config.json": json.dumps(config).encode(), "modeling_own.py": b"raise SystemExit(7)"})
    assert compress(tmp_path / "run", "--teacher", "lab/more", "--trust_remote_code")["code"] == 0
    assert "auto_map" not in json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))


def test_a_teacher_that_is_gated_or_private(hub, compress, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    hub.add("strangers/gated", files, gated=True)
    assert_error(compress(tmp_path / "new", "--teacher", "strangers/gated"), "strangers/gated is gated", "hf auth login")
    hub.add("strangers/private", files, private=True)
    assert_error(compress(tmp_path / "new", "--teacher", "strangers/private"), "there is no model", "private")


def test_a_teacher_that_is_there_is_not_said_to_be_nowhere(hub, compress, inputs, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "teacher").iterdir()}
    hub.add("lab/teacher", files)
    arguments = (tmp_path / "new", "--teacher", "lab/teacher")
    assert_error(compress(*arguments, "--set", "teacher_revision=v9"), "lab/teacher: v9 is not a valid git identifier")
    hub.add("lab/teacher", files | {"config.json": b"{cut"})
    assert_error(compress(*arguments), "lab/teacher: ", "is not a valid JSON file")
