# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_lrcompress[demo,eval,figures]"]
#
# [tool.uv.sources]
# hf_lrcompress = { path = ".." }
# ///
"""Compress a multilingual encoder into a monolingual one: `hf-lrcompress compress` as a script.

accelerate launch recipes/compress.py --lang sk
uv run recipes/compress.py --lang sk --config demo        # no Hub, no GPU; uv installs what it needs
"""

import sys

from hf_lrcompress.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["compress", *sys.argv[1:]]))
