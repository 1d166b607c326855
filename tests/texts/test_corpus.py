"""Reading corpora, and packing them into blocks: against the definition, written naively."""

import gzip
import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, __version__

from hf_lrcompress.texts import corpus as data
from hf_lrcompress.texts import readers
from hf_lrcompress.texts.corpus import CorpusSource, corpus_fingerprint, load_corpus
from hf_lrcompress.texts.tokenizing import tokenize_corpus, tokenize_documents

TEXTS = [f"mačka číslo {i} " + "skáče cez deravý plot a hľadá teplé mlieko " * (i % 7) for i in range(700)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CorpusSource(files=(str(path),))


def parquet(texts):
    """A file with a column of bytes that is said to be text."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())}), file, compression="gzip")
    return file.getvalue()


def damaged(content):
    """A file whose first page does not unpack."""
    at = content.index(b"\x1f\x8b")
    return content[: at + 12] + bytes(8) + content[at + 20 :]


def texts_of(source):
    corpus = load_corpus(source)
    assert corpus.column_names in (["text"], None)
    return [row["text"] for row in corpus]


def one_line(error):
    return "\n" not in str(error.value)


# reading


@pytest.mark.parametrize("streaming", [False, True])
def test_a_document_that_no_tokenizer_has_memory_for_is_several(tmp_path, streaming, monkeypatch):
    monkeypatch.setattr(data, "LONGEST_DOCUMENT", 10)
    text = "jeden dva tri" + " " * 40 + "x" * 25 + " koniec"
    write(tmp_path / "a.txt", f"krátky\n{text}\nposledný")
    texts = texts_of(CorpusSource(files=(str(tmp_path / "a.txt"),), streaming=streaming))
    assert texts[:2] == ["krátky", "jeden dva"] and texts[-1] == "posledný"
    assert "".join("".join(texts).split()) == "".join(f"krátky{text}posledný".split())
    assert max(map(len, texts)) <= 10


def test_a_line_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_lrcompress.texts.lines.LONGEST_LINE", 100)
    write(tmp_path / "a.txt.gz", gzip.compress(b"short\n" + b" " * 1000))
    with pytest.raises(ValueError, match="a.txt.gz, line 2 has more than 100 bytes; break it up") as error:
        load_corpus(CorpusSource(files=(str(tmp_path / "a.txt.gz"),)))
    assert one_line(error)


@pytest.mark.parametrize("streaming", [False, True])
def test_every_kind_of_file_gives_the_same_text(tmp_path, streaming):
    texts = ["prvý riadok", "druhý: „úvodzovky“ \\ \t tab", "tretí"]
    write(tmp_path / "a.txt", "\ufeff" + "\r\n".join([texts[0], "", "  \t", texts[1]]) + "\n\n" + texts[2])
    lines = [json.dumps({"id": i, "body": text}) for i, text in enumerate([texts[0], "", *texts[1:], " ", None])]
    write(tmp_path / "a.jsonl", "\n".join(lines) + "\n\n")
    write(tmp_path / "a.json", "\n".join(lines))
    pq.write_table(pa.table({"id": range(5), "body": [texts[0], None, " ", *texts[1:]]}), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", "\ufeffid,body\r\n" + "".join(f'{i},"{text}"\r\n' for i, text in enumerate([*texts, " ", ""])))
    write(tmp_path / "a.tsv", "id\tbody\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(texts)).replace(" \t tab", " tab"))
    for kind in ("txt", "jsonl", "json", "csv", "tsv"):
        write(tmp_path / f"a.{kind}.gz", gzip.compress((tmp_path / f"a.{kind}").read_bytes()))
    for kind in ("txt", "jsonl", "json", "csv", "parquet", "txt.gz", "jsonl.gz", "json.gz", "csv.gz"):
        source = CorpusSource(files=(str(tmp_path / f"a.{kind}"),), column="body", streaming=streaming)
        assert isinstance(load_corpus(source), IterableDataset if streaming else Dataset)
        assert texts_of(source) == texts
    for kind in ("tsv", "tsv.gz"):
        source = CorpusSource(files=(str(tmp_path / f"a.{kind}"),), column="body", streaming=streaming)
        assert texts_of(source) == [text.replace(" \t tab", " tab") for text in texts]


def test_quotation_marks_quote_in_csv_and_are_text_in_tsv(tmp_path):
    assert texts_of(write(tmp_path / "a.csv", 'text,id\n"„Áno, ""hej""\nešte",1\n')) == ['„Áno, "hej"\nešte']
    assert texts_of(write(tmp_path / "a.tsv", 'text\tid\n"Áno\t1\n"Nie"\t2\n')) == ['"Áno', '"Nie"']


def test_files_are_read_in_order_and_blank_documents_do_not_count(tmp_path):
    write(tmp_path / "b.txt", "1\n\n2\n")
    write(tmp_path / "a.txt", "3\n4\n")
    assert texts_of(CorpusSource(files=(str(tmp_path / "a.txt"),), path="")) == ["3", "4"]  # as `--set train.path=''` has it
    files = (str(tmp_path / "b.txt"), str(tmp_path / "a.txt"))
    assert texts_of(CorpusSource(files=files)) == ["1", "2", "3", "4"]
    assert texts_of(CorpusSource(files=files, max_documents=3)) == ["1", "2", "3"]


def test_a_file_that_changes_in_place_is_read_anew(tmp_path):
    source = write(tmp_path / "a.txt", "one\n")
    before = (tmp_path / "a.txt").stat()
    assert texts_of(source) == ["one"]
    write(tmp_path / "a.txt", "two\n")
    os.utime(tmp_path / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert texts_of(source) == ["two"]


def test_the_cache_is_used(tmp_path, monkeypatch):
    source = write(tmp_path / "a.txt", "one\n")
    load_corpus(source)
    monkeypatch.setitem(data.READERS, ".txt", lambda file, column: pytest.fail("read again"))
    assert texts_of(source) == ["one"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt has no text"),
        ("a.txt", "\n \n\t\n", "a.txt has no text"),
        ("a.jsonl", '{"text": " "}\n', "a.jsonl has no text"),
        ("a.txt", b"\xe9\na\n\xff\n\xe9\n", r"line 1: byte 0xe9 is not UTF-8; .* \(in all 3 lines are damaged\)$"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text"\n\n[]\n',
            r"line 2: .*; give one JSON object a line \(in all 2 lines are damaged\)$",
        ),
        ("a.csv", b"id,text\n1\n2,a\n3\n4,b,c\n", r"line 2: 1 columns, .* \(in all 3 lines are damaged\)$"),
        ("a.txt", "dobre\nzl\xe9\n".encode("latin-1"), "a.txt, line 2: byte 0xe9 is not UTF-8"),
        ("a.txt", "dobre\rzle\r", "a.txt ends its lines by carriage returns alone; write it again with line feeds"),
        ("a.csv", "text\rdobre", "a.csv ends its lines by carriage returns alone"),
        ("a.txt", "dobre\n".encode("utf-16"), "a.txt is UTF-16; convert it to UTF-8"),
        ("a.txt", gzip.compress(b"dobre\n", mtime=0), "a.txt is packed by gzip; let its name end in .gz, or unpack it"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "\xe9"}\n', "a.jsonl, line 3: byte 0xe9 is not UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl, line 2: not JSON"),
        ("a.json", '["a",\n"b"]\n', "a.json, line 1: not JSON"),
        ("a.json", '["a"]\n', "a.json, line 1: not a JSON object"),
        ("a.jsonl", '{"id": 1, "body": "a"}\n', r"a.jsonl, line 1 has no column 'text'; there are: id, body"),
        ("a.jsonl", '{"text": 1}\n', "column 'text' holds int, not text"),
        ("a.jsonl", '{"text": "a"}\n{"text": "x \\ud83d"}\n', r"a.jsonl, line 2: '\\ud83d' is half a character"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, "a.jsonl, line 1: nested too deeply; give one JSON object a line"),
        ("a.jsonl", f'{{"text": "a", "id": {"1" * 5000}}}', "a.jsonl, line 1: a number has too many digits"),
        ("a.csv", "", "a.csv has no text"),
        ("a.csv", "text,id,text\na,1,b\n", "a.csv has two columns 'text'; give each a name of its own"),
        ("a.tsv.csv", "id\ttext\n1\ta\n", r"a.tsv.csv, line 2 has no column 'text'; there are: id\ttext"),
        ("a.csv", "id,body\n1,a\n", "a.csv, line 2 has no column 'text'; there are: id, body"),
        ("a.csv", "id,text\n1,a\n2,b,c\n", "a.csv, line 3: 3 columns, the first line has 2"),
        ("a.csv", 'id,text\n1,a\n2,"b\n3,c\n', "a.csv, line 4: unexpected end of data; is a quote not closed"),
        ("a.csv", "id,text\n1,zl\xe9\n".encode("latin-1"), "a.csv, line 2: byte 0xe9 is not UTF-8"),
        ("a.tsv", "id\ttext\na\n", "a.tsv, line 2: 1 columns, the first line has 2"),
        ("a.txt.gz", b"text", "a.txt.gz is damaged after line 0"),
        ("a.txt.gz", gzip.compress(b"one\ntwo\n" * 999, mtime=0)[:-9], r"a.txt.gz is damaged after line \d+: no whole gzip file"),
        ("a.parquet", "not parquet", "a.parquet is not a Parquet file"),
        ("a.parquet", parquet(pa.array([b"a", b"b", b"zl\xe9"])), "a.parquet, row 3: byte 0xe9 is not UTF-8"),
        ("a.parquet", damaged(parquet(pa.array(["text"] * 99))), r"a.parquet is .*damaged.*; make or download it again"),
    ],
)
def test_files_that_are_no_corpus_are_refused_in_one_line(tmp_path, name, content, message, streaming):
    write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message) as error:
        for _ in load_corpus(CorpusSource(files=(str(tmp_path / name),), streaming=streaming)):
            pass
    assert one_line(error)


def test_parquet_columns_are_named(tmp_path):
    pq.write_table(pa.table({"id": [1], "body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'text'; there are: id, body"):
        load_corpus(CorpusSource(files=(str(tmp_path / "a.parquet"),)))
    with pytest.raises(ValueError, match="column 'id' holds int, not text"):
        load_corpus(CorpusSource(files=(str(tmp_path / "a.parquet"),), column="id"))


@pytest.mark.parametrize("function", [load_corpus, corpus_fingerprint])
def test_a_missing_file_is_named(tmp_path, function):
    with pytest.raises(FileNotFoundError, match="gone.txt does not exist"):
        function(CorpusSource(files=(str(tmp_path / "gone.txt"),)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either files or path"),
        ({"files": ("a.txt",), "path": "org/name"}, "either files or path"),
        ({"files": ()}, "either files or path .*, and there is none"),
        ({"files": "a.txt"}, "must be a list"),
        ({"files": ("a.txt",), "split": "test"}, "split and revision belong to a data set on the Hub"),
        ({"files": ("a.odt",)}, "a.odt is no kind of text that can be read; give files that end in .txt, .txt.gz, .jsonl, "),
        ({"files": ("a.gz",)}, "a.gz is no kind of text"),
        ({"files": ("a",)}, "a is no kind of text"),
        ({"files": ("a.txt", "b.jsonl")}, "files end in .jsonl and .txt; give files of one kind"),
        ({"files": ("a.txt",), "name": "slk-Latn"}, "remove them or files"),
        ({"path": "/data/texts"}, "must be a Hub id"),
        ({"path": "."}, "must be a Hub id"),
        ({"path": "org/name", "split": "train[:10]"}, "set max_documents"),
        ({"files": ("a.txt",), "max_documents": 0}, "must be 1 or more, got 0"),
    ],
)
def test_contradictory_sources_are_refused(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        CorpusSource(**fields)
    assert one_line(error)


# the Hub


def test_the_hub_is_asked_for_no_more_than_needed(monkeypatch):
    taken, asked = [], []

    def rows():
        for i in range(1000):
            taken.append(i)
            yield {"content": f"document {i}" if i % 2 else "", "id": i}

    def load(*args, **kwargs):
        asked.append((args, kwargs))
        return IterableDataset.from_generator(rows)

    monkeypatch.setattr(readers, "load_dataset", load)
    source = CorpusSource(path="org/name", name="slk-Latn", column="content", revision="abc", max_documents=3)
    assert texts_of(source) == ["document 1", "document 3", "document 5"] == texts_of(source)
    assert len(asked) == 1 and asked[0][0] == ("org/name", "slk-Latn") and asked[0][1]["revision"] == "abc"
    assert max(taken) < 20
    with pytest.raises(ValueError, match=r"org/name has no column 'text'; there are: content, id"):
        load_corpus(CorpusSource(path="org/name"))


@pytest.mark.once
@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_the_hub_out_of_reach_names_the_demo_within_seconds(tmp_path, environment):
    script = f"""
import time
from hf_lrcompress.texts.corpus import CorpusSource, load_corpus
for streaming in (False, True):
    start = time.monotonic()
    try:
        load_corpus(CorpusSource(path="cis-lmu/GlotCC-V1", name="slk-Latn", column="content", streaming=streaming))
    except ConnectionError as error:
        assert time.monotonic() - start < 20  # load_dataset alone repeats its request for half a minute
        assert "\\n" not in str(error) and "cannot be reached to load cis-lmu/GlotCC-V1 (slk-Latn)" in str(error)
        assert str(error).endswith({readers.DEMO_COMMAND!r})
    else:
        raise AssertionError
"""
    proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    subprocess.run(
        [sys.executable, "-c", script], env=os.environ | proxies | environment | {"HF_HOME": str(tmp_path)}, check=True
    )


# fingerprints


def test_the_fingerprint_is_of_contents_not_places(tmp_path):
    (tmp_path / "there").mkdir()
    here, there = write(tmp_path / "a.txt", "one\n"), write(tmp_path / "there" / "b.txt", "one\n")
    assert corpus_fingerprint(here) == corpus_fingerprint(there) and len(corpus_fingerprint(here)) == 64
    assert corpus_fingerprint(here) == corpus_fingerprint(CorpusSource(files=here.files, streaming=True, column="x"))
    assert corpus_fingerprint(here) != corpus_fingerprint(write(tmp_path / "c.txt", "two\n"))


def test_the_fingerprint_changes_with_what_is_read(tmp_path):
    a, b = (write(tmp_path / f"{name}.jsonl", json.dumps({"text": name})).files[0] for name in "ab")
    sources = [CorpusSource(files=files) for files in ((a,), (b,), (a, b), (b, a), (a, a))]
    sources += [CorpusSource(files=(a,), column="x"), CorpusSource(files=(a,), max_documents=1)]
    sources += [CorpusSource(path="org/x"), CorpusSource(path="org/y"), CorpusSource(path="org/x", name="n")]
    sources += [
        CorpusSource(path="org/x", split="dev"),
        CorpusSource(path="org/x", revision="r"),
        CorpusSource(path="org/x", column="c"),
    ]
    assert len({corpus_fingerprint(source) for source in sources}) == len(sources)


# blocks


def naive_blocks(texts, tokenizer, block_size):
    stream = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ids:
            stream += ([tokenizer.sep_token_id] if stream else []) + ids
    room = block_size - 2
    cuts = [stream[start : start + room] for start in range(0, len(stream), room)]
    return [[tokenizer.cls_token_id, *cut, tokenizer.sep_token_id] for cut in cuts if len(cut) == room]


@pytest.mark.parametrize("block_size", [3, 16, 64])
@pytest.mark.parametrize("texts", [TEXTS, ["\u200b", *TEXTS[:300]], TEXTS[:3] * 200 + ["x" * 500]])
def test_blocks_are_what_the_definition_says(texts, tokenizer, block_size):
    corpus = Dataset.from_dict({"text": texts, "id": range(len(texts))})
    expected = naive_blocks(texts, tokenizer, block_size)
    for blocks in (
        tokenize_corpus(corpus, tokenizer, block_size),
        tokenize_corpus(corpus.to_iterable_dataset(), tokenizer, block_size),
    ):
        rows = list(blocks)
        assert set(rows[0]) == {"input_ids", "attention_mask"}
        assert [list(row["input_ids"]) for row in rows] == expected
        assert {tuple(row["attention_mask"]) for row in rows} == {(1,) * block_size}
        assert [row["input_ids"] for row in blocks] == [row["input_ids"] for row in rows]  # a second time


def test_blocks_take_four_bytes_a_token(tokenizer):
    blocks = tokenize_corpus(Dataset.from_dict({"text": TEXTS}), tokenizer, 64)
    assert blocks.features["input_ids"].feature.dtype == "int32" and blocks.features["attention_mask"].feature.dtype == "int8"


def test_the_tokenizer_is_left_alone_and_its_truncation_ignored(tokenizer, caplog):
    corpus = Dataset.from_dict({"text": [" ".join(TEXTS)]})
    plain = tokenize_corpus(corpus, tokenizer, 32)
    plain, fingerprint = list(plain), plain._fingerprint
    tokenizer(TEXTS[:2], truncation=True, max_length=5, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    again = tokenize_corpus(corpus, tokenizer, 32)
    assert list(again) == plain and again._fingerprint == fingerprint
    assert tokenizer.backend_tokenizer.to_str() == before
    assert "longer than" not in caplog.text
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()


def test_blocks_are_cached_by_text_tokenizer_and_size(tmp_path, tokenizer):
    corpus = load_corpus(write(tmp_path / "a.txt", "\n".join(TEXTS)))
    other = load_corpus(write(tmp_path / "b.txt", "\n".join(TEXTS[1:])))
    first = tokenize_corpus(corpus, tokenizer, 32)
    again = tokenize_corpus(load_corpus(CorpusSource(files=(str(tmp_path / "a.txt"),))), tokenizer, 32)
    assert again.cache_files == first.cache_files
    assert (
        tokenize_corpus(corpus, tokenizer, 16).cache_files
        != first.cache_files
        != tokenize_corpus(other, tokenizer, 32).cache_files
    )


def test_a_stream_is_read_lazily(tokenizer):
    taken = []

    def rows():
        for i in range(100_000):
            taken.append(i)
            yield {"text": TEXTS[i % len(TEXTS)]}

    next(iter(tokenize_corpus(IterableDataset.from_generator(rows), tokenizer, 32)))
    assert 0 < len(taken) < 3000


def test_a_corpus_without_one_block_is_refused(tokenizer):
    corpus = Dataset.from_dict({"text": ["mačka"]})
    for kind in (corpus, corpus.to_iterable_dataset()):
        with pytest.raises(ValueError, match="does not fill one block of 64 tokens"):
            list(tokenize_corpus(kind, tokenizer, 64))


def test_what_does_not_fit_is_refused(tokenizer):
    corpus = Dataset.from_dict({"text": TEXTS})
    for block_size in (2, 65):
        with pytest.raises(ValueError, match=f"block_size {block_size} must be from 3 to the tokenizer's 64"):
            tokenize_corpus(corpus, tokenizer, block_size)
    with pytest.raises(ValueError, match="no cls_token"):
        tokenize_corpus(corpus, PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer), 8)


@pytest.mark.skipif(__version__ >= "5", reason="transformers 5 has no slow BertTokenizer")
def test_slow_tokenizers_are_refused(tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    with pytest.raises(ValueError, match="BertTokenizer is a slow tokenizer"):
        tokenize_corpus(Dataset.from_dict({"text": ["a"]}), BertTokenizer(str(tmp_path / "vocab.txt")), 8)


def test_the_parquet_branch_is_read_by_its_files(tmp_path, monkeypatch):
    """The Hub's own parquet copies lie in configuration/split/ and have no card that would name configurations."""
    for split, text in (("dev", "dobré ráno"), ("devtest", "dobrú noc")):
        folder = tmp_path / "slk_Latn" / split
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"sentence": [text]}), folder / "0000.parquet")
    load, prefix = readers.load_dataset, "hf://datasets/facebook/flores@refs%2Fconvert%2Fparquet"

    def load_from_here(kind, data_files, **arguments):
        assert data_files.startswith(prefix)
        return load(kind, data_files=data_files.replace(prefix, str(tmp_path)), **arguments)

    monkeypatch.setattr(readers, "load_dataset", load_from_here)
    monkeypatch.setattr(readers, "_probe_hub", lambda: None)
    names = {"path": "facebook/flores", "name": "slk_Latn", "split": "dev", "column": "sentence"}
    corpus = load_corpus(CorpusSource(**names, revision="refs/convert/parquet"))
    assert corpus["text"][:] == ["dobré ráno"]


def test_documents_stay_apart_and_are_cut_off(tokenizer, tmp_path, caplog):
    texts = ["one two three", "four", "five " * 50]
    corpus = load_corpus(write(tmp_path / "a.txt", "\n".join(texts) + "\n"))
    rows = tokenize_documents(corpus, tokenizer, 12)
    inner = [tokenizer(text, add_special_tokens=False)["input_ids"][:10] for text in texts]
    assert list(rows["input_ids"]) == [[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id] for ids in inner]
    assert list(rows["length"]) == [len(ids) + 2 for ids in inner] and rows["length"][2] == 12
    assert list(rows["attention_mask"]) == [[1] * length for length in rows["length"]]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    beyond = 100 * (sum(lengths) - sum(map(len, inner))) / sum(lengths)
    assert f"{beyond:.0f} % of the text's tokens are beyond the first 10 of their document, and not read" in caplog.text
    caplog.clear()
    tokenize_documents(corpus, tokenizer, 60)
    assert not caplog.text
