package setup_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/tools/orderctl/setup"
)

// Codes of PostgreSQL.
const (
	notAllowed    = "42501"
	wrongPassword = "28P01"
)

// accounts has the account with the password of each database owner.
var accounts = map[string]string{
	"orders": "orders", "billing": "billing", "notifier": "notifier", "pricing": "pricing-rpc", "sandbox": "sandbox", "ledger": "ledger",
}

// server is a database server after the set-up.
type server struct {
	url  *url.URL // without a password
	dirs setup.Dirs
}

func (s *server) secret(role string) string {
	return filepath.Join(s.dirs.Services, accounts[role], "database_password")
}

// connect connects as a role, with its secret.
func (s *server) connect(t *testing.T, role, database string) (*pgx.Conn, error) {
	t.Helper()
	password, err := os.ReadFile(s.secret(role))
	require.NoError(t, err)
	u := *s.url
	u.User, u.Path = url.UserPassword(role, string(password)), "/"+database
	conn, err := pgx.Connect(t.Context(), u.String())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func (s *server) exec(t *testing.T, role, database, statement string) error {
	t.Helper()
	conn, err := s.connect(t, role, database)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), statement)
	return err
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code, refused.Message)
}

func replace(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	_ = os.Remove(path)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o400))
}

// dropAll removes everything, so that the test can run again on the same server.
func dropAll(t *testing.T, adminURL string) func() {
	t.Helper()
	return func() {
		ctx := context.Background()
		admin, err := pgx.Connect(ctx, adminURL)
		require.NoError(t, err)
		defer func() { _ = admin.Close(ctx) }()
		for name := range accounts {
			_, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
			require.NoError(t, err)
		}
	}
}

// Roles belong to the whole server, which the tests of this package share. So this is one test.
func TestDatabases(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(dropAll(t, u.String()))
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	s := &server{u, newDirs(t)}
	replace(t, filepath.Join(s.dirs.PostgreSQL, "password"), password+"\n") // the server's current one
	_, err = setup.Secrets(s.dirs)
	require.NoError(t, err)
	require.NoError(t, setup.Databases(t.Context(), u.String(), s.dirs))

	for owner := range accounts {
		if owner == "ledger" {
			continue
		}
		t.Run(owner, func(t *testing.T) {
			require.NoError(t, s.exec(t, owner, owner, "CREATE TABLE facts (n int); INSERT INTO facts VALUES (1)"))
			requireCode(t, notAllowed, s.exec(t, owner, owner, "CREATE DATABASE mine"))
			for other := range accounts {
				if other != owner && other != "ledger" {
					_, err := s.connect(t, owner, other)
					requireCode(t, notAllowed, err)
				}
			}
			for _, role := range []string{owner, "ledger"} {
				for _, other := range []string{"postgres", "template1"} {
					_, err := s.connect(t, role, other)
					requireCode(t, notAllowed, err)
				}
			}
			require.NoError(t, s.exec(t, "ledger", owner, "SELECT n FROM facts"), "a table that was made after the grant")
			for _, statement := range []string{"INSERT INTO facts VALUES (2)", "DELETE FROM facts", "DROP TABLE facts", "CREATE TABLE mine ()", "CREATE TEMP TABLE mine ()", "SELECT lo_create(0)", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')"} {
				requireCode(t, notAllowed, s.exec(t, "ledger", owner, statement))
			}
		})
	}

	t.Run("again, with a password that has changed", func(t *testing.T) {
		replace(t, s.secret("orders"), `it's "new" \ now`)
		_, err := s.connect(t, "orders", "orders")
		requireCode(t, wrongPassword, err)
		require.NoError(t, setup.Databases(t.Context(), u.String(), s.dirs))
		require.NoError(t, s.exec(t, "orders", "orders", "SELECT n FROM facts"), "its tables are kept")
	})
}

func TestDatabasesWithoutWhatTheyNeed(t *testing.T) {
	t.Parallel()
	admin := messagingtest.Database(t)
	for _, c := range []struct{ name, url, want string }{
		{"a bad URL", "postgres://localhost:port/", "DATABASE_URL"},
		{"no administrator's password", strings.Replace(admin, ":test-only@", "@", 1), "orderctl setup secrets"},
		{"no secrets", admin, "orderctl setup secrets"},
		{"no server", "postgres://postgres:x@127.0.0.1:1/", "connect to the database server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, setup.Databases(t.Context(), c.url, newDirs(t)), c.want)
		})
	}
}
