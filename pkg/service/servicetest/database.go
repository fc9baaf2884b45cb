// Package servicetest has helpers for the tests of several services.
package servicetest

import (
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/pkg/service"
)

// DB is a real database for one test. It counts its commits.
type DB struct {
	*transactional.DB
	commits atomic.Int64
}

// Commits returns the number of commits, each of which would wake a relay.
func (db *DB) Commits() int { return int(db.commits.Load()) }

// NewDB makes a database with the tables of the inbox, the outbox and a service.
func NewDB(t testing.TB, tables func() (fs.FS, error)) *DB {
	t.Helper()
	pool := open(t, messagingtest.Database(t))
	if err := service.Migrate(t.Context(), pool,
		service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations},
		service.Migrations{VersionTable: inbox.VersionTable, Files: inbox.Migrations},
		service.Migrations{VersionTable: "service_version", Files: tables}); err != nil {
		t.Fatal(err)
	}
	db := &DB{}
	db.DB = transactional.New(pool, func() { db.commits.Add(1) }, zap.NewNop())
	return db
}

// NewAwayDB makes a DB for a database that cannot be reached.
func NewAwayDB(t testing.TB) *transactional.DB {
	t.Helper()
	return transactional.New(open(t, "postgres://127.0.0.1:1/nothing"), nil, nil)
}

func open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
