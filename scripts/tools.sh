#!/usr/bin/env bash
# Builds development tools, pinned in tools/dev, into .bin.
source "$(dirname "$0")/lib.sh"
declare -A package=(
	[gotestsum]=gotest.tools/gotestsum
	[golangci-lint]=github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	[govulncheck]=golang.org/x/vuln/cmd/govulncheck
)
for tool in "$@"; do
	if [ ! -x "$root/.bin/$tool" ] || [ "$root/tools/dev/go.mod" -nt "$root/.bin/$tool" ]; then
		with_progress "building $tool (once)" env GOWORK=off GOBIN="$root/.bin" go -C "$root/tools/dev" install "${package[$tool]}"
		touch "$root/.bin/$tool"
	fi
done
