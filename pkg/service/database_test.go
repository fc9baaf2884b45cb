package service_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/service"
)

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := service.OpenDatabase(t.Context(), service.DatabaseConfig{URL: url}, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// onWarning makes a logger that calls f at each line.
func onWarning(f func()) *zap.Logger {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(nowhere{}), zap.WarnLevel)
	return zap.New(core, zap.Hooks(func(zapcore.Entry) error { f(); return nil }))
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

func TestOpenDatabase(t *testing.T) {
	t.Parallel()
	t.Run("waits until it is there", func(t *testing.T) {
		t.Parallel()
		url := messagingtest.Database(t)
		admin := open(t, url)
		later := url[strings.LastIndexByte(url, '/')+1:] + "_later"
		log := onWarning(func() {
			if _, err := admin.Exec(context.Background(), "CREATE DATABASE "+later); err != nil {
				t.Error(err)
			}
		})
		pool, err := service.OpenDatabase(t.Context(), service.DatabaseConfig{URL: url + "_later", MaxConns: 3}, log)
		require.NoError(t, err)
		defer pool.Close()
		require.EqualValues(t, 3, pool.Config().MaxConns)
	})
	t.Run("no longer than it may", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := service.OpenDatabase(ctx, service.DatabaseConfig{URL: "postgres://127.0.0.1:1/nothing"}, onWarning(cancel))
		require.ErrorContains(t, err, "open the database")
	})
	t.Run("with the password of the file", func(t *testing.T) {
		t.Parallel()
		url := strings.Replace(messagingtest.Database(t), ":test-only@", ":wrong@", 1)
		pool, err := service.OpenDatabase(t.Context(), service.DatabaseConfig{URL: url, Password: "test-only\n"}, zap.NewNop())
		require.NoError(t, err)
		pool.Close()
	})
	t.Run("refuses a URL without showing the password", func(t *testing.T) {
		t.Parallel()
		_, err := service.OpenDatabase(t.Context(), service.DatabaseConfig{URL: "postgres://me:hush@localhost:port/x"}, zap.NewNop())
		require.ErrorContains(t, err, "DATABASE_URL")
		require.NotContains(t, err.Error(), "hush")
	})
}

func migrations(files fstest.MapFS) service.Migrations {
	return service.Migrations{VersionTable: "test_version", Files: func() (fs.FS, error) { return files, nil }}
}

// Three replicas that start together run each migration once.
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

func TestOutboxMetrics(t *testing.T) {
	t.Parallel()
	pool := open(t, messagingtest.Database(t))
	require.NoError(t, service.Migrate(t.Context(), pool, service.Migrations{VersionTable: outbox.VersionTable, Files: outbox.Migrations}))
	registry := service.NewRegistry()
	service.OutboxMetrics(registry, pool)
	value := func(name string) float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		require.Fail(t, "no such metric", name)
		return 0
	}
	_, err := pool.Exec(t.Context(), `INSERT INTO outbox (key, exchange, route, message) VALUES ('o1', 'e', 'k', '{}')`)
	require.NoError(t, err)
	require.InDelta(t, 1, value("outbox_waiting"), 0)
	require.InDelta(t, 0, value("outbox_held_back"), 0)
	pool.Close()
	require.InDelta(t, -1, value("outbox_waiting"), 0, "unknown is not zero")
}
