#!/usr/bin/env bash
# Runs the chaos drill against containers of its own, and writes what it found to docs/.
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh"
remove_leftovers
case ${WITH:-} in
"") ;;
cluster) with_cluster=yes ;;
*) die "the drill runs with one broker, or WITH=cluster" ;;
esac
cd "$root/e2e"
go build -o "$cache/chaos" ./chaos
"$cache/chaos" -out "$root/docs" ${SEED:+-seed "$SEED"} ${DURATION:+-duration "$DURATION"} ${RATE:+-rate "$RATE"} ${ONLY:+-only "$ONLY"} ${with_cluster:+-cluster}
