#!/usr/bin/env bash
# Runs every fuzz target of the workspace, one after another, for a number of inputs:
# Go before 1.27 may fail a target whose time is over (golang/go#75804).
source "$(dirname "$0")/lib.sh"
time=${FUZZTIME:-100000x}
while IFS= read -r dir; do
	cd "$dir"
	while IFS=: read -r file target; do
		package=$(dirname "$file")
		say "fuzzing $target in ${dir#"$root"/}/${package#./} (-fuzztime $time)"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" >"$cache/fuzz.log" 2>&1 || {
			cat "$cache/fuzz.log" >&2
			die "$target failed: the input is above, and in the folder testdata/fuzz of the package; add it to git with the fix"
		}
		grep -E '^fuzz: elapsed' "$cache/fuzz.log" | tail -n 1
	done < <(grep -rHo '^func Fuzz[A-Za-z]*(f ' --include='*_test.go' . | sed 's/func //; s/(f .*//')
done < <(go list -f '{{.Dir}}' -m)
