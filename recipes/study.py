# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_lrcompress[demo,eval,figures]"]
#
# [tool.uv.sources]
# hf_lrcompress = { path = ".." }
# ///
"""Compare settings by many runs, as the paper's figures do: `hf-lrcompress study` as a script.

python recipes/study.py alpha --lang sk --scale cpu --train_file train.txt --validation_file validation.txt
"""

import sys

from hf_lrcompress.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["study", *sys.argv[1:]]))
