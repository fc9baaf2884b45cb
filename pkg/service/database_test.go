package service_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/service"
)

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := service.NewDatabase(t.Context(), service.DatabaseConfig{URL: url})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestAwaitDatabase(t *testing.T) {
	t.Parallel()
	t.Run("waits until it is available, and logs that once", func(t *testing.T) {
		t.Parallel()
		url := messagingtest.Database(t)
		proxy := messagingtest.NewProxy(t, &messagingtest.BrokerInfo{URL: url})
		proxy.Cut()
		pool := open(t, proxy.URL)
		core, logs := observer.New(zap.InfoLevel)
		done := make(chan error, 1)
		go func() {
			done <- service.AwaitDatabase(t.Context(), pool, zap.New(core), service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations})
		}()
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) { return logs.Len() > 0, "nothing was said" })
		proxy.Restore()
		require.NoError(t, <-done)
		require.Len(t, logs.FilterMessage("waiting for the database").All(), 1)
		over := logs.FilterMessage("waiting for the database: over").All()
		require.Len(t, over, 1)
		require.Positive(t, over[0].ContextMap()["count"])
	})
	t.Run("no longer than its context", func(t *testing.T) {
		t.Parallel()
		pool := open(t, "postgres://127.0.0.1:1/nothing")
		ctx, cancel := context.WithCancel(t.Context())
		log := zap.NewNop().WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core {
			core, _ := observer.New(zap.WarnLevel)
			return core
		}), zap.Hooks(func(zapcore.Entry) error { cancel(); return nil }))
		require.ErrorContains(t, service.AwaitDatabase(ctx, pool, log), "wait for the database")
	})
	t.Run("with the password of the file", func(t *testing.T) {
		t.Parallel()
		url := strings.Replace(messagingtest.Database(t), ":test-only@", ":wrong@", 1)
		pool, err := service.NewDatabase(t.Context(), service.DatabaseConfig{URL: url, Password: "test-only\n"})
		require.NoError(t, err)
		defer pool.Close()
		require.NoError(t, pool.Ping(t.Context()))
	})
	t.Run("not after a migration that fails", func(t *testing.T) {
		t.Parallel()
		pool := open(t, messagingtest.Database(t))
		err := service.AwaitDatabase(t.Context(), pool, zap.NewNop(), migrations(fstest.MapFS{"00001_bad.sql": {Data: []byte("-- +goose Up\nNONSENSE;\n")}}))
		require.ErrorContains(t, err, "migrate test_version")
	})
}

// No setting silently replaces another one.
func TestDatabaseSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config service.DatabaseConfig
		conns  int32
		idle   string
		err    string
	}{
		{"defaults", service.DatabaseConfig{URL: "postgres://db/x"}, 10, "30000", ""},
		{"connections by the variable", service.DatabaseConfig{URL: "postgres://db/x", MaxConns: 3}, 3, "30000", ""},
		{"connections by the URL", service.DatabaseConfig{URL: "postgres://db/x?pool_max_conns=7"}, 7, "30000", ""},
		{"connections by the URL, as keywords", service.DatabaseConfig{URL: "host=db dbname=x pool_max_conns=7"}, 7, "30000", ""},
		{"by both", service.DatabaseConfig{URL: "postgres://db/x?pool_max_conns=7", MaxConns: 7}, 0, "", "DATABASE_MAX_CONNS"},
		{"fewer than none", service.DatabaseConfig{URL: "postgres://db/x", MaxConns: -1}, 0, "", "DATABASE_MAX_CONNS"},
		{"none by the URL", service.DatabaseConfig{URL: "postgres://db/x?pool_max_conns=0"}, 0, "", "DATABASE_URL"},
		{"an idle time by the URL", service.DatabaseConfig{URL: "postgres://db/x?idle_in_transaction_session_timeout=5s"}, 10, "5s", ""},
		{"a URL that shows no password", service.DatabaseConfig{URL: "postgres://me:hush@localhost:port/x"}, 0, "", "DATABASE_URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, err := service.NewDatabase(t.Context(), c.config)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "hush")
				return
			}
			require.NoError(t, err)
			defer pool.Close()
			require.Equal(t, c.conns, pool.Config().MaxConns)
			require.Equal(t, c.idle, pool.Config().ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"])
		})
	}
}

func migrations(files fstest.MapFS) service.Migrations {
	return service.Migrations{VersionTable: "test_version", Files: func() (fs.FS, error) { return files, nil }}
}

// Three replicas that start at the same time run each migration once.
func TestMigrate(t *testing.T) {
	t.Parallel()
	url := messagingtest.Database(t)
	set := migrations(fstest.MapFS{
		"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (n int);\nSELECT pg_sleep(0.2);\n")},
		"00002_b.sql": {Data: []byte("-- +goose Up\nINSERT INTO a VALUES (1);\n")},
	})
	var replicas errgroup.Group
	for range 3 {
		pool := open(t, url)
		replicas.Go(func() error {
			return service.Migrate(t.Context(), pool, set,
				service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations})
		})
	}
	require.NoError(t, replicas.Wait())
	var rows, waiting int
	require.NoError(t, open(t, url).QueryRow(t.Context(), `SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM outbox)`).Scan(&rows, &waiting))
	require.Equal(t, 1, rows)
	require.Zero(t, waiting)
}

func TestMigrateSaysWhichSetFailed(t *testing.T) {
	t.Parallel()
	pool := open(t, messagingtest.Database(t))
	err := service.Migrate(t.Context(), pool, migrations(fstest.MapFS{"00001_bad.sql": {Data: []byte("-- +goose Up\nNONSENSE;\n")}}))
	require.ErrorContains(t, err, "migrate test_version")
}
