package messagingtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of wait.ForSQL
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

var database = &shared{start: startDatabase}

func startDatabase(ctx context.Context) (testcontainers.Container, error) {
	return testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		Started: true,
		ContainerRequest: testcontainers.ContainerRequest{
			Image:        imageOf("POSTGRES_IMAGE", "postgres:18.6"),
			Labels:       maps.Clone(labels),
			Env:          map[string]string{"POSTGRES_PASSWORD": adminPassword},
			Cmd:          []string{"postgres", "-c", "fsync=off", "-c", "max_connections=400"},
			ExposedPorts: []string{"5432/tcp"},
			// The official image starts PostgreSQL once to initialise it, and then again.
			WaitingFor: wait.ForAll(
				wait.ForLog("database system is ready to accept connections"),
				// As endpoint does. If there is a file /.dockerenv, testcontainers takes the
				// gateway for the host, which may not answer.
				wait.ForSQL("5432/tcp", "pgx", func(_ string, port network.Port) string {
					return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", adminPassword, port.Num())
				}),
			).WithDeadline(startTimeout),
		},
	})
}

// Database gives the test the URL of a database of its own.
func Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t)
}

// DatabaseForExample is [Database] for an example, which has no testing.T. An error ends the
// process.
func DatabaseForExample() string { return newDatabase(&exampleT{}) }

func newDatabase(t failer) string {
	t.Helper()
	url := "postgres://postgres:" + adminPassword + "@" + endpoint(t, database.get(t), "5432/tcp") + "/"
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, url+"postgres")
	if err != nil {
		t.Fatalf("connect to the test database: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return url + name
}
