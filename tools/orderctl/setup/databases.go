package setup

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// ledgerRole may read the tables of all services and change none. It is for package ledger.
const ledgerRole = "ledger"

// databases are the services' databases, each with the account that has its password. The owner
// of a database has the same name as the database.
var databases = []struct{ name, account string }{
	{"orders", "orders"},
	{"billing", "billing"},
	{"notifier", "notifier"},
	{"pricing", "pricing-rpc"},
	{"sandbox", "sandbox"},
}

// unlogged are settings of a session whose statements contain passwords: the server does not
// log them, also when they fail, whatever it logs of other sessions.
var unlogged = [][2]string{{"log_statement", "none"}, {"log_min_duration_statement", "-1"}, {"log_min_error_statement", "panic"}}

// Databases makes a database and a role for each service. Only this role and the role ledger
// can connect to the database, and only the administrator to the databases of the server
// itself. serverURL names the administrator.
func Databases(ctx context.Context, serverURL string, dirs Dirs) error {
	config, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	if config.Password == "" {
		if config.Password, err = readSecret(filepath.Join(dirs.PostgreSQL, "password")); err != nil {
			return err
		}
	}
	for _, setting := range unlogged {
		config.RuntimeParams[setting[0]] = setting[1]
	}
	admin, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database server: %w", err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	for _, name := range []string{"postgres", "template1"} { // otherwise every role could connect
		if _, err := admin.Exec(ctx, "REVOKE ALL ON DATABASE "+name+" FROM PUBLIC"); err != nil {
			return fmt.Errorf("revoke access to the database %s: %w", name, err)
		}
	}
	if err := role(ctx, admin, ledgerRole, filepath.Join(dirs.Services, ledgerRole, databasePassword)); err != nil {
		return err
	}
	for _, d := range databases {
		if err := role(ctx, admin, d.name, filepath.Join(dirs.Services, d.account, databasePassword)); err != nil {
			return err
		}
		if err := database(ctx, admin, config, d.name); err != nil {
			return fmt.Errorf("make the database %s: %w", d.name, err)
		}
	}
	return nil
}

func role(ctx context.Context, admin *pgx.Conn, name, passwordFile string) error {
	password, err := readSecret(passwordFile)
	if err != nil {
		return err
	}
	var exists bool
	if err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name).Scan(&exists); err != nil {
		return fmt.Errorf("make the role %s: %w", name, err)
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	var statement string // quoted by the server itself, since DDL takes no parameters
	err = admin.QueryRow(ctx, `SELECT format($1 || ' ROLE %I LOGIN PASSWORD %L', $2::text, $3::text)`, verb, name, password).Scan(&statement)
	if err != nil {
		return fmt.Errorf("make the role %s: %w", name, err)
	}
	if _, err := admin.Exec(ctx, statement); err != nil {
		return fmt.Errorf("make the role %s: %w", name, err)
	}
	return nil
}

func database(ctx context.Context, admin *pgx.Conn, server *pgx.ConnConfig, name string) error {
	var exists bool
	if err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil {
		return err
	}
	id := pgx.Identifier{name}.Sanitize()
	if !exists {
		if _, err := admin.Exec(ctx, "CREATE DATABASE "+id+" OWNER "+id); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		"REVOKE ALL ON DATABASE " + id + " FROM PUBLIC",
		"GRANT CONNECT ON DATABASE " + id + " TO " + ledgerRole,
	} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return err
		}
	}
	inside := server.Copy()
	inside.Database = name
	conn, err := pgx.ConnectConfig(ctx, inside)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{
		// Without this, every role that can connect could create large objects.
		"REVOKE ALL ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC",
		"GRANT USAGE ON SCHEMA public TO " + ledgerRole,
		"ALTER DEFAULT PRIVILEGES FOR ROLE " + id + " IN SCHEMA public GRANT SELECT ON TABLES TO " + ledgerRole,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
