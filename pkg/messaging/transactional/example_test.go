package transactional_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
)

// Outbox and inbox: a payment is delivered twice, as can happen with every message. It changes
// an account once and causes one event.
func Example() {
	payments := messaging.Queue{Name: "payments", Type: messaging.Quorum}
	booked := messaging.Queue{Name: "booked", Type: messaging.Quorum}
	pool := must(pgxpool.New(context.Background(), messagingtest.DatabaseForExample()))
	defer pool.Close()
	ctx, conn, done := messagingtest.ForExample(messaging.Topology{Queues: []messaging.Queue{payments, booked}})
	defer done()
	migrate(ctx, pool, inbox.VersionTable, inbox.Migrations)
	migrate(ctx, pool, outbox.VersionTable, outbox.Migrations)
	must(pool.Exec(ctx, `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint)`))
	must(pool.Exec(ctx, `INSERT INTO accounts VALUES ('ada', 0)`))

	publisher := must(conn.Publisher())
	relay := outbox.NewRelay(pool, publisher, nil)
	running, stop := context.WithCancel(ctx)
	stopped := make(chan error)
	go func() { stopped <- relay.Run(running) }()

	type payment struct {
		Account string
		Amount  int64
	}
	db := transactional.New(pool, relay.Wake, nil)
	book := transactional.JSON(db, func(ctx context.Context, tx *transactional.Tx, _ *messaging.Delivery, p payment) error {
		var balance int64
		err := tx.QueryRow(ctx, `UPDATE accounts SET balance = balance + $2 WHERE id = $1 RETURNING balance`, p.Account, p.Amount).Scan(&balance)
		if err != nil {
			return err
		}
		event := must(messaging.NewMessage(messaging.MessageType{Name: "payment.booked.v1"}, balance))
		return outbox.Add(ctx, tx, p.Account, messaging.Route{Key: booked.Name}, event)
	})
	must(conn.Consume(payments, book))

	m := must(messaging.NewMessage(messaging.MessageType{Name: "payment.v1"}, payment{"ada", 100}))
	for range 2 {
		check(publisher.Publish(ctx, messaging.Route{Key: payments.Name}, m))
	}
	events := make(chan int64, 2)
	must(conn.Consume(booked, messaging.JSON(func(_ context.Context, _ *messaging.Delivery, balance int64) error {
		events <- balance
		return nil
	})))
	fmt.Println("booked, the balance is", <-events)

	stop()
	check(<-stopped)
	// Output: booked, the balance is 100
}

// migrate brings a package's tables up to date.
func migrate(ctx context.Context, pool *pgxpool.Pool, versionTable string, migrations func() (fs.FS, error)) {
	db := stdlib.OpenDBFromPool(pool)
	defer func() { check(db.Close()) }()
	provider := must(goose.NewProvider(goose.DialectPostgres, db, must(migrations()), goose.WithTableName(versionTable)))
	must(provider.Up(ctx))
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
