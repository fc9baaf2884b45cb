#!/usr/bin/env bash
# Removes everything that the project made: containers, networks, volumes, built images, and
# what interrupted test runs left behind. The base images are kept.
source "$(dirname "$0")/lib.sh"
docker info >/dev/null 2>&1 || die "the Docker engine does not answer: start it and run this again"
project=${COMPOSE_PROJECT_NAME:-orderflow}
say "removing the project $project and what tests left behind"
remove_project "$project"
remove_leftovers
