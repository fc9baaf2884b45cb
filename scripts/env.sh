#!/usr/bin/env bash
# Prints the variables that tests need, for a shell:
#
#	eval "$(scripts/env.sh)"
#	go test -race -run TestName ./...
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh" >&2
test_environment
for name in RABBITMQ_IMAGE POSTGRES_IMAGE GOFLAGS TESTCONTAINERS_HOST_OVERRIDE TESTCONTAINERS_RYUK_DISABLED; do
	[ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
done
