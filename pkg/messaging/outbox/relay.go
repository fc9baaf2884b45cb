package outbox

import (
	"context"
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
	// batchSize and batchBytes bound one round, and so how long it holds its transaction
	// and how much memory it needs. firstFetch is how many rows are read at first.
	batchSize  = 500
	batchBytes = 32 << 20
	firstFetch = 10
	// roundTimeout is for how long one round sends; then it waits for what is on its way,
	// at most for their patience. PostgreSQL ends a transaction that idles for longer, by
	// idleSlack: a process that is frozen, or cut off, in the middle of a round holds up
	// the other replicas until then.
	roundTimeout = 4 * time.Second
	idleSlack    = time.Second
	// recordTimeout is what a round gets to write down the outcomes.
	recordTimeout = 5 * time.Second
	// pollInterval finds what replicas that are gone have left behind.
	pollInterval = 250 * time.Millisecond
	// firstDelay and maxDelay bound how long a failure holds a key back.
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
	// lateDelay is for how long a message without a confirm is left to the relay that
	// has sent it. Another one may send it again afterwards.
	lateDelay = 2 * time.Second

	// lockID is the advisory lock of relay rounds: one at a time per database.
	lockID = 0x6f7574626f78
)

// Relay publishes what is in an outbox. Every replica of a service runs one; they
// take turns, since a round holds a lock for the length of its transaction.
//
// A message that the broker refuses holds back its own key, for half a second at first
// and up to 30 s when it happens again. When the broker closes the channel or the
// connection over one message of several and does not say which, each of them is sent
// again alone, beside everything else, until it is found.
//
// A message whose confirm is late (its queue has lost its leader, say) holds back its
// own key, and the others to its exchange, or on the default exchange to its queue, when
// there are too many of them. It stays on its way over many rounds, and this relay does
// not send it again. Its row is held back for a moment; then every other replica may
// send it once, since this one may be gone.
type Relay struct {
	pool *pgxpool.Pool
	pub  *messaging.Publisher
	log  *zap.Logger
	wake chan struct{}

	// The goroutine in Run has these.
	life     context.Context // until Run returns
	stop     context.CancelFunc
	lanes    map[messaging.Route]*lane
	sendings map[int64]*sending // handed to the publisher, and without an outcome, by the row's id
	expected int                // outcomes that will come
	results  chan *sending
	arrived  outcomes // of rows of earlier rounds, to be written down
}

// NewRelay makes a relay; [Relay.Run] runs it. The publisher may have other users; it
// has to wait for confirms. No logger, nil, logs nothing.
func NewRelay(pool *pgxpool.Pool, pub *messaging.Publisher, log *zap.Logger) *Relay {
	if log == nil {
		log = zap.NewNop()
	}
	return &Relay{pool: pool, pub: pub, log: log, wake: make(chan struct{}, 1)}
}

// Wake says that something was committed. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run relays until ctx is done; the round that then runs gets a second for its confirms
// and 5 s to write down what they were. Then it returns nil. It returns an error at once
// when the relay was made without a pool, or without a publisher that waits for confirms.
// A relay is run once at a time.
func (r *Relay) Run(ctx context.Context) error {
	switch {
	case r.pool == nil:
		return errors.New("outbox: the relay has no database")
	case r.pub == nil || !r.pub.Confirms():
		return errors.New("outbox: the relay has no publisher that waits for confirms")
	}
	r.life, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.lanes, r.sendings, r.arrived = map[messaging.Route]*lane{}, map[int64]*sending{}, outcomes{}
	r.results = make(chan *sending)
	defer r.abandon()
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
		case s := <-r.results:
			r.finish(s)
		case <-poll.C:
		}
	}
}

// row is a message in the outbox.
type row struct {
	id       int64
	key      string
	route    messaging.Route
	message  messaging.Message
	bad      error // message is not one
	attempts int
}

// round publishes one batch. It says whether more may be waiting.
func (r *Relay) round(stop context.Context) (more bool, err error) {
	tx, err := r.pool.Begin(stop)
	if err != nil {
		return false, fmt.Errorf("begin a relay round: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(stop)) }()
	if err := r.lock(stop, tx); err != nil {
		return false, err
	}
	r.collect()
	if err := r.record(stop, tx, r.arrived); err != nil {
		return false, err
	}
	rows, more, err := r.take(stop, tx)
	if err != nil || len(rows) == 0 && r.arrived.empty() {
		return false, err
	}
	// What is published and not recorded would be published again: a stop lets nothing
	// more be sent, and waits a little for what is on its way.
	ctx, cancel := context.WithTimeout(stop, roundTimeout)
	defer cancel()
	arrived := r.arrived // and what arrives while the round runs is for the next one
	r.arrived = outcomes{}
	out := r.publish(ctx, rows)
	recording, recorded := context.WithTimeout(context.WithoutCancel(stop), recordTimeout)
	defer recorded()
	err = r.record(recording, tx, out)
	if err == nil {
		err = tx.Commit(recording)
	}
	if err != nil {
		r.arrived.join(arrived) // it was not written down after all
		return false, fmt.Errorf("commit a relay round: %w", err)
	}
	return more, out.broken
}

// lock locks out other relays.
func (r *Relay) lock(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", (roundTimeout+patience+idleSlack).Milliseconds()))
	if err != nil {
		return fmt.Errorf("limit the relay's transaction: %w", err)
	}
	// Wait, do not try: what was committed after the other round had looked is ours.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockID)); err != nil {
		return fmt.Errorf("lock the outbox: %w", err)
	}
	return nil
}

// take selects the rows whose key is not held back, as many as a round may have, and
// says whether there may be more. Times are the clock's and not the transaction's, which
// may have waited long.
func (r *Relay) take(ctx context.Context, tx pgx.Tx) (rows []row, more bool, err error) {
	_, err = tx.Exec(ctx, fmt.Sprintf(`
		DECLARE candidates NO SCROLL CURSOR FOR
		SELECT id, key, exchange, route, message, attempts FROM outbox o
		WHERE NOT EXISTS (
			SELECT FROM outbox held
			WHERE held.key = o.key AND held.id <= o.id AND held.not_before > clock_timestamp())
		ORDER BY id LIMIT %d`, batchSize))
	if err != nil {
		return nil, false, fmt.Errorf("read the outbox: %w", err)
	}
	// A few at first, and then as many as have room if they are as large as those.
	size := 0
	for count := firstFetch; len(rows) < batchSize && size < batchBytes; count = (batchBytes - size) / max(size/len(rows), 1) {
		count = min(max(count, 1), batchSize-len(rows))
		found, err := tx.Query(ctx, fmt.Sprintf(`FETCH %d FROM candidates`, count))
		if err != nil {
			return nil, false, fmt.Errorf("read the outbox: %w", err)
		}
		fetched, err := pgx.CollectRows(found, func(scan pgx.CollectableRow) (row, error) {
			var o row
			var encoded []byte
			err := scan.Scan(&o.id, &o.key, &o.route.Exchange, &o.route.Key, &encoded, &o.attempts)
			o.message, o.bad = decode(encoded)
			size += len(encoded)
			return o, err
		})
		if err != nil {
			return nil, false, fmt.Errorf("read the outbox: %w", err)
		}
		rows = append(rows, fetched...)
		if len(fetched) < count {
			return rows, false, nil
		}
	}
	return rows, true, nil
}

// record deletes what is done and pushes back what is not.
func (r *Relay) record(ctx context.Context, tx pgx.Tx, out outcomes) error {
	if out.empty() {
		return nil
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM outbox WHERE id = ANY($1)`, out.done)
	batch.Queue(`UPDATE outbox SET not_before = NULL WHERE id = ANY($1)`, out.lost)
	batch.Queue(`UPDATE outbox SET not_before = clock_timestamp() + make_interval(secs => $2), last_error = $3 WHERE id = ANY($1)`,
		out.late, lateDelay.Seconds(), "not confirmed yet")
	for _, f := range out.failed {
		delay := min(firstDelay<<min(f.attempts, 10), maxDelay)
		delay = delay/2 + rand.N(delay/2)
		batch.Queue(`
			UPDATE outbox SET attempts = attempts + 1, last_error = $2,
				not_before = clock_timestamp() + make_interval(secs => $3) WHERE id = $1`,
			f.id, storable(f.err.Error()), delay.Seconds())
		r.log.Warn("message held back", zap.String("key", f.key), zap.Int64("outbox_id", f.id),
			zap.Int("attempts", f.attempts+1), zap.Duration("delay", delay), zap.Error(f.err))
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("record what was published: %w", err)
	}
	return nil
}
