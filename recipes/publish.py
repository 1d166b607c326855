"""Publish the model of a complete run on the Hugging Face Hub: `hf-lrcompress publish` as a script.

python recipes/publish.py runs/sk-demo ORG/NAME
"""

import sys

from hf_lrcompress.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["publish", *sys.argv[1:]]))
