#!/usr/bin/env bash
# Checks the required tools, installs missing ones, and prints their versions.
source "$(dirname "$0")/lib.sh"

command -v docker >/dev/null || die "Docker is missing: install Docker Engine or Docker Desktop and run this again"
engine=$(docker version --format '{{.Server.Version}}' 2>/dev/null) || die "the Docker engine does not answer: start it (or join the group docker) and run this again"
say "Docker engine $engine"
if ! compose version --short >/dev/null 2>&1; then
	lock compose
	if ! compose version --short >/dev/null 2>&1; then # another run may have fetched it in the meantime
		need_packages mmdebstrap mmdebstrap
		with_progress "fetching compose v2 into .cache" fetch_compose
	fi
fi
version=$(compose version --short 2>/dev/null) || die "docker compose v2 is missing: install the plugin docker-compose-plugin and run this again"
say "Docker compose $version"
"$(dirname "$0")/images.sh"
say "images: $(setting RABBITMQ_IMAGE), $(setting POSTGRES_IMAGE), $(setting GO_IMAGE)"
