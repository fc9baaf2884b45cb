#!/usr/bin/env bash
# Removes all that the project made: containers, networks, volumes, built images,
# and what broken test runs left behind. The base images stay.
source "$(dirname "$0")/lib.sh"
docker info >/dev/null 2>&1 || die "the Docker engine does not answer: start it and run this again"
project=${COMPOSE_PROJECT_NAME:-orderflow}
projects=$(docker ps -a --filter label=orderflow.project=true --format '{{.Label "com.docker.compose.project"}}' | sort -u)
for name in $(printf '%s\n' "$project" "$projects" | sort -u); do
	say "removing the project $name"
	for kind in container network volume; do
		case $kind in
		container) list=$(docker ps -aq --filter "label=com.docker.compose.project=$name") ;;
		network) list=$(docker network ls -q --filter "label=com.docker.compose.project=$name") ;;
		volume) list=$(docker volume ls -q --filter "label=com.docker.compose.project=$name") ;;
		esac
		[ -z "$list" ] || { [ $kind = container ] && xargs docker rm -fv <<<"$list" || xargs docker "$kind" rm <<<"$list"; } >/dev/null
	done
done
left=$(docker ps -aq --filter label=orderflow.test=true)
[ -z "$left" ] || { say "removing containers of broken test runs" && xargs docker rm -fv <<<"$left" >/dev/null; }
images=$(docker images -q --filter label=orderflow.project=true | sort -u)
[ -z "$images" ] || { say "removing built images" && xargs docker rmi -f <<<"$images" >/dev/null; }
rm -f "$cache"/built-*
