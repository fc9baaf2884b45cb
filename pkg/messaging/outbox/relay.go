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
	// roundTimeout is for how long one round sends rows. Then it waits for the confirms of
	// those that are on their way, for rowWait at most. PostgreSQL ends a transaction that
	// is idle for idleSlack longer than that. So a process that freezes or loses its
	// network during a round holds up the other replicas for no longer.
	roundTimeout = 4 * time.Second
	idleSlack    = time.Second
	// recordTimeout is the time that a round has to store the outcomes.
	recordTimeout = 5 * time.Second
	// pollInterval is how often the relay looks without a Wake: for rows of replicas that
	// are gone, and for rows whose delay is over.
	pollInterval = 250 * time.Millisecond
	// firstDelay and maxDelay bound for how long a refused row holds back its key.
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
	// lateDelay is for how long only the relay that has sent a late row waits for its
	// confirm. Afterwards another relay may send it again.
	lateDelay = 2 * time.Second

	// lockID is the advisory lock of relay rounds: one at a time per database.
	lockID = 0x6f7574626f78
)

// Relay publishes the messages of an outbox. Every replica of a service runs one. They take
// turns: a round holds a lock for the length of its transaction.
//
// A message that the broker refuses holds back the messages with its key: for half a second
// at first, and for up to 30 s when it is refused again. When the broker closes the channel
// or the connection because of one of several messages, and it is not known which, each of
// them is sent again alone. Messages to other exchanges and queues go on meanwhile.
//
// The confirm of a message may be late, for example because its queue has lost its leader.
// Such a message holds back the messages with its key. When there are too many of them, they
// also hold back the others to their exchange, or on the default exchange to their queue. This
// relay waits for the confirm over many rounds and does not send the message again. After 2 s
// every other replica may send it once, since this one may be gone.
type Relay struct {
	pool *pgxpool.Pool
	pub  *messaging.Publisher
	log  *zap.Logger
	wake chan struct{}

	// Only the goroutine of Run uses these.
	life         context.Context // until Run returns
	stop         context.CancelFunc
	lanes        map[messaging.Route]*lane
	sendings     map[int64]*sending // rows that the publisher has and that have no outcome yet, by id
	expected     int                // how many outcomes will come
	results      chan *sending
	lateOutcomes outcomes // of rows of earlier rounds, not stored yet
}

// NewRelay makes a relay; [Relay.Run] runs it. The publisher must wait for confirms; others
// may use it too. With a nil logger nothing is logged.
func NewRelay(pool *pgxpool.Pool, pub *messaging.Publisher, log *zap.Logger) *Relay {
	if log == nil {
		log = zap.NewNop()
	}
	return &Relay{pool: pool, pub: pub, log: log, wake: make(chan struct{}, 1)}
}

// Wake makes the relay look for new messages. Call it after a commit. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx is done. The round that runs then waits for confirms for one more
// second and has 5 s to store the outcomes; then Run returns nil. It returns an error at
// once when the relay was made without a pool, or without a publisher that waits for
// confirms. Only one Run of a relay may run at a time.
func (r *Relay) Run(ctx context.Context) error {
	switch {
	case r.pool == nil:
		return errors.New("outbox: the relay has no database")
	case r.pub == nil || !r.pub.Confirms():
		return errors.New("outbox: the relay has no publisher that waits for confirms")
	}
	r.life, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.lanes, r.sendings, r.lateOutcomes = map[messaging.Route]*lane{}, map[int64]*sending{}, outcomes{}
	r.results = make(chan *sending)
	defer r.endSending()
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
	bad      error // why the message cannot be decoded
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
	if err := r.record(stop, tx, r.lateOutcomes); err != nil {
		return false, err
	}
	rows, more, err := r.take(stop, tx)
	if err != nil || len(rows) == 0 && r.lateOutcomes.empty() {
		return false, err
	}
	// A row that is published and not recorded would be published again. So when Run is to
	// stop, nothing more is sent, and the round still waits for what is on its way.
	ctx, cancel := context.WithTimeout(stop, roundTimeout)
	defer cancel()
	recordedHere := r.lateOutcomes // those that come while the round runs are for the next one
	r.lateOutcomes = outcomes{}
	out := r.publish(ctx, rows)
	recording, recorded := context.WithTimeout(context.WithoutCancel(stop), recordTimeout)
	defer recorded()
	err = r.record(recording, tx, out)
	if err == nil {
		err = tx.Commit(recording)
	}
	if err != nil {
		r.lateOutcomes.join(recordedHere) // the transaction was rolled back
		return false, fmt.Errorf("commit a relay round: %w", err)
	}
	return more, out.broken
}

// lock keeps other relays out until the transaction ends.
func (r *Relay) lock(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", (roundTimeout+rowWait+idleSlack).Milliseconds()))
	if err != nil {
		return fmt.Errorf("limit the relay's transaction: %w", err)
	}
	// Wait for the lock: rows that were committed after the other relay had looked are
	// left for this round.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockID)); err != nil {
		return fmt.Errorf("lock the outbox: %w", err)
	}
	return nil
}

// take selects rows whose key is not held back, as many as a round may have, and says
// whether there may be more. It uses clock_timestamp, because the transaction may have
// begun long ago: it has waited for the lock.
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
	// A few rows at first. Their mean size says how many more fit.
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

// record stores outcomes: it deletes the rows that are confirmed, and sets for the others
// when they may be sent again.
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
