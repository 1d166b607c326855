"""Score models on the paper's tasks: `hf-lrcompress evaluate` as a script.

python recipes/evaluate.py --model DIR_OR_ID --model ANOTHER --lang sk --tasks tc,pos --task_data tc=DIR
"""

import sys

from hf_lrcompress.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["evaluate", *sys.argv[1:]]))
