#!/usr/bin/env bash
# Starts the whole system, or with arguments only these services, and waits until it is ready.
# WITH names the overlays.
source "$(dirname "$0")/lib.sh"
project=${COMPOSE_PROJECT_NAME:-orderflow}
lock "up-$project"
choose_overlays "${WITH:-}"
"$(dirname "$0")/needs.sh"

# If another program uses one of our ports, Docker's error would not name the variable.
for name in $(cd "$root" && compose_files | xargs grep -hoE '[A-Z_]+_PORT:-[0-9]+' | sort -u); do
	variable=${name%:-*} port=${!variable:-}
	port=${port:-${name#*:-}}
	ours=$(docker ps --filter "label=com.docker.compose.project=$project" --filter "publish=$port" -q)
	if [ "$port" != 0 ] && [ -z "$ours" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
		die "port $port is in use by another program: stop it, or choose another port with $variable=... make up"
	fi
done

# Compose takes half a minute for a build without changes, so a hash shows whether to build.
# Overlays use the same images.
sources=$(cd "$root" && { cat .dockerignore deploy/compose/compose.yaml; setting GO_IMAGE; find go.work go.work.sum pkg contract services tools deploy/compose/images -type f ! -name '*_test.go' ! -path '*/testdata/*' -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -c 1-16)
stamp="$cache/built-$project"
VERSION=${VERSION:-$(git -C "$root" describe --always --dirty 2>/dev/null || echo "$sources")}
export VERSION # the version that the services report
# built prints the images that exist. Another tree may build images with the same project name.
built() {
	local images
	mapfile -t images < <(compose config --images | grep "^$project/" | sort -u)
	docker image inspect --format '{{.Id}}' "${images[@]}" 2>/dev/null && echo "$sources"
}
if ! now=$(built) || [ "$now" != "$(cat "$stamp" 2>/dev/null)" ]; then
	with_progress "building the images of the services (2 to 4 min the first time)" compose build
	built >"$stamp"
else
	say "the images of the services are up to date"
fi

with_progress "starting${*:+ $*}${WITH:+ with $WITH}" compose up --detach --no-build --wait --wait-timeout 180 --remove-orphans "$@"
