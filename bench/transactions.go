package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/transactional"
)

// Messages handled as a service does: one database transaction stores that the message was
// handled, and its effect.

const (
	workers   = 8  // concurrent transactions
	batchSize = 64 // messages in one transaction, if they are handled in batches
)

// openDatabase connects, and creates the two tables again.
func openDatabase(ctx context.Context, b *broker) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(b.database)
	if err != nil {
		return nil, fmt.Errorf("-database: %w", err)
	}
	config.MaxConns = workers
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, `DROP TABLE IF EXISTS inbox, effects;
		CREATE TABLE inbox (queue text, message_id text, seen_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (queue, message_id));
		CREATE INDEX inbox_seen_at ON inbox (seen_at);
		CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id text, amount bigint)`)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("prepare the database: %w", err)
	}
	return pool, nil
}

// effect stores the effect of a message.
func effect(ctx context.Context, tx pgx.Tx, p payload) error {
	_, err := tx.Exec(ctx, `INSERT INTO effects (order_id, amount) VALUES ($1, $2)`, p.Order, p.Amount)
	return err
}

// checkEffects returns an error unless each message has had its effect once.
func checkEffects(ctx context.Context, pool *pgxpool.Pool, n int) error {
	var effects int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM effects`).Scan(&effects); err != nil {
		return err
	}
	if effects != n {
		return fmt.Errorf("%d effects of %d messages", effects, n)
	}
	return nil
}

// rawTransactions handles messages in several goroutines, each message in its own transaction, and
// acknowledges each.
func rawTransactions(ctx context.Context, b *broker, n int) (job, error) {
	pool, err := openDatabase(ctx, b)
	if err != nil {
		return job{}, err
	}
	conn, chs, err := rawChannels(b.url, 1, false)
	if err != nil {
		return job{}, err
	}
	run := func(ctx context.Context) ([]time.Duration, error) {
		if err := chs[0].Qos(2*workers, 0, false); err != nil {
			return nil, err
		}
		deliveries, err := chs[0].Consume(queue, "", false, false, false, false, nil)
		if err != nil {
			return nil, err
		}
		err = parallel(workers, n, func(_, _ int) error { return rawTransaction(ctx, pool, <-deliveries) })
		return nil, errors.Join(err, checkEffects(ctx, pool, n))
	}
	return job{run, func() error { pool.Close(); return conn.Close() }}, nil
}

func rawTransaction(ctx context.Context, pool *pgxpool.Pool, d amqp.Delivery) error {
	var p payload
	if err := json.Unmarshal(d.Body, &p); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO inbox (queue, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, queue, d.MessageId)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return effect(ctx, tx, p)
	})
	if err != nil {
		return err
	}
	return d.Ack(false)
}

// ourTransactions is the same with a transactional handler, for single messages or, with a
// size above 1, for batches.
func ourTransactions(size int) func(context.Context, *broker, int) (job, error) {
	return func(ctx context.Context, b *broker, n int) (job, error) {
		pool, err := openDatabase(ctx, b)
		if err != nil {
			return job{}, err
		}
		conn, stop, err := connect(ctx, b)
		if err != nil {
			return job{}, err
		}
		db := transactional.New(pool, nil, nil)
		var handled atomic.Int64
		done := make(chan struct{})
		mux := messaging.NewMux("")
		mux.Handle(benchType, transactional.JSON(db, func(ctx context.Context, tx *transactional.Tx, _ *messaging.Delivery, p payload) error {
			tx.OnCommit(func() {
				if handled.Add(1) == int64(n) {
					close(done)
				}
			})
			return effect(ctx, tx, p)
		}))
		run := func(ctx context.Context) ([]time.Duration, error) {
			consumer, err := consumeTransactions(conn, db, mux.Handler(), size)
			if err != nil {
				return nil, err
			}
			<-done
			return nil, errors.Join(consumer.Drain(ctx), checkEffects(ctx, pool, n))
		}
		return job{run, func() error { err := stop(); pool.Close(); return err }}, nil
	}
}

func consumeTransactions(conn *messaging.Conn, db *transactional.DB, h messaging.Handler, size int) (*messaging.Consumer, error) {
	if size == 1 {
		return conn.Consume(work, h, messaging.Concurrency(workers), messaging.Prefetch(2*workers))
	}
	return conn.ConsumeBatch(work, size, db.Each(h), messaging.Concurrency(2), messaging.Prefetch(4*size))
}
