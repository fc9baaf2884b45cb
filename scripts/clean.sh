#!/usr/bin/env bash
# Removes all that the project made: containers, networks, volumes, built images,
# and what broken test runs left behind. The base images stay.
source "$(dirname "$0")/lib.sh"
docker info >/dev/null 2>&1 || die "the Docker engine does not answer: start it and run this again"
project=${COMPOSE_PROJECT_NAME:-orderflow}
say "removing the project $project and what tests left"
remove_project "$project"
remove_leftovers
