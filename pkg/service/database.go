package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

// Timeouts of connections. Without them, a connection whose other side is gone without
// closing it (a cut network, a host without power) would block both sides for long.
const (
	// ackTimeout is how long sent data may stay without a TCP acknowledgement.
	ackTimeout = 10 * time.Second
	// pingTimeout bounds the check of an idle connection before it is used.
	pingTimeout = 2 * time.Second
	// attemptTimeout bounds each attempt to reach the database at the start.
	attemptTimeout = 5 * time.Second
	// idleTransaction is how long a transaction may wait for our next statement: its
	// locks block the other replicas.
	idleTransaction = 30 * time.Second
)

// defaultMaxConns is the maximal number of connections without a setting.
const defaultMaxConns = 10

// NewDatabase makes the connection pool, and returns an error for wrong settings. The pool
// connects when it is first used.
//
// On Linux, a connection whose sent data is not acknowledged for 10 s is closed. The server
// ends a transaction that waits for its next statement for more than 30 s, unless the URL
// sets another idle_in_transaction_session_timeout.
func NewDatabase(ctx context.Context, c DatabaseConfig) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if config.MaxConns, err = maxConns(c, config.MaxConns); err != nil {
		return nil, err
	}
	if c.Password != "" {
		config.ConnConfig.Password = strings.TrimSpace(c.Password)
	}
	config.PingTimeout = pingTimeout
	config.ConnConfig.DialFunc = (&net.Dialer{Control: failWithoutAck(ackTimeout)}).DialContext
	parameters := config.ConnConfig.RuntimeParams
	if _, given := parameters[idleParameter]; !given {
		parameters[idleParameter] = strconv.FormatInt(idleTransaction.Milliseconds(), 10)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return pool, nil
}

const idleParameter = "idle_in_transaction_session_timeout"

// maxConns reads the number from the variable or from the URL. Both together are refused,
// since one of them would be ignored.
func maxConns(c DatabaseConfig, fromURL int32) (int32, error) {
	raw, err := pgx.ParseConfig(c.URL) // it does not parse the settings of the pool
	if err != nil {
		return 0, fmt.Errorf("DATABASE_URL: %w", err)
	}
	_, inURL := raw.RuntimeParams["pool_max_conns"]
	switch {
	case c.MaxConns < 0:
		return 0, errors.New("DATABASE_MAX_CONNS: must not be negative")
	case inURL && c.MaxConns > 0:
		return 0, errors.New("DATABASE_MAX_CONNS: DATABASE_URL has pool_max_conns too: set only one of them")
	case inURL:
		return fromURL, nil
	case c.MaxConns > 0:
		return c.MaxConns, nil
	default:
		return defaultMaxConns, nil
	}
}

// AwaitDatabase waits for the database and migrates it. While the database is unavailable,
// also during a migration, it tries again each second until ctx is done. Any other error is
// returned at once.
func AwaitDatabase(ctx context.Context, pool *pgxpool.Pool, log *zap.Logger, sets ...Migrations) error {
	waiting := NewEpisode(log, zap.WarnLevel, "waiting for the database", 0)
	for {
		err := ping(ctx, pool)
		if err == nil {
			err = Migrate(ctx, pool, sets...)
		}
		switch {
		case err == nil:
			waiting.Over()
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the database: %w", err)
		case !messaging.IsUnavailable(inbox.Verdict(err)):
			return err
		}
		waiting.Seen(stateOf(err), err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// ping asks for an answer with a timeout, since a frozen database does not answer.
func ping(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return pool.Ping(ctx)
}

// stateOf describes an error of the database without the parts that differ each time.
func stateOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return "refused: " + refused.Code
	}
	return "does not answer"
}

// Migrations are a set of goose migrations with their own version table. So the migrations of
// a service and of the packages that it uses are numbered independently.
type Migrations struct {
	VersionTable string
	Files        func() (fs.FS, error)
}

// Migrate updates the schema. Replicas that start at the same time wait for each other.
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
