package service

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"go.uber.org/zap"
)

// What a connection may not do, so that one whose other end is gone without a word
// (a cut network, a host that lost power) holds up neither side for long.
const (
	// silence is how long the server may leave what we sent unacknowledged.
	silence = 10 * time.Second
	// pingTimeout bounds the look at a connection that was idle, before it is used.
	pingTimeout = 2 * time.Second
	// idleTransaction is how long a transaction may wait for our next statement: its
	// locks hold up the other replicas.
	idleTransaction = 30 * time.Second
)

// OpenDatabase connects to PostgreSQL; while the database does not answer it
// tries again, once a second, until ctx is done.
//
// A connection that gets no acknowledgement for 10 s is closed, and the server ends
// a transaction that waits for its next statement for more than 30 s.
func OpenDatabase(ctx context.Context, c DatabaseConfig, log *zap.Logger) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if c.Password != "" {
		config.ConnConfig.Password = strings.TrimSpace(c.Password)
	}
	if c.MaxConns > 0 {
		config.MaxConns = c.MaxConns
	}
	config.PingTimeout = pingTimeout
	config.ConnConfig.DialFunc = (&net.Dialer{Control: giveUpAfter(silence)}).DialContext
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(idleTransaction.Milliseconds(), 10)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	for {
		err := pool.Ping(ctx)
		if err == nil {
			return pool, nil
		}
		if ctx.Err() == nil {
			log.Warn("database does not answer, trying again", zap.Error(err))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			pool.Close()
			return nil, fmt.Errorf("open the database: %w", err)
		}
	}
}

// Migrations are a set of goose migrations with a version table of its own, so
// that a service's tables and those of a package it uses do not share numbers.
type Migrations struct {
	VersionTable string
	Files        func() (fs.FS, error)
}

// Migrate brings the schema up to date. Replicas that start together wait for
// each other.
func Migrate(ctx context.Context, pool *pgxpool.Pool, sets ...Migrations) error {
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, set := range sets {
		files, err := set.Files()
		if err != nil {
			return fmt.Errorf("migrate %s: %w", set.VersionTable, err)
		}
		provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
			goose.WithTableName(set.VersionTable), goose.WithSessionLocker(locker))
		if err != nil {
			return fmt.Errorf("migrate %s: %w", set.VersionTable, err)
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate %s: %w", set.VersionTable, err)
		}
	}
	return nil
}
