#!/usr/bin/env bash
# Injects faults into a system of containers that it starts, and checks the results. The report
# is written to .cache/chaos-report, or to the folder REPORT of the repository: use REPORT=docs
# for a report that is to be committed.
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh"
remove_leftovers
case ${WITH:-} in
"") ;;
cluster) with_cluster=yes ;;
*) die "make chaos runs with one broker, or WITH=cluster" ;;
esac
out="$root/${REPORT:-.cache/chaos-report}"
mkdir -p "$out"
cd "$root/e2e"
go build -o "$cache/chaos" ./chaos
"$cache/chaos" -out "$out" ${SEED:+-seed "$SEED"} ${DURATION:+-duration "$DURATION"} ${RATE:+-rate "$RATE"} ${ONLY:+-only "$ONLY"} ${with_cluster:+-cluster}
