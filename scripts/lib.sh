# Sourced by the other scripts: how they speak, and where things are.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="$root/.cache"
tracked_env="$root/deploy/compose/.env"
local_env="$root/.env" # git-ignored; plain `docker compose` in the root reads it too

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
	printf '\033[31merror:\033[0m %s\n' "$*" >&2
	exit 1
}

# setting NAME: its value from the environment, the local file or the tracked one.
setting() {
	if [ -n "${!1:-}" ]; then
		echo "${!1}"
		return
	fi
	{ cat "$tracked_env" "$local_env" 2>/dev/null || true; } | sed -n "s/^$1=//p" | tail -n 1
}

# need_packages COMMAND PACKAGE: installs a Debian package for a missing command.
need_packages() {
	command -v "$1" >/dev/null && return
	command -v apt-get >/dev/null || die "$1 is missing: install it (Debian's package: $2) and run this again"
	local sudo=""
	[ "$(id -u)" = 0 ] || sudo="sudo"
	say "installing $2 (for $1)"
	$sudo apt-get update -qq && $sudo apt-get install -y -qq "$2" >/dev/null || die "could not install $2: install it by hand and run this again"
}

# with_progress TEXT COMMAND...: runs a long step, with a line every 15 s, its
# output to a log that is shown when it fails.
with_progress() {
	local text=$1 log started
	shift
	mkdir -p "$cache"
	log="$cache/step.log"
	started=$SECONDS
	say "$text"
	"$@" >"$log" 2>&1 &
	local pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		(((SECONDS - started) % 15 == 14)) && printf '    ... %s s: %s\n' "$((SECONDS - started))" "$(tail -n 1 "$log" | tr '\r' '\n' | tail -n 1 | cut -c 1-100)"
	done
	if ! wait "$pid"; then
		tail -n 30 "$log" >&2
		die "$text: failed; the last lines are above, all of it is in $log"
	fi
	printf '    done in %s s\n' "$((SECONDS - started))"
}

# An overlay is a file deploy/compose/NAME.yaml beside compose.yaml; ONE+OTHER.yaml is
# what two of them need together. Those that `make up WITH=...` names are remembered, so
# that later commands act on the same files.
with="$cache/with-${COMPOSE_PROJECT_NAME:-orderflow}"

# choose_overlays NAMES: remembers the overlays, separated by commas or spaces; none forgets them.
choose_overlays() {
	local name there chosen=()
	there=$(cd "$root/deploy/compose" && for name in *.yaml; do [[ "$name" = compose.yaml || "$name" = *+* ]] || echo "${name%.yaml}"; done | xargs)
	for name in ${1//,/ }; do
		[[ " $there " == *" $name "* ]] || die "there is no overlay $name; there is: ${there:-none}"
		[[ " ${chosen[*]} " == *" $name "* ]] || chosen+=("$name")
	done
	if [[ " ${chosen[*]} " == *" federation "* && ${#chosen[@]} -gt 1 ]]; then
		die "the overlay federation has two brokers of its own, and goes with no other"
	fi
	mkdir -p "$cache"
	echo "${chosen[*]}" >"$with"
}

# compose_files are the files that compose reads, relative to the root, the first included by compose.yaml.
compose_files() {
	local name other chosen
	chosen=$(cat "$with" 2>/dev/null || true)
	echo deploy/compose/compose.yaml
	for name in $chosen; do echo "deploy/compose/$name.yaml"; done
	for name in $chosen; do
		for other in $chosen; do
			if [ -f "$root/deploy/compose/$name+$other.yaml" ]; then echo "deploy/compose/$name+$other.yaml"; fi
		done
	done
}

# compose is `docker compose` of the project, by the plugin in .cache if there is no
# other. OVERLAYS are further files, for this call only.
compose() {
	local plugin="$cache/compose/docker-compose" command=(docker compose) file
	if [ -x "$plugin" ] && ! docker compose version >/dev/null 2>&1; then
		command=("$plugin")
	fi
	command+=(-f compose.yaml)
	for file in $(compose_files | tail -n +2) ${OVERLAYS:-}; do command+=(-f "$file"); done
	(cd "$root" && "${command[@]}" "$@")
}

# fetch_compose takes the plugin out of the distribution's package.
fetch_compose() {
	local tar="$cache/compose.tar"
	mkdir -p "$cache/compose"
	mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
		--include=docker-compose "${STANDIN_SUITE:-forky}" "$tar" ${STANDIN_MIRROR:+"$STANDIN_MIRROR"}
	tar -xf "$tar" -C "$cache/compose" --strip-components 5 ./usr/libexec/docker/cli-plugins/docker-compose
	rm -f "$tar"
	"$cache/compose/docker-compose" version
}

# remove_leftovers removes what tests started whose process is gone. A run that
# goes on at the same time keeps its own.
remove_leftovers() {
	local id pid project
	while read -r id pid; do
		if [ -n "$id" ] && ! kill -0 "$pid" 2>/dev/null; then
			docker rm -fv "$id" >/dev/null
		fi
	done < <(docker ps -a --filter label=orderflow.test --format '{{.ID}} {{.Label "orderflow.test"}}')
	while read -r project; do
		if ! kill -0 "${project##*-}" 2>/dev/null; then
			remove_project "$project"
		fi
	done < <(docker volume ls --format '{{.Label "com.docker.compose.project"}}' | grep '^orderflow-test-' | sort -u)
}

# remove_project removes a compose project's containers, networks, volumes and images.
remove_project() {
	local mine="label=com.docker.compose.project=$1"
	docker ps -aq --filter "$mine" | xargs -r docker rm -fv >/dev/null
	docker network ls -q --filter "$mine" | xargs -r docker network rm >/dev/null
	docker volume ls -q --filter "$mine" | xargs -r docker volume rm >/dev/null
	docker images -q "$1/*" | sort -u | xargs -r docker rmi -f >/dev/null
	# Images that a newer build has taken the name of.
	docker images -q --filter label=orderflow.project=true --filter dangling=true | xargs -r docker rmi -f >/dev/null
	rm -f "$cache/built-$1" "$cache/with-$1"
}
