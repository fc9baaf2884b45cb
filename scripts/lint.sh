#!/usr/bin/env bash
# Formatting, vet, linters, module versions, known vulnerabilities.
source "$(dirname "$0")/lib.sh"
cd "$root"
"$(dirname "$0")/tools.sh" golangci-lint govulncheck
mapfile -t modules < <(go list -f '{{.Dir}}' -m)
alone=("$root/pkg/watermill") # outside the workspace

say "gofmt"
unformatted=$(git ls-files -coz --exclude-standard '*.go' | xargs -0 gofmt -l)
[ -z "$unformatted" ] || die "gofmt wants: $unformatted"

say "every module builds alone"
for dir in "${modules[@]}" "${alone[@]}"; do
	(cd "$dir" && GOWORK=off go build ./... && GOWORK=off go vet ./...) || die "${dir#"$root"/} does not build alone: run \`make tidy\`"
done

say "no module in two versions"
twice=$(grep -hE '^\s+\S+ v\S+|^require \S+ v\S+' "${modules[@]/%//go.mod}" | grep -v example.com/orderflow | sed -E 's/^(require)?\s*//; s/ *\/\/.*//' | sort -u | awk '{print $1}' | uniq -d)
[ -z "$twice" ] || die "in two versions: $twice (run \`make tidy\`)"

say "golangci-lint"
.bin/golangci-lint run "${modules[@]/%//...}"
for dir in "${alone[@]}"; do
	(cd "$dir" && GOWORK=off "$root/.bin/golangci-lint" run ./...)
done

say "govulncheck"
for dir in "${modules[@]}"; do
	if ! out=$(cd "$dir" && GOWORK=off "$root/.bin/govulncheck" ./... 2>&1); then
		if grep -qE 'no such host|dial tcp|fetching vulnerabilities|i/o timeout' <<<"$out"; then
			say "govulncheck was NOT run: its database cannot be reached"
			break
		fi
		printf '%s\n' "$out" >&2
		die "known vulnerabilities in ${dir#"$root"/}"
	fi
done
say "lint is clean"
