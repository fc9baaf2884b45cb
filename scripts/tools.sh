#!/usr/bin/env bash
# Builds development tools, pinned in tools/dev, into .bin.
source "$(dirname "$0")/lib.sh"
declare -A package=(
	[gotestsum]=gotest.tools/gotestsum
	[golangci-lint]=github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	[govulncheck]=golang.org/x/vuln/cmd/govulncheck
)
bin="$root/.bin"
lock tools

# build PACKAGE NAME: builds to a temporary name, so that a tool with its final name is complete.
build() {
	rm -rf "$bin/new"
	GOWORK=off GOBIN="$bin/new" go -C "$root/tools/dev" install "$1"
	mv "$bin/new/$2" "$bin/$2"
}

# The versions of a tool, of its dependencies and of Go.
from=$(cd "$root/tools/dev" && { go version && cat go.mod go.sum; } | sha256sum | cut -c 1-16)
for tool in "$@"; do
	if [ ! -x "$bin/$tool" ] || [ "$(cat "$bin/$tool.from" 2>/dev/null)" != "$from" ]; then
		with_progress "building $tool (once)" build "${package[$tool]}" "$tool"
		echo "$from" >"$bin/$tool.from"
	fi
done
