package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/orderflow/e2e/internal/stack"
)

// The database goes away, or a service is killed at one moment of its transaction.
var (
	DatabaseRestarted = Fault{Name: "database restarted", Takes: 3 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.docker("restart -t 30", "postgres")(ctx)
	}}
	DatabaseKilled = Fault{Name: "database killed", Takes: 3 * time.Second, run: func(ctx context.Context, in *Injector) error { return in.kill("postgres")(ctx) }}
	// The provider captures, and the transaction that would write it down never ends.
	KilledAfterCapture = Fault{Name: "billing killed between capture and commit", Takes: 6 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.held(ctx, "billing", "ledger", "INSERT INTO ledger%", in.kill("billing"))
	}}
	// The relay publishes, and the transaction that would take the messages out of the
	// outbox never ends.
	KilledAfterConfirm = Fault{Name: "orders killed between confirm and the outbox's commit", Takes: 4 * time.Second, run: func(ctx context.Context, in *Injector) error {
		return in.held(ctx, "orders", "outbox", "DELETE FROM outbox%", in.kill("orders"))
	}}
)

// held locks a table against writes, waits until a statement that writes to it waits for
// the lock, does something meanwhile, and lets the lock go.
func (in *Injector) held(ctx context.Context, database, table, statement string, do step) (err error) {
	conn, err := in.Stack.ChangeDatabase(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }() // lets the lock go
	err = stack.Poll(ctx, 30*time.Second, func() error {
		if _, err := conn.Exec(ctx, "ROLLBACK; BEGIN; LOCK TABLE "+table+" IN SHARE MODE"); err != nil {
			return fmt.Errorf("lock %s: %w", table, err)
		}
		// The lock keeps new work away too: where there was none, lock once more.
		return stack.Poll(ctx, time.Second, func() error {
			// Without this a transaction sees the statistics of its first look only.
			if _, err := conn.Exec(ctx, "SELECT pg_stat_clear_snapshot()"); err != nil {
				return err
			}
			var waiting int
			err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock' AND ltrim(query, E' \t\n') LIKE $2`, database, statement).Scan(&waiting)
			if err == nil && waiting == 0 {
				err = fmt.Errorf("no %q waits in %s", statement, database)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return do(ctx)
}

// admit opens a database to connections, or closes it and ends those that there are.
func (in *Injector) admit(database string, open bool) step {
	return func(ctx context.Context) error {
		conn, err := in.Stack.ChangeDatabase(ctx, "postgres")
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", database, open))
		if err == nil && !open {
			_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
		}
		return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
}
