#!/usr/bin/env bash
# Runs the benchmarks with their own broker and database: with host networking, so that Docker's
# proxy is not measured, and with volumes, so that the disk is.
source "$(dirname "$0")/lib.sh"
"$(dirname "$0")/needs.sh"
"$(dirname "$0")/images.sh"

remove_leftovers
take_machine

name="orderflow-bench-$$" port=5679
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
url="amqp://bench:bench@127.0.0.1:$port/"
store="orderflow-bench-postgres-$$" store_port=$((port - 200))
while (exec 3<>"/dev/tcp/127.0.0.1/$store_port") 2>/dev/null; do store_port=$((store_port + 1)); done
settings=$(mktemp -d)
stop() { docker rm -fv "$name" "$store" >/dev/null 2>&1 || true; rm -rf "$settings"; }
trap stop EXIT

cat >"$settings/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
log.console = true
log.console.level = warning
CONF
echo '[].' >"$settings/enabled_plugins"
chmod -R a+rX "$settings"
say "starting a broker on 127.0.0.1:$port"
docker run -d --name "$name" --label "messagingtest.owner=$(place)-$$" --network host -v /var/lib/rabbitmq \
	-v "$settings/rabbitmq.conf:/etc/rabbitmq/rabbitmq.conf:ro" -v "$settings/enabled_plugins:/etc/rabbitmq/enabled_plugins:ro" \
	-e RABBITMQ_DEFAULT_USER=bench -e RABBITMQ_DEFAULT_PASS=bench -e "RABBITMQ_NODENAME=bench-$$@localhost" \
	-e "RABBITMQ_DIST_PORT=$((port + 20000))" "$(setting RABBITMQ_IMAGE)" >/dev/null
for ((i = 0; ; i++)); do
	if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
	((i < 60)) || die "the broker did not start: docker logs $name"
	sleep 1
done

say "starting a database on 127.0.0.1:$store_port"
docker run -d --name "$store" --label "messagingtest.owner=$(place)-$$" --network host -v /var/lib/postgresql \
	-e POSTGRES_PASSWORD=bench -e "PGPORT=$store_port" "$(setting POSTGRES_IMAGE)" postgres -p "$store_port" -c listen_addresses=127.0.0.1 >/dev/null
for ((i = 0; ; i++)); do
	if docker exec "$store" pg_isready -q -h 127.0.0.1 -p "$store_port" 2>/dev/null; then break; fi
	((i < 60)) || die "the database did not start: docker logs $store"
	sleep 1
done

say "measuring (about ${BENCH_MINUTES:-6} min); run nothing else on this machine"
cd "$root/bench"
pid=$(docker top "$name" -eo pid,comm | awk '/beam/ { print $1; exit }')
go run . -url "$url" -database "postgres://postgres:bench@127.0.0.1:$store_port/postgres" -broker-pid "${pid:-0}" "$@"
if [[ " $* " == *" -out "* ]]; then
	say "profiling publish_64"
	go run . -url "$url" -database "postgres://postgres:bench@127.0.0.1:$store_port/postgres" -rounds 10 -only publish_64 -contenders '^pkg/messaging$' -profile "$cache/publish_64.prof" >/dev/null
	{
		echo "CPU profile of this process in publish_64, by make bench: go tool pprof -top"
		go tool pprof -top -nodecount 30 "$cache/publish_64.prof" 2>/dev/null
	} >profile-publish_64.txt
fi
