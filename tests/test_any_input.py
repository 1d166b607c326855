"""Whatever a file or an option holds: success, or a ValueError or OSError, in bounded time."""

import contextlib
import copy
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

import pytest
from conftest import tiny_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained_tokenizers import bert, xlm_roberta

from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.commands.compress import budget_of, changed, publish_target
from hf_lrcompress.commands.evaluate import read_numbers, read_rates, read_training
from hf_lrcompress.distillation.checkpoints import SEAL, newest_whole
from hf_lrcompress.evaluation.local_tasks import read_split
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.messages import LONGEST_LINE, one_line
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.models.loading import load_config
from hf_lrcompress.models.rebuilding import encoder_on_meta, masked_lm_on_meta
from hf_lrcompress.models.sentence_modules import read_modules
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import REPORT_FILE, RunFolder, read_complete_run
from hf_lrcompress.run.stage_record import RECORD_FILE, StageRecord
from hf_lrcompress.run.yaml_files import CONFIGURATIONS, find_configuration, parse_yaml, read_yaml
from hf_lrcompress.stages.training_arguments import training_arguments
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.readers import READERS

SLOVAK = Language.from_tag("sk")
NUMBERS = st.integers(-3, 70) | st.sampled_from([2**31, 2**63, 10**9, 10**30, 10**400, -(10**30)]) | st.floats()
WORDS = st.sampled_from(
    ["", "a", "sk", "demo", "true", "null", "../..", "/dev/zero", "a/b@c", "{0.x}", "\ud800", "\0", "a\nb", "x" * 3000]
)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
LINE_PARTS = st.sampled_from(
    ["\t", " ", "\n", "\r\n", "\n\n", "#", "-DOCSTART-", "1", "1-2", "1.1", "_", "O", "B-PER", "I-", "NOUN", "Anna", '"', ",",
     "text", "label", '{"text": "a", "label": 1}', '{"tokens": ["a"], "tags": [',
     "[" * 2000, "9" * 5000, "\ufeff", "x" * 200, "\\ud800"]
)  # fmt: skip
LINES = st.lists(LINE_PARTS | st.text(max_size=5), max_size=25).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))


def places(value, above=()):
    """The path of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    return [above, *(place for key, item in inner for place in places(item, (*above, key)))]


@st.composite
def damaged(draw, whole, most=3):
    """A JSON value of which some parts are others, or gone, or which has keys that it should not have."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        inside = places(value)[1:]
        if not inside:
            return draw(VALUES)
        *path, last = draw(st.sampled_from(inside))
        parent = value
        for key in path:
            parent = parent[key]
        if draw(st.booleans()) or isinstance(parent, list):
            parent[last] = draw(VALUES)
        else:
            del parent[last]
            parent.update(draw(st.dictionaries(WORDS, VALUES, max_size=1)))
    return value


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode("utf-8", "surrogatepass"))
    return path


@cache
def teacher(make=bert):
    """The files of a teacher without weights: content by name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make()
        tokenizer.save_pretrained(folder)
        family = "bert" if make is bert else "xlm-roberta"
        tiny_config(family, vocab_size=len(tokenizer)).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def whole_teacher(folder, make=bert):
    for name, content in teacher(make).items():
        written(folder, name, content)
    return str(folder)


CONFIGS = {name: read_yaml(find_configuration(name)) for name in CONFIGURATIONS}


def configure(folder, draw):
    mapping = draw(damaged(draw(st.sampled_from(list(CONFIGS.values())))))
    config = RunConfig.from_mapping(mapping, SLOVAK)
    assert RunConfig.from_mapping(config.to_mapping(), SLOVAK) == config
    training_arguments(dict(config.training), str(folder), config.seed)


def read_some_yaml(folder, draw):
    text = draw(
        st.text(max_size=30)
        | st.lists(st.sampled_from([*"&*!<>?:-[]{}#'\"|%@ \n\ta1", "a: ", "- ", "&a ", "*a", "<<: "])).map("".join)
    )
    value = parse_yaml(text, "a.yaml")
    if isinstance(value, dict):
        RunConfig.from_mapping(value, SLOVAK)


def set_options(folder, draw):
    config = draw(st.sampled_from(list(CONFIGS.values())))
    keys = [".".join(map(str, place)) for place in places(config)[1:]]
    value = draw(VALUES.map(lambda value: json.dumps(value)) | st.text(max_size=10))
    change = draw(st.sampled_from(keys) | st.text(max_size=10)) + draw(st.sampled_from(["=", ".x=", ".=", "", "=="])) + value
    RunConfig.from_mapping(changed(config, change), SLOVAK)


def compress_flag(option, value):
    given = parse_arguments(["compress", "--lang", "sk", "--push_to_hub", f"--{option}={value}"])
    budget_of(given) if "target" in option else publish_target(given)


def evaluate_flag(option, value):
    read_training(parse_arguments(["evaluate", "--lang", "sk", "--model", "a", f"--{option}={value}"]))


FLAGS = [
    read_rates,
    Language.from_tag,
    partial(read_numbers, "seeds"),
    *(partial(compress_flag, name) for name in ("target_parameters", "target_mb", "hub_model_id")),
    *(partial(evaluate_flag, name) for name in ("epochs", "reduction_factor", "learning_rates", "tuning", "patience")),
]
NUMERALS = ["25M", "1_0.5k", "1,2", "1e-4,nan", "9" * 5000, "9" * 30 + "B", "a/b", "a--b/c", "sk-Latn"]


def read_flags(folder, draw):
    read = draw(st.sampled_from(FLAGS))
    with contextlib.suppress(SystemExit):  # argparse has said what is wrong, in one line
        read(draw(st.text(max_size=8) | NUMBERS.map(repr) | st.sampled_from(NUMERALS)))


@cache
def whole_record():
    return StageRecord("a", "b", complete=True, files={"c.bin": {"sha256": "d", "bytes": 1, "modified_ns": 2}})


def read_records(folder, draw):
    record = whole_record()
    whole = asdict(record)
    written(folder, "01-a/c.bin", b"c")
    written(folder, f"01-a/{RECORD_FILE}", draw(damaged(whole) | VALUES | LINES))
    written(folder, REPORT_FILE, draw(damaged({"fingerprint": "b", "stages": []}) | VALUES | LINES))
    written(folder, f"{MODEL_DIR}/c.bin", b"c")
    written(folder, "config.yaml", b"# The configuration of a run of hf_lrcompress.")
    name = draw(st.sampled_from(["checkpoint-1", "checkpoint-x", "checkpoint-", "checkpoint-\u0661"]))
    written(folder, f"{name}/{SEAL}", draw(damaged(whole["files"]) | VALUES | LINES))
    newest_whole(folder)
    with contextlib.suppress(ValueError, OSError):
        RunFolder(folder, {"01-a": record}).check(overwrite=True)
    read_complete_run(folder)


def read_texts(folder, draw):
    kind = draw(st.sampled_from(list(READERS)))
    for _ in READERS[kind](str(written(folder, f"a{kind}", draw(LINES))), "text"):
        pass


def read_tasks(folder, draw):
    kind = draw(st.sampled_from([".conllu", ".conll", ".iob2", ".jsonl", ".csv", ".tsv"]))
    written(folder, f"train{kind}", draw(LINES))
    if draw(st.booleans()):
        written(folder, "labels.txt", draw(LINES))
    columns = draw(st.none() | st.lists(st.sampled_from([1, 2, "1", "text", "label", "9" * 30]), max_size=2))
    for _ in read_split(folder, ("train",), TASKS[draw(st.sampled_from(list(TASKS)))], columns):
        pass


def read_tokenizers(folder, draw):
    make = draw(st.sampled_from([bert, xlm_roberta]))
    name = draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]))
    path = whole_teacher(folder, make)
    whole = json.loads(teacher(make).get(name, b"{}"))
    written(folder, name, draw(damaged(whole) | VALUES | LINES))
    load_tokenizer(path)


def read_teachers(folder, draw):
    path = whole_teacher(folder, draw(st.sampled_from([bert, xlm_roberta])))
    whole = json.loads((folder / "config.json").read_text())
    written(folder, "config.json", draw(damaged(whole | {"attn_implementation": "sdpa", "num_labels": 3}) | VALUES | LINES))
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    written(folder, "modules.json", draw(damaged(modules) | VALUES))
    written(folder, "1_Pooling/config.json", draw(damaged({"word_embedding_dimension": 24}) | VALUES))
    config = load_config(path)
    masked_lm_on_meta(config), encoder_on_meta(config), read_modules(path)


READ = [configure, read_some_yaml, set_options, read_flags, read_records, read_texts, read_tasks, read_tokenizers, read_teachers]
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize("cases", [34, pytest.param(1112, marks=pytest.mark.long)])
@pytest.mark.parametrize("read", READ)
def test_it_is_read_or_refused(read, cases):
    found = Counter()

    @settings(
        max_examples=cases,
        deadline=timedelta(seconds=10),
        database=None,
        derandomize=True,
        suppress_health_check=HEALTH,
        print_blob=False,
    )
    @given(st.data())
    def check(data):
        folder = Path(tempfile.mkdtemp())
        try:
            read(folder, data.draw)
            found["read"] += 1
        except (ValueError, OSError) as error:
            found["refused"] += 1
            assert len(one_line(error)) < LONGEST_LINE + 10
        finally:
            shutil.rmtree(folder)

    check()
    print(read.__name__, dict(found))
