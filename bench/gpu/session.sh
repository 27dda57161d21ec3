#!/usr/bin/env bash
# Tests, times and profiles xpnn from this clone on a machine with an NVIDIA GPU, without a network and without
# installing anything there:
#
#   bench/gpu/session.sh [--dry-run] tests|bench|profile OUT [WHEELS]
#
# OUT gets STEP.txt, a line for each part with its outcome, seconds and, of a failed one, the last line of its output;
# STEP.log with all output; and what the parts write. WHEELS is a folder of wheels of packages that the machine lacks. MNIST is found through
# XPNN_DATA. A part that fails, takes too long or lacks its program does not stop the others; the exit code is 1 if one
# failed or took too long. Each step ends within STEP_SECONDS; `bench` resumes OUT/bench-results.json if that is
# there. No setting of the device is changed.
set -euo pipefail

# What can be changed from outside, as in WORKLOADS=W3 bench/gpu/session.sh bench OUT; an empty list means none
PYTHON=${PYTHON:-python3}
STEP_SECONDS=${STEP_SECONDS:-560}              # of all parts together: some machines are lent for ten minutes at a time
PATIENCE=${PATIENCE:-1}                        # factor of each part's limit, for a machine that is slow or busy
BACKEND=${BACKEND:-cupy}                       # that is tested, trained and profiled
REFERENCE=${REFERENCE:-numpy}                  # that it is compared with
WORKLOADS=${WORKLOADS-W1 W2 W3 W3a W4}         # of bench, profile and the sanitizers
CONTESTANTS=${CONTESTANTS-all}                 # of bench; all are those that take part on a GPU
TURNS=${TURNS:-5}                              # timed ones of each contestant
RECIPES=${RECIPES-gd-10 mnist-98}              # of the parity
PARITY_STEPS=${PARITY_STEPS:-100}
PARITY_SEEDS=${PARITY_SEEDS:-1}
ACCURACY_RECIPE=${ACCURACY_RECIPE:-mnist-98}   # whose time to an accuracy is taken
ACCURACY_TARGET=${ACCURACY_TARGET:-0.98}       # of the test rows
ACCURACY_SEEDS=${ACCURACY_SEEDS:-0,1,2,3,4}
PYTEST_SECONDS=${PYTEST_SECONDS:-300}
TESTS=${TESTS-tests/backends/cupy/test_plans.py tests/backends/cupy/test_losses.py tests/backends/cupy/test_backend.py tests/backends/cupy/test_failures.py \
  tests/backends/cupy/test_nccl_communicator.py tests/backends/test_contract.py tests/bench/compare/test_contestants.py \
  tests/bench/compare/test_gpu_peers.py}
SANITIZERS=${SANITIZERS-memcheck racecheck}
# Of an epoch under a sanitizer, which is slow; more than a batch. At least 9000, or W1 and W2 do without the persistent
# kernel: it is for two tiles of 32 rows on each of a device's multiprocessors, which is 8448 rows on 132 of them.
SANITIZED_ROWS=${SANITIZED_ROWS:-9000}
PROFILED_KERNELS=${PROFILED_KERNELS:-24}       # of a workload under ncu

usage() {
  echo "usage: $0 [--dry-run] tests|bench|profile OUT [WHEELS]" >&2
  exit 2
}

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=yes; shift; fi
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage; fi
step=$1 out=$(realpath -m "$2") wheels=$(realpath -m "${3:-/nowhere}")
cd "$(dirname "$0")/../.."
until=$(($(date +%s) + STEP_SECONDS))
for folder in /usr/local/cuda/bin /opt/nvidia/nsight-compute/*; do PATH=$PATH:$folder; done

failed=0 job=  # 1 as soon as a part has failed; the process of the running part

# part NAME SECONDS COMMAND...
part() {
  local name=$1 limit=$(($2 * PATIENCE)) left=$((until - $(date +%s))) log=$out/$step.log code=0 outcome absent
  shift 2
  if [ -n "$dry_run" ]; then printf '%s:' "$name"; printf ' %q' "$@"; echo; return; fi
  if [ "$left" -lt "$limit" ]; then limit=$left; fi
  absent=$(missing_program "$@")
  if [ -n "$absent" ]; then outcome="skipped: $absent is not there"
  elif [ "$limit" -le 0 ]; then outcome='skipped: no time is left'
  else
    { printf '\n===== %s:' "$name"; printf ' %q' "$@"; echo; } >>"$log"
    local begin=$SECONDS
    timeout --kill-after 5 "$limit" "$@" </dev/null >>"$log" 2>&1 &  # ends the processes that it has started, too
    job=$!
    wait "$job" || code=$?
    local took=$((SECONDS - begin))
    if [ "$code" -eq 0 ]; then outcome="passed ($took s)"
    elif [ "$took" -ge "$limit" ]; then outcome="stopped after $limit s"
    else outcome="failed: exit code $code ($took s): $(grep '[^[:space:]]' "$log" | tail -n 1)"
    fi
    if [ "$code" -ne 0 ]; then failed=1; fi
  fi
  echo "$name: $outcome" | tee -a "$out/$step.txt"
}

# Print the program, or the package that `python -m` runs, if it is not installed. A missing module of it is a failure.
missing_program() {
  local package=${3:-} find='import sys; from importlib.util import find_spec; sys.exit(not find_spec(sys.argv[1]))'
  if ! command -v "$1" >/dev/null; then echo "$1"
  elif [ "${2:-}" = -m ] && ! "$1" -c "$find" "${package%%.*}"; then echo "${package%%.*}"
  fi
}

# The clone as the package xpnn, with the metadata that an installation would have: its version and its commands.
if [ -z "$dry_run" ]; then
  site=$(mktemp -d)
  set -m  # each part is a job, which Ctrl-C ends with the session
  trap 'kill "$job" 2>/dev/null || true; rm -rf "$site"' EXIT
  mkdir -p "$out" "$site/xpnn" "$site/xpnn-0.dist-info" "$site/wheels"
  for package in nn backends bench; do ln -s "$PWD/$package" "$site/xpnn/$package"; done
  printf 'Metadata-Version: 2.1\nName: xpnn\nVersion: %s\n' \
    "$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)" >"$site/xpnn-0.dist-info/METADATA"
  printf '[xpnn.commands]\nbench = xpnn.bench.compare.command:bench\n\n[pytest11]\nxpnn = xpnn.backends.testing.plugin\n' >"$site/xpnn-0.dist-info/entry_points.txt"
  if [ -d "$wheels" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$site/wheels" "$wheels"/*.whl
  fi
  export PYTHONPATH=$site:$site/wheels${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
fi
cli=("$PYTHON" -c 'from xpnn.nn.cli import main; main()')
pytest=("$PYTHON" -m pytest -q -p no:cacheprovider -W default -o 'addopts=--import-mode=importlib' -m 'not thorough' -k 'not emulated')
one=("$PYTHON" -m xpnn.bench.gpu.one_training --contestant "$BACKEND")

case $step in
  tests)
    part backends 60 "${cli[@]}" backends
    # shellcheck disable=SC2086 # several files
    if [ -n "$TESTS" ]; then part pytest "$PYTEST_SECONDS" "${pytest[@]}" $TESTS; fi
    for recipe in $RECIPES; do
      part "parity-$recipe" 120 "${cli[@]}" parity "$recipe" --backends "$REFERENCE,$BACKEND" \
        --steps "$PARITY_STEPS" --seeds "$PARITY_SEEDS"
    done
    for tool in $SANITIZERS; do
      for workload in $WORKLOADS; do
        part "$tool-$workload" 90 compute-sanitizer --tool "$tool" --error-exitcode 9 \
          "${one[@]}" "$workload" --drawn --rows "$SANITIZED_ROWS" --epochs 1 --turns 1 --no-pool
      done
    done
    ;;
  bench)
    part time-to-accuracy 120 "$PYTHON" -m xpnn.bench.gpu.time_to_accuracy --recipe "$ACCURACY_RECIPE" \
      --target "$ACCURACY_TARGET" --backend "$BACKEND" --seeds "$ACCURACY_SEEDS" --out "$out/time-to-accuracy.json"
    bench=("${cli[@]}" bench --gpu --workloads "${WORKLOADS// /,}" --epochs "$TURNS")
    if [ "$CONTESTANTS" != all ]; then bench+=(--contestants "${CONTESTANTS// /,}"); fi
    if [ -e "$out/bench-results.json" ]; then bench+=(--resume); else bench+=(--out); fi
    if [ -n "$WORKLOADS" ] && [ -n "$CONTESTANTS" ]; then
      part bench "$STEP_SECONDS" "${bench[@]}" "$out/bench-results.json"
    fi
    ;;
  profile)
    for workload in $WORKLOADS; do part "steps-$workload" 60 "${one[@]}" "$workload"; done
    for workload in $WORKLOADS; do
      short=("${one[@]}" "$workload" --epochs 1 --turns 1 --profile)
      part "ncu-$workload" 90 ncu --clock-control none --profile-from-start off --launch-count "$PROFILED_KERNELS" \
        --section SpeedOfLight --section LaunchStats --section Occupancy --section MemoryWorkloadAnalysis "${short[@]}"
      part "nsys-$workload" 60 nsys profile --capture-range cudaProfilerApi --trace cuda --cuda-graph-trace node \
        --stats true --output "${site:-SITE}/$workload" "${short[@]}"
    done
    ;;
  *) usage ;;
esac
exit "$failed"
