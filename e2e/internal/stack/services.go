package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
)

// passwords are those that were made for this stack.
type passwords struct {
	broker   string // of the broker's administrator
	ledger   string // of the database role that reads every table
	database string // of PostgreSQL's superuser
}

// ReadPasswords reads the passwords of the stack's administrators from its volumes, after
// Start.
func (s *Stack) ReadPasswords(ctx context.Context) (err error) {
	for _, secret := range []struct {
		into            *string
		volume, command string
	}{
		{&s.passwords.broker, "rabbitmq-admin", "sed -n 's/^default_pass = //p' /s/10-admin.conf"},
		{&s.passwords.ledger, "secrets", "cat /s/ledger/database_password"},
		{&s.passwords.database, "postgres-admin", "cat /s/password"},
	} {
		out, err := s.Script(ctx, fmt.Sprintf(`source scripts/lib.sh; docker run --rm --user 0 --entrypoint /bin/sh -v %s_%s:/s:ro "$(setting POSTGRES_IMAGE)" -c "%s"`, s.Project, secret.volume, secret.command))
		if err != nil {
			return err
		}
		*secret.into = strings.TrimSpace(out)
	}
	return nil
}

// ReadDatabase connects to a service's database with the role that reads every table. It
// needs ReadPasswords.
func (s *Stack) ReadDatabase(ctx context.Context, name string) (*pgx.Conn, error) {
	return s.database(ctx, "ledger", s.passwords.ledger, name)
}

// ChangeDatabase connects to a service's database as the superuser. It needs
// ReadPasswords.
func (s *Stack) ChangeDatabase(ctx context.Context, name string) (*pgx.Conn, error) {
	return s.database(ctx, "postgres", s.passwords.database, name)
}

func (s *Stack) database(ctx context.Context, user, password, name string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", user, password, s.Address("POSTGRES_PORT"), name))
}

// Sandbox sends a request with a JSON body to the sandbox. A status of 300 or more is an
// error.
func (s *Stack) Sandbox(ctx context.Context, method, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Address("SANDBOX_PORT")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if answer, err := s.do(req); err != nil {
		return fmt.Errorf("%s %s: %w: %s", method, path, err, answer)
	}
	return nil
}

// adminPorts are the services' admin ports, which are reachable in the containers' network.
var adminPorts = map[string]int{"orders": 9081, "billing": 9083, "notifier": 9084}

// Readiness returns the answers of the replicas of orders, billing or notifier to /readyz of
// their admin ports, one line each.
func (s *Stack) Readiness(ctx context.Context, service string) (string, error) {
	port, ok := adminPorts[service]
	if !ok {
		return "", errors.New("no admin port is known for " + service)
	}
	return s.Script(ctx, fmt.Sprintf(`source scripts/lib.sh
		docker run --rm --network %[1]s --entrypoint bash "$(setting POSTGRES_IMAGE)" -c 'for n in $(seq %[4]d); do
			(exec 3<>/dev/tcp/%[2]s-%[3]s-$n/%[5]d; printf "GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" >&3; timeout 10 cat <&3) | sed "1,/^\r$/d" | tr -d "\n"; echo
		done'`, s.Network(), s.Project, service, s.Replicas(service), port))
}

// Logs returns the logs of the containers of a service, with times, through a shell pipeline.
func (s *Stack) Logs(ctx context.Context, service, options, pipeline string) (string, error) {
	return s.Script(ctx, fmt.Sprintf(`for c in $(docker ps -aq --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=%s); do
		docker logs %s $c 2>&1
	done | %s`, s.Project, service, options, pipeline))
}
