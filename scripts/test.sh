#!/usr/bin/env bash
# Runs every test of the workspace. A test that skips fails the run in CI.
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh"
need_packages gcc gcc # the race detector is cgo

test_environment
remove_leftovers

cd "$root"
"$(dirname "$0")/tools.sh" gotestsum
say "running all tests (about 20 min)"
run() { # REPORT ARGUMENTS...: a test that skips fails the run
	local report=$1 skipped
	shift
	"$root/.bin/gotestsum" --format pkgname --jsonfile "$report" -- -count=1 -timeout 30m "$@"
	skipped=$(grep -c '"Action":"skip","Package":"[^"]*","Test"' "$report" || true)
	[ "$skipped" = 0 ] || die "$skipped tests were skipped: a skipped test shows nothing"
}
(
	cd "$root/pkg/watermill" # outside the workspace
	GOWORK=off run "$cache/tests-watermill.json" ./... # its TestReconnect has a data race of its own
)
run "$cache/tests.json" -race work
