package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"github.com/jackc/pgx/v5"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest/owner"
)

// system is an Orderflow that compose has started for this drill.
type system struct {
	root, project string
	overlays      string // the drill's own compose files
	nodes         []string
	ports         map[string]string
	ordersPort    int    // of the first replica; the others' are next to it
	admin         string // the broker administrator's password
	ledger        string // the password of the role that reads every database
	superuser     string // PostgreSQL's
	http          *http.Client
	wire          *toxiproxy.Proxy // between billing and the broker
}

// services are ours; replicas are how often each runs. The servers and the outside
// world run once.
var (
	services = []string{"orders", "billing", "notifier", "pricing-rpc"}
	replicas = map[string]int{"orders": 3, "billing": 3, "notifier": 3, "pricing-rpc": 3}
)

// topology is what the broker must have.
var topology = contract.All(paymentDeadline)

// start brings the system up as `make up` does, then its replicas; with one broker
// there is a proxy on the way from billing to it.
func start(ctx context.Context, cluster bool) (*system, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	s := &system{
		root: root, project: "orderflow-test-" + owner.Name(), ports: map[string]string{},
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	up := "scripts/up.sh"
	s.nodes = []string{"rabbitmq"}
	if cluster {
		s.nodes, up = []string{"rabbitmq", "rabbitmq-2", "rabbitmq-3"}, "WITH=cluster "+up
	}
	if _, err := s.script(ctx, up); err != nil {
		return s, err
	}
	if !cluster {
		if err := s.startProxy(ctx); err != nil {
			return s, err
		}
		s.overlays = "e2e/chaos/compose.yaml"
	}
	var scale []string
	for name, n := range replicas {
		scale = append(scale, fmt.Sprintf("--scale %s=%d", name, n))
	}
	slices.Sort(scale)
	if _, err := s.compose(ctx, "up --detach --no-build --wait --wait-timeout 180 "+strings.Join(scale, " ")); err != nil {
		return s, err
	}
	for _, secret := range []struct {
		into            *string
		volume, command string
	}{
		{&s.admin, "rabbitmq-admin", "sed -n 's/^default_pass = //p' /s/10-admin.conf"},
		{&s.ledger, "secrets", "cat /s/ledger/database_password"},
		{&s.superuser, "postgres-admin", "cat /s/password"},
	} {
		if *secret.into, err = s.secret(ctx, secret.volume, secret.command); err != nil {
			return s, err
		}
	}
	return s, nil
}

// choosePorts finds ports that nobody listens on: one for each server, and as many
// in a row as there are replicas for a service.
func (s *system) choosePorts() error {
	for _, name := range slices.Concat(amqpPorts, managementPorts, []string{"BROKER_METRICS_PORT", "POSTGRES_PORT", "SANDBOX_PORT", "SMTP_PORT", "PROXY_PORT"}) {
		port, free, err := listen(0)
		if err != nil {
			return err
		}
		defer free() // when all are found
		s.ports[name] = strconv.Itoa(port)
	}
	for name, n := range map[string]int{"ORDERS_PORT": replicas["orders"], "PRICING_PORT": replicas["pricing-rpc"]} {
		first, free, err := listenInARow(n)
		if err != nil {
			return err
		}
		defer free()
		s.ports[name] = fmt.Sprintf("%d-%d", first, first+n-1)
		if name == "ORDERS_PORT" {
			s.ordersPort = first
		}
	}
	return nil
}

// listenInARow listens on n ports, one next to the other.
func listenInARow(n int) (first int, free func(), err error) {
	for range 50 {
		var frees []func()
		free := func() {
			for _, f := range frees {
				f()
			}
		}
		first, f, err := listen(0)
		for next := first + 1; err == nil; next++ {
			if frees = append(frees, f); len(frees) == n {
				return first, free, nil
			}
			_, f, err = listen(next)
		}
		free()
	}
	return 0, nil, fmt.Errorf("no %d free ports in a row", n)
}

func listen(port int) (int, func(), error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, nil, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, func() { _ = l.Close() }, nil
}

// repository is the folder that holds go.work, from wherever this runs.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("not inside the repository")
}

func (s *system) stop(ctx context.Context) error {
	s.http.CloseIdleConnections()
	_, err := s.script(ctx, "source scripts/lib.sh; remove_project "+s.project)
	return err
}

// script runs a shell command in the repository's root.
func (s *system) script(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", command) //nolint:gosec // our own commands
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+s.project, "PAYMENT_DEADLINE="+paymentDeadline.String(), "OVERLAYS="+s.overlays)
	for name, port := range s.ports {
		cmd.Env = append(cmd.Env, name+"="+port)
	}
	// A shell that is killed leaves what it has begun behind.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 20*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", command, err, lastLines(string(out), 10))
	}
	return string(out), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

func (s *system) compose(ctx context.Context, arguments string) (string, error) {
	return s.script(ctx, "source scripts/lib.sh; compose "+arguments)
}

// startProxy puts toxiproxy between billing and the broker. Its binary is built by
// the one Go that is here and copied into a container of an image that is here too.
func (s *system) startProxy(ctx context.Context) error {
	_, err := s.script(ctx, fmt.Sprintf(`source scripts/lib.sh
		(cd e2e && CGO_ENABLED=0 go build -trimpath -o "$cache/toxiproxy" github.com/Shopify/toxiproxy/v2/cmd/server)
		docker create --name %[1]s-toxiproxy --label com.docker.compose.project=%[1]s --network %[1]s_default --network-alias toxiproxy \
			--publish 127.0.0.1:%[2]s:8474 --user 65534 --entrypoint /toxiproxy "$(setting POSTGRES_IMAGE)" -host 0.0.0.0
		docker cp "$cache/toxiproxy" %[1]s-toxiproxy:/toxiproxy
		docker start %[1]s-toxiproxy`, s.project, s.ports["PROXY_PORT"]))
	if err != nil {
		return err
	}
	client := toxiproxy.NewClient("127.0.0.1:" + s.ports["PROXY_PORT"])
	return poll(ctx, 10*time.Second, func() error {
		s.wire, err = client.CreateProxy("billing", "0.0.0.0:5672", "rabbitmq:5672")
		return err
	})
}

// docker runs a docker command on the containers of a service.
func (s *system) docker(ctx context.Context, command, service string) error {
	_, err := s.script(ctx, fmt.Sprintf("docker %s $(docker ps -aq --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=%s)", command, s.project, service))
	return err
}

// one is docker on one of a service's containers.
func (s *system) one(ctx context.Context, command, service string, number int) error {
	_, err := s.script(ctx, fmt.Sprintf("docker %s %s-%s-%d", command, s.project, service, number))
	return err
}

func (s *system) secret(ctx context.Context, volume, command string) (string, error) {
	out, err := s.script(ctx, fmt.Sprintf(`source scripts/lib.sh; docker run --rm --user 0 --entrypoint /bin/sh -v %s_%s:/s:ro "$(setting POSTGRES_IMAGE)" -c "%s"`, s.project, volume, command))
	return strings.TrimSpace(out), err
}

// orders is one of the replicas, as a load balancer would choose.
func (s *system) orders() string {
	return fmt.Sprintf("http://127.0.0.1:%d", s.ordersPort+rand.IntN(replicas["orders"]))
}

// poll tries until it works.
func poll(ctx context.Context, patience time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// database connects to a service's database.
func (s *system) database(ctx context.Context, user, password, name string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgres://%s:%s@127.0.0.1:%s/%s?sslmode=disable", user, password, s.ports["POSTGRES_PORT"], name))
}

// lists reads two columns of text from a service's database, as the ledger: the
// values of each key, in the order of the rows.
func (s *system) lists(ctx context.Context, database, sql string) (map[string][]string, error) {
	conn, err := s.database(ctx, "ledger", s.ledger, database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", database, err)
	}
	out := map[string][]string{}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error { out[key] = append(out[key], value); return nil })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", database, err)
	}
	return out, nil
}

// counts is lists of one number each.
func (s *system) counts(ctx context.Context, database, sql string) (map[string]int, error) {
	rows, err := s.lists(ctx, database, sql)
	out := map[string]int{}
	for key, values := range rows {
		n, err := strconv.Atoi(values[0])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", database, err)
		}
		out[key] = n
	}
	return out, err
}
