# Common functions and paths, sourced by the other scripts.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="$root/.cache"
tracked_env="$root/deploy/compose/.env"
local_env="$root/.env" # git-ignored; plain `docker compose` in the root reads it too
mkdir -p "$cache"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
	printf '\033[31merror:\033[0m %s\n' "$*" >&2
	exit 1
}

# setting NAME: prints its value from the environment, the local file or the tracked one.
setting() {
	if [ -n "${!1:-}" ]; then
		echo "${!1}"
		return
	fi
	{ cat "$tracked_env" "$local_env" 2>/dev/null || true; } | sed -nE "s/^$1=[\"']?([^\"']*)[\"']?\$/\1/p" | tail -n 1
}

# lock NAME: waits until no other run in this tree holds the lock, and holds it until
# this shell ends.
lock() {
	local fd
	exec {fd}>"$cache/$1.lock"
	flock -n "$fd" && return
	say "waiting for another run in this tree ($1)"
	flock "$fd"
}

# take_machine waits until no other system of containers runs on this machine, and takes the
# same lock as e2e/internal/machine until this shell ends.
take_machine() {
	local fd file="${TMPDIR:-/tmp}/orderflow-machine.lock"
	[ -e "$file" ] || (umask 022 && : >>"$file")
	exec {fd}<"$file"
	flock -n "$fd" && return
	say "waiting for another run on this machine"
	flock "$fd"
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

# with_progress TEXT COMMAND...: runs a long step and prints a line every 15 s. Its output goes to
# a log, whose end is shown if the step fails. An interrupt also ends the step, which would
# otherwise continue: a background command of a shell ignores Ctrl-C.
with_progress() {
	local text=$1 log started pid
	shift
	log=$(mktemp "$cache/step-XXXXXX.log")
	started=$SECONDS
	say "$text"
	set -m # its own process group
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	trap 'kill -- "-$pid" 2>/dev/null; wait; exit 130' INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		(((SECONDS - started) % 15 == 14)) && printf '    ... %s s: %s\n' "$((SECONDS - started))" "$(tail -n 1 "$log" | tr '\r' '\n' | tail -n 1 | cut -c 1-100)"
	done
	if ! wait "$pid"; then
		tail -n 30 "$log" >&2
		die "$text: failed; the last lines are above, all of it is in $log"
	fi
	trap - INT TERM HUP
	rm -f "$log"
	printf '    done in %s s\n' "$((SECONDS - started))"
}

# An overlay is a file deploy/compose/NAME.yaml; ONE+OTHER.yaml is used if both are chosen. The
# overlays of `make up WITH=...` are stored, so that later commands use the same files.
with="$cache/with-${COMPOSE_PROJECT_NAME:-orderflow}"

# choose_overlays NAMES: stores the overlays, separated by commas or spaces; without names, none.
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
	echo "${chosen[*]}" >"$with"
}

# compose_files prints the files that compose reads, relative to the root; compose.yaml includes the first.
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

# compose is `docker compose` for the project, with the plugin in .cache if no other is installed.
# OVERLAYS are further files, for this call only.
compose() {
	local plugin="$cache/compose/docker-compose" command=(docker compose) file
	if [ -x "$plugin" ] && ! docker compose version >/dev/null 2>&1; then
		command=("$plugin")
	fi
	command+=(-f compose.yaml)
	for file in $(compose_files | tail -n +2) ${OVERLAYS:-}; do command+=(-f "$file"); done
	(cd "$root" && "${command[@]}" "$@")
}

# fetch_compose extracts the plugin from the distribution's package. The file gets its final name
# when it is complete and runs.
fetch_compose() {
	local new="$cache/compose.new"
	rm -rf "$new"
	mkdir -p "$new" "$cache/compose"
	mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
		--include=docker-compose "${STANDIN_SUITE:-forky}" "$new/compose.tar" ${STANDIN_MIRROR:+"$STANDIN_MIRROR"}
	tar -xf "$new/compose.tar" -C "$new" --strip-components 5 ./usr/libexec/docker/cli-plugins/docker-compose
	"$new/docker-compose" version
	mv "$new/docker-compose" "$cache/compose/docker-compose"
	rm -rf "$new"
}

# test_environment exports the variables that tests need.
test_environment() {
	RABBITMQ_IMAGE=$(setting RABBITMQ_IMAGE)
	POSTGRES_IMAGE=$(setting POSTGRES_IMAGE)
	export RABBITMQ_IMAGE POSTGRES_IMAGE GOFLAGS=-buildvcs=false
	# If the file /.dockerenv exists, testcontainers looks for containers at the default
	# gateway; but their ports are published on this machine.
	export TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1
	if [[ $RABBITMQ_IMAGE == orderflow-standin/* ]]; then
		# The reaper of testcontainers would need another image. Tests remove what they
		# start; `make test` and `make clean` remove what an interrupted run left.
		export TESTCONTAINERS_RYUK_DISABLED=true
	fi
}

# place identifies the boot of this machine and the namespace of process ids, as in
# pkg/messaging/messagingtest/owner. A pid is unique only there.
place() {
	local boot namespace
	if boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) && namespace=$(readlink /proc/self/ns/pid); then
		printf '%s %s\n' "$boot" "$namespace" | sha256sum | cut -c 1-8
	else
		echo nowhere
	fi
}

# Nothing that a test starts is used for longer than this: `make chaos` takes at most 12 h.
leftover_hours=24

# is_gone OWNER CREATED: whether the process PLACE-PID is known to have ended. A process of another
# container, another machine or an earlier boot cannot be checked: it counts as ended if its
# newest object, of the time CREATED, is older than anything is used.
is_gone() {
	local pid=${1##*-} there=${1%-*}
	if [ "${there##*-}" = "$(place)" ] && [ -d /proc/1 ]; then # with hidepid, processes of others cannot be seen, nor process 1
		[ ! -d "/proc/$pid" ]
	else
		[ -n "$2" ] && (($(date +%s) - $(date -d "$2" +%s) > leftover_hours * 3600))
	fi
}

# newest ID...: prints when the newest of these Docker objects was made, or nothing if one of them
# does not exist any more.
newest() {
	[ $# = 0 ] || docker inspect "$@" 2>/dev/null | sed -nE 's/^ +"(Created|CreatedAt|LastTagTime)": "([^"]+)".*/\2/p' | sort | tail -n 1
}

# remove_leftovers removes what tests have left behind whose process has ended. It does not touch
# the objects of runs that are still going on.
remove_leftovers() {
	local id owner project ids
	while read -r id owner; do
		if is_gone "$owner" "$(newest "$id")"; then docker rm -fv "$id" >/dev/null; fi
	done < <(docker ps -a --filter label=messagingtest.owner --format '{{.ID}} {{.Label "messagingtest.owner"}}')
	while read -r id owner; do
		if is_gone "$owner" "$(newest "$id")"; then docker network rm "$id" >/dev/null 2>&1 || true; fi
	done < <(docker network ls --filter label=messagingtest.owner --format '{{.ID}} {{.Label "messagingtest.owner"}}')
	while read -r project; do
		mapfile -t ids < <(project_objects "$project")
		if is_gone "$project" "$(newest "${ids[@]}")"; then remove_project "$project"; fi
	done < <({
		for kind in "ps -a" "volume ls" "network ls"; do
			# shellcheck disable=SC2086 # two words
			docker $kind --format '{{.Label "com.docker.compose.project"}}'
		done
		docker images --format '{{.Repository}}' | sed -n 's|/.*||p'
	} | grep '^orderflow-test-' | sort -u)
}

# project_objects PROJECT lists its containers, networks, volumes and images.
project_objects() {
	local mine="label=com.docker.compose.project=$1"
	docker ps -aq --filter "$mine"
	docker network ls -q --filter "$mine"
	docker volume ls -q --filter "$mine"
	docker images --filter dangling=false --format '{{.Repository}}:{{.Tag}}' "$1/*"
}

# remove_project removes a compose project's containers, networks, volumes and images.
remove_project() {
	local mine="label=com.docker.compose.project=$1"
	docker ps -aq --filter "$mine" | xargs -r docker rm -fv >/dev/null
	docker network ls -q --filter "$mine" | xargs -r docker network rm >/dev/null
	docker volume ls -q --filter "$mine" | xargs -r docker volume rm >/dev/null
	# By name, since others may have given the same image other names.
	docker images --filter dangling=false --format '{{.Repository}}:{{.Tag}}' "$1/*" | xargs -r docker rmi >/dev/null
	# Images whose name a newer build has taken, and that no container uses.
	docker image prune --force --filter "$mine" >/dev/null
	rm -f "$cache/built-$1" "$cache/with-$1"
}
