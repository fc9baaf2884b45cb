#!/usr/bin/env bash
# Runs the chaos drill against containers of its own. What it found goes to
# .cache/chaos-report, or to the folder REPORT of the repository: a run that is to be kept
# says REPORT=docs.
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh"
remove_leftovers
case ${WITH:-} in
"") ;;
cluster) with_cluster=yes ;;
*) die "the drill runs with one broker, or WITH=cluster" ;;
esac
out="$root/${REPORT:-.cache/chaos-report}"
mkdir -p "$out"
cd "$root/e2e"
go build -o "$cache/chaos" ./chaos
"$cache/chaos" -out "$out" ${SEED:+-seed "$SEED"} ${DURATION:+-duration "$DURATION"} ${RATE:+-rate "$RATE"} ${ONLY:+-only "$ONLY"} ${with_cluster:+-cluster}
