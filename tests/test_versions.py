"""What one of transformers 4 and 5 saves, the other loads: the same model, the same tokenizer.

LRCOMPRESS_OTHER_PYTHON is the Python of an environment with the other version.
"""

import json
import os
import subprocess

import pytest
import torch
import version_files
from safetensors.torch import load_file


@pytest.fixture(scope="module", params=["the other reads", "the other writes"])
def directory(request, tmp_path_factory):
    if "LRCOMPRESS_OTHER_PYTHON" not in os.environ:
        pytest.skip("LRCOMPRESS_OTHER_PYTHON, the Python of an environment with the other transformers, is not set")
    directory = tmp_path_factory.mktemp("files")
    other = [os.environ["LRCOMPRESS_OTHER_PYTHON"], version_files.__file__]
    if request.param == "the other reads":
        version_files.write(directory)
        subprocess.run([*other, "read", directory], check=True)
    else:
        subprocess.run([*other, "write", directory], check=True)
        version_files.read(directory)
    return directory


@pytest.mark.parametrize("family", version_files.FAMILIES)
def test_a_compressed_model_and_its_tokenizer_are_the_same_in_both_versions(family, directory):
    config = json.loads((directory / family / "config.json").read_text())
    loaded = json.loads((directory / family / "loaded.json").read_text())
    majors = {version.partition(".")[0] for version in (config["transformers_version"], loaded["transformers"])}
    assert majors == {"4", "5"}
    assert loaded["class"] == config["architectures"][0] and not any(loaded["strange"].values())
    written, read = (load_file(directory / family / f"{name}.safetensors") for name in ("written", "read"))
    assert torch.equal(read["input_ids"], written["input_ids"])
    torch.testing.assert_close(read["logits"], written["logits"], rtol=1e-5, atol=1e-5)
