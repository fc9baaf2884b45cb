package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
)

const (
	// batchSize bounds one round, and so how long it holds its transaction.
	batchSize = 500
	// roundTimeout bounds the publishing of one round. PostgreSQL ends a transaction
	// that idles for longer, by idleSlack: a process that is frozen, or cut off, in
	// the middle of a round holds up the other replicas until then.
	roundTimeout = 5 * time.Second
	idleSlack    = time.Second
	// stopTimeout is what a running round gets to finish when the relay is stopped.
	stopTimeout = 5 * time.Second
	// pollInterval finds what replicas that are gone have left behind.
	pollInterval = 250 * time.Millisecond
	// firstDelay and maxDelay bound how long a failure holds a key back.
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second

	// lockID is the advisory lock of relay rounds: one at a time per database.
	lockID = 0x6f7574626f78
)

// Relay publishes what is in an outbox. Every replica of a service runs one; they
// take turns, since a round holds a lock for the length of its transaction.
type Relay struct {
	pool *pgxpool.Pool
	pub  *messaging.Publisher
	log  *zap.Logger
	wake chan struct{}
}

// NewRelay makes a relay; [Relay.Run] runs it.
func NewRelay(pool *pgxpool.Pool, pub *messaging.Publisher, log *zap.Logger) *Relay {
	return &Relay{pool: pool, pub: pub, log: log, wake: make(chan struct{}, 1)}
}

// Wake says that something was committed. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run relays until ctx is done; the round that then runs is finished within 5 s.
// It returns nil.
func (r *Relay) Run(ctx context.Context) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		more, err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("relay round failed, trying again", zap.Error(err))
		}
		if ctx.Err() != nil {
			return nil
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-poll.C:
		}
	}
}

// row is a message in the outbox.
type row struct {
	id       int64
	key      string
	route    messaging.Route
	encoded  []byte
	attempts int
}

// round publishes one batch. It says whether more may be waiting.
func (r *Relay) round(stop context.Context) (more bool, err error) {
	tx, err := r.pool.Begin(stop)
	if err != nil {
		return false, fmt.Errorf("begin a relay round: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(stop)) }()
	rows, err := r.take(stop, tx)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	// From here on a stop waits a little: what is published and not recorded would
	// be published again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), roundTimeout)
	defer cancel()
	unhook := context.AfterFunc(stop, func() { time.AfterFunc(stopTimeout, cancel) })
	defer unhook()
	done, failed, broken := r.publish(ctx, rows)
	if err := r.record(ctx, tx, done, failed); err != nil {
		return false, err
	}
	return len(rows) == batchSize, broken
}

// take locks out other relays and selects the rows whose key is not held back.
// Times are the clock's and not the transaction's, which may have waited long.
func (r *Relay) take(ctx context.Context, tx pgx.Tx) ([]row, error) {
	_, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", (roundTimeout+idleSlack).Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("limit the relay's transaction: %w", err)
	}
	// Wait, do not try: what was committed after the other round had looked is ours.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockID)); err != nil {
		return nil, fmt.Errorf("lock the outbox: %w", err)
	}
	found, err := tx.Query(ctx, `
		SELECT id, key, exchange, route, message, attempts FROM outbox o
		WHERE NOT EXISTS (
			SELECT FROM outbox held
			WHERE held.key = o.key AND held.id <= o.id AND held.not_before > clock_timestamp())
		ORDER BY id LIMIT $1`, batchSize)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	rows, err := pgx.CollectRows(found, func(scan pgx.CollectableRow) (row, error) {
		var o row
		err := scan.Scan(&o.id, &o.key, &o.route.Exchange, &o.route.Key, &o.encoded, &o.attempts)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	return rows, nil
}

// failure is a row that was refused.
type failure struct {
	row
	err error
}

// isRefusal says whether the message itself was refused. Everything else, such as
// a lost connection, is no fault of the message: it stays as it is, and goes out
// again, if need be a second time.
func isRefusal(err error) bool {
	return errors.Is(err, messaging.ErrNacked) || errors.Is(err, messaging.ErrUnroutable) || errors.Is(err, errBadRow)
}

// send publishes one row alone, so that a refusal is its own. A message that the
// publisher will not send at all is refused too.
func (r *Relay) send(ctx context.Context, o row) error {
	var m messaging.Message
	if err := json.Unmarshal(o.encoded, &m); err != nil {
		return fmt.Errorf("%w: %w", errBadRow, err)
	}
	err := r.pub.Publish(ctx, o.route, m)
	if errors.Is(err, messaging.ErrRefused) {
		return fmt.Errorf("%w: %w", errBadRow, err)
	}
	return err
}

var errBadRow = errors.New("the row cannot be published")

// publish sends the rows in waves: the first row of each key, and when those are
// confirmed the next ones. A key whose row failed sends no more. broken is why the
// round ended early.
func (r *Relay) publish(ctx context.Context, rows []row) (done []int64, failed []failure, broken error) {
	queues := map[string][]row{}
	var keys []string
	for _, o := range rows {
		if _, known := queues[o.key]; !known {
			keys = append(keys, o.key)
		}
		queues[o.key] = append(queues[o.key], o)
	}
	for len(keys) > 0 && broken == nil {
		wave := make([]*messaging.Confirmation, len(keys))
		for i, key := range keys {
			var m messaging.Message
			if err := json.Unmarshal(queues[key][0].encoded, &m); err != nil {
				failed = append(failed, failure{queues[key][0], fmt.Errorf("%w: %w", errBadRow, err)})
				continue
			}
			wave[i] = r.pub.PublishAsync(ctx, queues[key][0].route, m)
		}
		var next []string
		for i, key := range keys {
			if wave[i] == nil {
				continue
			}
			o := queues[key][0]
			err := wave[i].Wait(ctx)
			if errors.Is(err, messaging.ErrRefused) {
				err = r.send(ctx, o) // it, or another one of the wave
			}
			switch {
			case err == nil:
				done = append(done, o.id)
				if queues[key] = queues[key][1:]; len(queues[key]) > 0 {
					next = append(next, key)
				}
			case isRefusal(err):
				failed = append(failed, failure{o, err})
			default:
				broken = fmt.Errorf("publish from the outbox: %w", err)
			}
		}
		keys = next
	}
	return done, failed, broken
}

// record deletes what is done, pushes back what failed, and commits.
func (r *Relay) record(ctx context.Context, tx pgx.Tx, done []int64, failed []failure) error {
	// The outcome is known now: writing it down may take longer than the round may.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if _, err := tx.Exec(ctx, `DELETE FROM outbox WHERE id = ANY($1)`, done); err != nil {
		return fmt.Errorf("delete what was published: %w", err)
	}
	for _, f := range failed {
		delay := min(firstDelay<<min(f.attempts, 10), maxDelay)
		delay = delay/2 + rand.N(delay/2)
		_, err := tx.Exec(ctx, `
			UPDATE outbox SET attempts = attempts + 1, last_error = $2,
				not_before = clock_timestamp() + make_interval(secs => $3) WHERE id = $1`,
			f.id, f.err.Error(), delay.Seconds())
		if err != nil {
			return fmt.Errorf("push back what failed: %w", err)
		}
		r.log.Warn("message held back", zap.String("key", f.key), zap.Int64("outbox_id", f.id),
			zap.Int("attempts", f.attempts+1), zap.Duration("delay", delay), zap.Error(f.err))
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit a relay round: %w", err)
	}
	return nil
}
