"""The demo's machine-written text, and the files a run takes."""

import importlib.util
import json

import pytest

from hf_lrcompress.demo import texts as demo
from hf_lrcompress.texts.languages import Language

if importlib.util.find_spec("dataset_build") is None:  # not imported: it does not import on Python 3.11
    pytest.skip("dataset_build is not installed", allow_module_level=True)


def test_languages_and_paths():
    languages = demo.find_demo_languages()
    assert len(languages) >= 38 and languages == sorted(set(languages))
    assert {"slk", "swa", "eng"} <= set(languages) and not {"test", "coding"} & set(languages)
    assert all(demo.find_demo_text(language).stat().st_size > 50_000 for language in languages)
    with pytest.raises(ValueError, match="'mlt'; choose one of: ara, ben"):
        demo.find_demo_text("mlt")


@pytest.mark.parametrize("language", demo.find_demo_languages())
def test_splits_are_disjoint_and_cover_the_file(language):
    train, validation = demo.read_demo_text(language)
    lines = {line.strip() for line in demo.find_demo_text(language).read_text(encoding="utf-8").splitlines()} - {""}
    assert not set(train) & set(validation)
    assert set(train) | set(validation) == lines and len(train) + len(validation) == len(lines)
    assert 8 <= len(validation) <= len(train) / 8
    assert demo.read_demo_text(language) == (train, validation)


@pytest.mark.parametrize("code", demo.find_demo_languages())
def test_every_language_of_the_demo_can_be_asked_for(code, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    train, validation = demo.save_demo_text(Language.from_tag(code))
    assert (train.read_text(encoding="utf-8").splitlines(), validation.read_text(encoding="utf-8").splitlines()) == (
        tuple(demo.read_demo_text(code))
    )


def test_topics_are_disjoint_sections(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    folder = demo.save_demo_topics(Language.from_tag("sk"))
    sections = demo.read_demo_sections("slk")
    assert len(sections) == 10 and demo.save_demo_topics(Language.from_tag("hi")) is None
    texts = [(folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines() for split in ("train", "validation", "test")]
    assert sum(map(len, texts)) == len(set().union(*texts)) == sum(map(len, sections.values()))
    assert len({json.loads(line)["label"] for line in texts[2]}) == 10
