#!/usr/bin/env bash
# Makes the three base images available: pulls the official ones. If no registry can be reached,
# it builds stand-ins from distribution packages and writes their names to the git-ignored .env.
source "$(dirname "$0")/lib.sh"

standin_tag=3 # raise it when deploy/compose/images/standin changes
declare -A standin=([RABBITMQ_IMAGE]=rabbitmq [POSTGRES_IMAGE]=postgres [GO_IMAGE]=golang)
# Optional settings; empty means the defaults of the tools.
suite=${STANDIN_SUITE:-forky}
mirror=${STANDIN_MIRROR:-}

wanted_go=$(sed -n 's/^go //p' "$root/go.work")
lock images

have() { docker image inspect "$1" >/dev/null 2>&1; }

# go_of IMAGE: the version of its Go, or none.
go_of() {
	local version
	version=$(docker run --rm --network none --entrypoint go "$1" env GOVERSION 2>/dev/null) || true
	[[ $version == go[0-9]* ]] && echo "${version#go}" || echo none
}

# usable NAME IMAGE: whether the image exists here and can be used. It cannot be used if its Go is
# older than go.work requires, or if it is a stand-in of an earlier recipe.
usable() {
	have "$2" || return
	[[ $2 != orderflow-standin/* || $2 == *:$standin_tag ]] || return
	[ "$1" = GO_IMAGE ] || return 0
	local its
	its=$(go_of "$2")
	[ "$its" != none ] && [ "$(printf '%s\n' "$wanted_go" "$its" | sort -V | head -n 1)" = "$wanted_go" ]
}

# All three stand-ins have the same root file system. Each image is imported from it, with the
# settings that a Dockerfile would have, which takes seconds.
build_standins() {
	local tar="$cache/rootfs.tar" files="$root/deploy/compose/images/standin"
	mmdebstrap --variant=minbase \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--include=rabbitmq-server,postgresql-18,golang-1.26-go,ca-certificates,curl \
		--customize-hook="copy-in '$files/rabbitmq-entrypoint' '$files/postgres-entrypoint' /usr/local/bin" \
		--customize-hook='echo "[rabbitmq_management,rabbitmq_prometheus]." >"$1/etc/rabbitmq/enabled_plugins"' \
		--customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
		--customize-hook='rm -f "$1/var/lib/rabbitmq/.erlang.cookie"' \
		"$suite" "$tar" ${mirror:+"$mirror"}
	import rabbitmq "$tar" 'ENV RABBITMQ_LOGS=-' 'ENV HOME=/var/lib/rabbitmq' 'EXPOSE 5672 15672 15692' \
		'ENTRYPOINT ["/usr/local/bin/rabbitmq-entrypoint"]' 'CMD ["rabbitmq-server"]'
	import postgres "$tar" 'ENV PGDATA=/var/lib/postgresql/18/docker' 'ENV PGHOST=/tmp' 'ENV LANG=C.UTF-8' 'EXPOSE 5432' \
		'ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]' 'CMD ["postgres"]'
	import golang "$tar" 'ENV GOPATH=/go' 'ENV GOTOOLCHAIN=local' 'WORKDIR /go'
	rm -f "$tar"
}

# import NAME TAR SETTING...
import() {
	local name=$1 tar=$2 changes=(--change 'LABEL orderflow.standin=true')
	changes+=(--change 'ENV PATH=/usr/lib/rabbitmq/bin:/usr/lib/postgresql/18/bin:/usr/lib/go-1.26/bin:/usr/sbin:/usr/bin:/sbin:/bin')
	shift 2
	for change in "$@"; do changes+=(--change "$change"); done
	docker import "${changes[@]}" "$tar" "orderflow-standin/$name:$standin_tag"
}

missing=()
for name in RABBITMQ_IMAGE POSTGRES_IMAGE GO_IMAGE; do
	image=$(setting "$name")
	if usable "$name" "$image"; then continue; fi
	chosen=true # by the user, in the environment or in .env
	[[ $image == orderflow-standin/* || $image == "$(sed -n "s/^$name=//p" "$tracked_env")" ]] && chosen=false
	if [[ $image != orderflow-standin/* ]] && { $chosen || ((${#missing[@]} == 0)); }; then
		say "pulling $image"
		if timeout "${PULL_TIMEOUT:-300}" docker pull -q "$image" 2>"$cache/pull.log" >/dev/null && usable "$name" "$image"; then continue; fi
	fi
	if $chosen && have "$image"; then die "$name is $image, which cannot build: its Go is $(go_of "$image"), and go.work asks for $wanted_go; choose another image, or none"; fi
	if $chosen; then die "$name is $image, which is not here and cannot be pulled ($(tail -n 1 "$cache/pull.log")): choose another image, or none"; fi
	missing+=("$name")
done
((${#missing[@]} == 0)) && exit 0

say "no image registry answers for: ${missing[*]}; building local stand-ins from distribution packages instead"
need_packages mmdebstrap mmdebstrap
ready=true
for name in "${missing[@]}"; do usable "$name" "orderflow-standin/${standin[$name]}:$standin_tag" || ready=false; done
$ready || with_progress "installing RabbitMQ, PostgreSQL and Go into a root file system (about 90 s)" build_standins
touch "$local_env"
for name in "${missing[@]}"; do
	image="orderflow-standin/${standin[$name]}:$standin_tag"
	usable "$name" "$image" || die "the stand-in $image has Go $(go_of "$image"), and go.work asks for $wanted_go: set STANDIN_SUITE to a newer suite"
	{ grep -v "^$name=" "$local_env" || true; echo "$name=$image"; } >"$local_env.new"
	mv "$local_env.new" "$local_env"
done
say "stand-ins are ready; their names are in .env, delete that file to go back to the official images"
