"""Measure this package beside what it replaces: `hf-lrcompress benchmark` as a script.

python recipes/benchmark.py distillation --text train.txt
"""

import sys

from hf_lrcompress.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["benchmark", *sys.argv[1:]]))
