#!/usr/bin/env bash
# Checks and measures what needs a GPU, in about ten minutes on an H100: that trainings, importance and scores are those of a CPU, and how
# fast a step of distillation is. No network is needed. Usage: recipes/gpu_check.sh [FOLDER], which gets the results.
#   PYTHON    with this package's dependencies and pytest (default: python3)
#   OPTIONS   of the benchmark, such as "--models tiny --steps 2" to try this script out
#   MODEL, TASKS   a model and a folder with tc, sa, ner and pos: times all four tasks, three seeds each, with the paper's epochs
#   WORKERS        trainings at once on those tasks (default: 12, all); "1 12" times both
#   EPOCHS         of those tasks, to compare in less time
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
python="${PYTHON:-python3}"
out="${1:-gpu-check}"
if [ -e "$out/benchmark.json" ]; then
    echo "error: $out has results; give another folder" >&2
    exit 2
fi
mkdir -p "$out"
failed=""

check() { # NAME COMMAND...: run it, keep what it says, and go on if it fails
    name="$1"
    shift
    start=$SECONDS
    "$@" >"$out/$name.log" 2>&1 || failed="$failed $name"
    echo "$name: $((SECONDS - start)) s"
    tail -n 3 "$out/$name.log"
}

check machine "$python" -m torch.utils.collect_env
check tests "$python" -m pytest -q -rs -m gpu tests/test_gpu.py
# shellcheck disable=SC2086 # several options
check benchmark "$python" -m hf_lrcompress benchmark gpu --compile --profile "$out/profile.txt" --output "$out/benchmark.json" ${OPTIONS:-}
if [ -n "${MODEL:-}" ]; then
    data=()
    for task in tc sa ner pos; do
        data+=(--task_data "$task=$TASKS/$task")
    done
    for workers in ${WORKERS:-12}; do
        # shellcheck disable=SC2086 # none, or an option with its value
        check "tasks-$workers" "$python" -m hf_lrcompress evaluate --model "$MODEL" --lang sk "${data[@]}" --workers "$workers" \
            ${EPOCHS:+--epochs $EPOCHS} --output_dir "$out/scores-$workers"
    done
fi
if [ -n "$failed" ]; then
    echo "error: failed:$failed; see the .log of each in $out" >&2
    exit 1
fi
