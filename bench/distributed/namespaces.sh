#!/usr/bin/env bash
# Runs an MPI program on several hosts that are network namespaces of this machine, joined by links of a set latency and
# bandwidth, a rank on each, which has one core:
#
#   bench/distributed/namespaces.sh RANKS LINK COMMAND...
#   bench/distributed/namespaces.sh 2 "1 Gbit/s, 100 us" python -m xpnn.bench.distributed sums
#
# It needs Linux, root, iproute2 and MPICH's mpiexec, which takes part in the network itself. At the end it prints on
# stderr how many bytes each host received and sent: the ranks have no other way to each other.
set -euo pipefail

if [ $# -lt 3 ]; then echo "usage: $0 RANKS LINK COMMAND..." >&2; exit 2; fi
ranks=$1 link=$2
shift 2
PYTHON=${PYTHON:-python3}

folder=$(mktemp -d)
network='' job=''
# shellcheck disable=SC2329 # the trap calls it
finish() {
  for process in $job $network; do  # the ranks before the network that they end by
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

"$PYTHON" -u -m xpnn.bench.distributed.link --hosts "$ranks" --link "$link" >"$folder/ready" &
network=$!
until [ -s "$folder/ready" ]; do
  kill -0 "$network" 2>/dev/null || { network=''; exit 1; }
  sleep 0.1
done

# What mpiexec calls in place of ssh: LAUNCHER [-x] HOST COMMAND...
cat >"$folder/launcher" <<'LAUNCHER'
#!/usr/bin/env bash
if [ "$1" = -x ]; then shift; fi
number=$((${1##*.} - 1))
shift
exec ip netns exec "xpnn-host$number" taskset -c "$((number % CORES))" sh -c "$*" </dev/null
LAUNCHER
chmod +x "$folder/launcher"

hosts=$(seq -s, -f '10.77.0.%g' "$ranks")
# UCX would find that the hosts are one machine, and go through its memory.
# The rank on its own host mpiexec starts without the launcher.
CORES=$(nproc)
export CORES UCX_TLS=tcp,self UCX_NET_DEVICES=all
code=0
ip netns exec xpnn-host0 taskset -c 0 mpiexec -launcher ssh -launcher-exec "$folder/launcher" \
  -hosts "$hosts" -n "$ranks" "$@" &
job=$!
wait "$job" || code=$?
job=''
for number in $(seq 0 $((ranks - 1))); do
  statistics=/sys/class/net/xpnn$number/statistics
  # A namespace's own /sys: ip netns exec mounts it.
  received=$(ip netns exec "xpnn-host$number" cat "$statistics/rx_bytes")
  sent=$(ip netns exec "xpnn-host$number" cat "$statistics/tx_bytes")
  echo "host $number: $received bytes received, $sent sent" >&2
done
exit "$code"
