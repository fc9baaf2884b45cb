package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The security settings of the compose file, checked on the containers that it starts.

// box is a container, as `docker inspect` describes it.
type box struct {
	ID, Name, Image string

	State struct {
		Status   string
		ExitCode int
		Health   *struct{ Status string }
	}
	Config struct {
		User   string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs, Privileged bool
		CapAdd, CapDrop            []string
		SecurityOpt                []string
		NetworkMode                string
		PidMode, IpcMode           string
		Devices                    []any
		Binds                      []string
		PortBindings               map[string][]portBinding
		LogConfig                  struct {
			Type   string
			Config map[string]string
		}
	}
	Mounts []struct {
		Type, Source, Destination string
		RW                        bool
	}
	NetworkSettings struct{ Ports map[string][]portBinding }
}

type portBinding struct{ HostIP, HostPort string }

// service is the name in the compose file; with two regions, that of the first region.
func (b box) service() string {
	return strings.TrimSuffix(b.Config.Labels["com.docker.compose.service"], "-us")
}

func (c *composed) containers(t *testing.T) []box {
	t.Helper()
	var list []box
	ids := strings.Join(strings.Fields(c.compose(t, "ps --all --quiet")), " ")
	require.NoError(t, json.Unmarshal([]byte(c.script(t, "docker inspect "+ids)), &list))
	require.GreaterOrEqual(t, len(list), 10)
	return list
}

// oneShots are containers that run as root, with these capabilities, and end before a
// service starts.
var oneShots = map[string][]string{
	"secrets":      {"CHOWN", "DAC_OVERRIDE"},
	"certificates": {"CHOWN", "DAC_OVERRIDE"},
	"databases":    {"DAC_OVERRIDE"},
	"topology":     {"DAC_OVERRIDE"},
}

// writable are the volumes that a container may write to.
var writable = map[string][]string{
	"rabbitmq": {"/var/lib/rabbitmq"},
	"postgres": {"/var/lib/postgresql"},
	"secrets":  {"/run/secrets/orderflow", "/run/secrets/postgres", "/run/secrets/rabbitmq"},

	"certificates": {"/run/secrets/orderflow", "/run/secrets/postgres", "/run/secrets/rabbitmq", "/run/secrets/authority"},
}

func (c *composed) checkConfinement(t *testing.T) {
	for _, b := range c.containers(t) {
		name := b.service()
		capabilities, isOneShot := oneShots[name]
		h := b.HostConfig
		require.True(t, h.ReadonlyRootfs, name)
		require.Equal(t, []string{"ALL"}, h.CapDrop, name)
		for i := range h.CapAdd {
			h.CapAdd[i] = strings.TrimPrefix(h.CapAdd[i], "CAP_")
		}
		require.ElementsMatch(t, capabilities, h.CapAdd, name)
		require.Contains(t, h.SecurityOpt, "no-new-privileges:true", name)
		require.False(t, h.Privileged, name)
		require.Equal(t, "json-file", h.LogConfig.Type, name)
		require.Equal(t, map[string]string{"max-size": "10m", "max-file": "4"}, h.LogConfig.Config, "%s: its log has an end", name)
		require.Empty(t, h.Devices, name)
		for _, mode := range []string{h.NetworkMode, h.PidMode, h.IpcMode} {
			require.NotEqual(t, "host", mode, name)
		}
		var changes []string
		for _, m := range b.Mounts {
			require.NotContains(t, m.Source, "docker.sock", name)
			if m.RW {
				require.Equal(t, "volume", m.Type, "%s: %s", name, m.Destination)
				changes = append(changes, m.Destination)
			}
		}
		require.ElementsMatch(t, writable[name], changes, name)

		ports := 0
		for _, published := range []map[string][]portBinding{h.PortBindings, b.NetworkSettings.Ports} {
			for port, bindings := range published {
				for _, p := range bindings {
					require.Equal(t, "127.0.0.1", p.HostIP, "%s: %s", name, port)
					ports++
				}
			}
		}
		if slices.Contains([]string{"billing", "notifier"}, name) || isOneShot {
			require.Zero(t, ports, name)
		} else {
			require.NotZero(t, ports, name)
		}

		if isOneShot {
			require.NotEqual(t, "running", b.State.Status, name)
			continue
		}
		require.NotContains(t, []string{"", "0", "root", "0:0"}, b.Config.User, name)
		// The same in the kernel's view: no process runs as root or as the user of another service.
		for _, process := range strings.Split(strings.TrimSpace(c.script(t, "docker top "+b.ID+" -o pid,uid")), "\n")[1:] {
			uid := strings.Fields(process)[1]
			require.NotEqual(t, "0", uid, name)
			if !slices.Contains([]string{"rabbitmq", "postgres"}, name) {
				require.Equal(t, b.Config.User, uid+":"+uid, name)
			}
		}
	}
	c.checkNeighbours(t)
}

// checkNeighbours tries the ports on the machine's other addresses.
func (c *composed) checkNeighbours(t *testing.T) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLoopback() || ip.IP.IsLinkLocalUnicast() {
			continue
		}
		for name, port := range c.Ports() {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.IP.String(), port), 500*time.Millisecond)
			if err == nil {
				_ = conn.Close()
			}
			require.Error(t, err, "%s answers at %s", name, ip.IP)
		}
	}
}

// secrets are the secrets of this system, by file.
func (c *composed) secrets(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	out := c.script(t, `source scripts/lib.sh; docker run --rm --network none \
		-v "$COMPOSE_PROJECT_NAME"_secrets:/s/services:ro -v "$COMPOSE_PROJECT_NAME"_rabbitmq-admin:/s/rabbitmq:ro -v "$COMPOSE_PROJECT_NAME"_postgres-admin:/s/postgres:ro \
		--entrypoint /bin/sh "$(setting POSTGRES_IMAGE)" -c 'cd /s; find . -type f ! -name "*.pem" | while read -r f; do echo "$f $(cat "$f" | tr "\n" " ")"; done'`)
	for line := range strings.Lines(out) {
		file, content, _ := strings.Cut(line, " ")
		secret := regexp.MustCompile(`\b[0-9a-f]{48}\b`).FindString(content)
		require.NotEmpty(t, secret, file)
		found[strings.TrimPrefix(file, "./")] = secret
	}
	require.GreaterOrEqual(t, len(found), 14)
	return found
}

// accounts are the services' names in the database and in the secrets.
var accounts = []struct{ database, name, uid string }{
	{"orders", "orders", "10001"}, {"billing", "billing", "10002"}, {"notifier", "notifier", "10003"},
	{"pricing", "pricing-rpc", "10004"}, {"sandbox", "sandbox", "10005"},
}

// Codes of PostgreSQL.
const (
	notAllowed    = "42501"
	wrongPassword = "28P01"
)

// database connects to a database as a role.
func (c *composed) database(t *testing.T, role, secret, database string) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:%s@%s/%s", role, secret, c.Address("POSTGRES_PORT"), database))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func requireCode(t *testing.T, code string, err error, about ...any) {
	t.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused, about...)
	require.Equal(t, code, refused.Code, about...)
}

func (c *composed) checkAccounts(t *testing.T, secrets map[string]string) {
	password := func(account string) string { return secrets["services/"+account+"/database_password"] }
	for i, own := range accounts {
		conn, err := c.database(t, own.database, password(own.name), own.database)
		require.NoError(t, err)
		for _, statement := range []string{
			"CREATE ROLE mine", "CREATE DATABASE mine", "SET ROLE ledger", "SET ROLE postgres", "SET SESSION AUTHORIZATION postgres",
			"ALTER ROLE " + own.database + " SUPERUSER", "ALTER SYSTEM SET log_statement = 'all'",
			"COPY (SELECT 1) TO PROGRAM 'true'", "COPY (SELECT 1) TO '/tmp/x'", "SELECT pg_read_file('PG_VERSION')", "SELECT rolpassword FROM pg_authid",
		} {
			_, err := conn.Exec(t.Context(), statement)
			requireCode(t, notAllowed, err, "%s: %s", own.name, statement)
		}
		for _, other := range append([]string{"postgres", "template1"}, databaseNames()...) {
			if other != own.database {
				_, err := c.database(t, own.database, password(own.name), other)
				requireCode(t, notAllowed, err, "%s opens %s", own.name, other)
			}
		}
		neighbour := accounts[(i+1)%len(accounts)]
		_, err = c.database(t, own.database, password(neighbour.name), own.database)
		requireCode(t, wrongPassword, err)

		// Each container has the volume with the secrets of all; only the uid protects them.
		c.script(t, fmt.Sprintf(`source scripts/lib.sh; docker run --rm --network none --user %s:%s --cap-drop ALL -v "$COMPOSE_PROJECT_NAME"_secrets:/s:ro \
			--entrypoint /bin/sh "$(setting POSTGRES_IMAGE)" -c 'cat /s/%s/* >/dev/null && for other in /s/*; do [ "$other" = /s/%s ] || ! ls "$other" 2>/dev/null || exit 1; done'`,
			own.uid, own.uid, own.name, own.name))
	}
	for _, own := range []string{contract.OrdersUser, contract.BillingUser, contract.NotifierUser, contract.PricingUser, contract.Operator} {
		dial := func(user, secret string) error {
			conn, err := amqp.Dial(fmt.Sprintf("amqp://%s:%s@%s/", user, secret, c.Address("AMQP_PORT")))
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		require.NoError(t, dial(own, secrets["services/"+own+"/amqp_password"]), own)
	}
}

func databaseNames() []string {
	var names []string
	for _, a := range accounts {
		names = append(names, a.database)
	}
	return names
}

func (c *composed) checkLedger(t *testing.T, secrets map[string]string) {
	for _, name := range databaseNames() {
		conn, err := c.database(t, "ledger", secrets["services/ledger/database_password"], name)
		require.NoError(t, err)
		rows, err := conn.Query(t.Context(), `SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'`)
		require.NoError(t, err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.NotEmpty(t, tables, name)
		for _, table := range tables {
			var n int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n), "%s: %s", name, table)
			for _, statement := range []string{"INSERT INTO %s DEFAULT VALUES", "DELETE FROM %s", "TRUNCATE %s", "LOCK %s IN EXCLUSIVE MODE", "ALTER TABLE %s ADD mine int", "DROP TABLE %s"} {
				_, err := conn.Exec(t.Context(), "BEGIN; "+fmt.Sprintf(statement, table)+"; COMMIT")
				requireCode(t, notAllowed, err, "%s: %s", name, fmt.Sprintf(statement, table))
				_, err = conn.Exec(t.Context(), "ROLLBACK")
				require.NoError(t, err)
			}
		}
		var mayChange int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND
			(c.relkind = 'S' AND has_sequence_privilege(c.oid, 'USAGE, UPDATE') OR c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'))`).Scan(&mayChange))
		require.Zero(t, mayChange, name)
		for _, statement := range []string{
			"CREATE TABLE mine ()", "CREATE TEMP TABLE mine ()", "CREATE SCHEMA mine", "CREATE EXTENSION pgcrypto", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1",
			"SELECT lo_create(0)", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')",
			"SET ROLE " + name, "CREATE ROLE mine", "COPY (SELECT 1) TO PROGRAM 'true'",
		} {
			_, err := conn.Exec(t.Context(), statement)
			requireCode(t, notAllowed, err, "%s: %s", name, statement)
		}
	}
	for _, name := range []string{"postgres", "template1"} {
		_, err := c.database(t, "ledger", secrets["services/ledger/database_password"], name)
		requireCode(t, notAllowed, err, name)
	}
}

// dockersOwn are the files that docker puts into every container.
var dockersOwn = regexp.MustCompile(`^(\.dockerenv|dev/.*|etc/(hostname|hosts|mtab|resolv\.conf)?|proc/|sys/)$`)

// checkImages checks that an image of ours has one program and the certificates of public
// authorities, and no shell or package that an intruder could use.
func (c *composed) checkImages(t *testing.T) {
	for _, name := range []string{"orders", "billing", "notifier", "pricing-rpc", "sandbox", "orderctl"} {
		files := strings.Fields(c.script(t, "id=$(docker create $COMPOSE_PROJECT_NAME/"+name+") && docker export $id | tar -t && docker rm $id >/dev/null"))
		require.ElementsMatch(t, []string{name, "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt"}, slices.DeleteFunc(files, dockersOwn.MatchString))
	}
}

// checkSecrets looks for secrets in the places where they could leak to. An error names the
// file of a secret, never the secret.
func (c *composed) checkSecrets(t *testing.T, secrets map[string]string) {
	// The worst case first: a server that logs every statement, while passwords are set again.
	admin, err := c.database(t, "postgres", secrets["postgres/password"], "postgres")
	require.NoError(t, err)
	for _, statement := range []string{"ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_min_duration_statement = 0", "SELECT pg_reload_conf()"} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	messagingtest.Eventually(t, 10*time.Second, func() (bool, string) {
		log := c.compose(t, "logs --no-color --tail 50 postgres")
		return strings.Contains(log, "LOG:  statement:"), log
	})
	c.compose(t, "run --rm --no-deps databases")
	c.checkPlaces(t, secrets)
}

// checkPlaces looks for secrets in everything that others can read.
func (c *composed) checkPlaces(t *testing.T, secrets map[string]string) {
	t.Helper()
	images, tops := []string{}, ""
	for _, b := range c.containers(t) {
		images = append(images, b.Image)
		if b.State.Status == "running" {
			tops += c.script(t, "docker top "+b.ID+" -ef")
		}
	}
	slices.Sort(images)
	images = slices.Compact(images)
	history := ""
	for _, image := range images {
		history += c.script(t, "docker history --no-trunc "+image)
	}
	places := map[string]string{
		"docker inspect of the containers": c.script(t, "docker inspect $(docker ps -aq --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)"),
		"docker inspect of the images":     c.script(t, "docker image inspect "+strings.Join(images, " ")),
		"docker inspect of the volumes":    c.script(t, "docker volume inspect $(docker volume ls -q --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME)"),
		"the images' history":              history,
		"the command lines":                tops,
		"the logs":                         c.compose(t, "logs --no-color"),
		"the resolved compose file":        c.compose(t, "config"),
	}
	for place, text := range places {
		require.NotEmpty(t, text, place)
		for file, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in %s", file, place)
			}
		}
	}
	require.Contains(t, places["the logs"], "price", "the logs are all services' logs")
	require.NotContains(t, places["the logs"], "tok_ok", "a payment token")

	// Every file of the repository's folder, ignored or not.
	var patterns strings.Builder
	for _, secret := range secrets {
		patterns.WriteString(secret + "\n")
	}
	list := filepath.Join(t.TempDir(), "patterns")
	require.NoError(t, os.WriteFile(list, []byte(patterns.String()), 0o600))
	require.Empty(t, c.script(t, "git grep --no-index --no-exclude-standard -IlF -f "+list+" . || [ $? = 1 ]"))
}
