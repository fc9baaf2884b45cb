package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
)

const (
	// patience is for how long a wave waits for its confirms. What is late then does
	// not hold up the others; a later round learns its outcome.
	patience = time.Second
	// maxLate is how many late messages an exchange may have; with one, that many are
	// on their way at most. With more than 32 unconfirmed messages of a channel at one
	// quorum queue the broker soon reads nothing more from the connection.
	maxLate = 16
)

// sent is a row on its way.
type sent struct {
	row
	confirmation *messaging.Confirmation
}

// failure is a row that was refused.
type failure struct {
	row
	err error
}

// outcomes are what became of rows.
type outcomes struct {
	done   []int64   // confirmed
	late   []int64   // not confirmed yet, or not sent because of those that are not
	lost   []int64   // were late, and nobody will ever know
	failed []failure // refused
	broken error     // why the round ended early; nothing changes for the rows it is about
}

func (o *outcomes) empty() bool { return len(o.done)+len(o.late)+len(o.lost)+len(o.failed) == 0 }

// isRefusal says whether the message itself was refused. Everything else, such as
// a lost connection, is no fault of the message: it stays as it is, and goes out
// again, if need be a second time.
func isRefusal(err error) bool {
	return errors.Is(err, messaging.ErrNacked) || errors.Is(err, messaging.ErrUnroutable) || errors.Is(err, messaging.ErrInvalid)
}

// arrived takes what was late and has its outcome now.
func (r *Relay) arrived() outcomes {
	var out outcomes
	for id, o := range r.late {
		if !isDone(o.confirmation) {
			continue
		}
		delete(r.late, id)
		switch err := o.confirmation.Err(); {
		case err == nil:
			out.done = append(out.done, id)
		case isRefusal(err):
			out.failed = append(out.failed, failure{o.row, err})
		default:
			out.lost = append(out.lost, id)
		}
	}
	return out
}

// publish sends the rows in waves: the first row of each key, and when those are
// confirmed the next ones. A key whose row is refused or late sends no more.
func (r *Relay) publish(ctx context.Context, rows []row) outcomes {
	var out outcomes
	queues := map[string][]row{}
	var wave []row
	for _, o := range rows {
		if len(queues[o.key]) == 0 {
			wave = append(wave, o)
		}
		queues[o.key] = append(queues[o.key], o)
	}
	for len(wave) > 0 && out.broken == nil && ctx.Err() == nil {
		now, later := r.split(wave, &out)
		wave = later
		for _, o := range r.wave(ctx, now, &out) {
			if queues[o.key] = queues[o.key][1:]; len(queues[o.key]) > 0 {
				wave = append(wave, queues[o.key][0])
			}
		}
	}
	return out
}

// split says which rows of a wave may go now. An exchange with late messages gets few
// more, and none when they are too many: they would be as late. A message that is on
// its way is not sent again, and a publisher would not send another one of its id.
func (r *Relay) split(wave []row, out *outcomes) (now, later []row) {
	late, sending := map[string]int{}, map[string]int{}         // by exchange
	lateIDs, sendingIDs := map[string]bool{}, map[string]bool{} // of messages
	for _, o := range r.late {
		late[o.route.Exchange]++
		lateIDs[o.message.ID] = true
	}
	for _, o := range wave {
		x := o.route.Exchange
		switch {
		case o.bad != nil:
			now = append(now, o) // to be refused
		case lateIDs[o.message.ID], late[x] >= maxLate:
			out.late = append(out.late, o.id)
		case sendingIDs[o.message.ID], late[x] > 0 && late[x]+sending[x] >= maxLate:
			later = append(later, o)
		default:
			now = append(now, o)
			sending[x]++
			sendingIDs[o.message.ID] = true
		}
	}
	return now, later
}

// wave sends rows of different keys, and gives those that are confirmed.
func (r *Relay) wave(ctx context.Context, rows []row, out *outcomes) []row {
	confirmed, suspects := r.send(ctx, rows, out)
	// The broker has closed the channel over one of these and does not say which. So
	// each once more, and nothing else of ours with it.
	for _, s := range suspects {
		innocent, guilty := r.send(ctx, []row{s.row}, out)
		confirmed = append(confirmed, innocent...)
		out.failed = append(out.failed, guilty...)
	}
	return confirmed
}

// send sends rows at once and waits for their confirms. suspects were on their way
// when the broker refused one of them.
func (r *Relay) send(ctx context.Context, rows []row, out *outcomes) (confirmed []row, suspects []failure) {
	var all []sent
	for _, o := range rows {
		if o.bad != nil {
			out.failed = append(out.failed, failure{o, fmt.Errorf("decode the message: %w", o.bad)})
			continue
		}
		all = append(all, sent{o, r.pub.PublishAsync(ctx, o.route, o.message)})
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, o := range all {
		select {
		case <-o.confirmation.Done():
		case <-ctx.Done():
		}
		if !isDone(o.confirmation) { // both may be
			r.late[o.id] = o
			out.late = append(out.late, o.id)
			r.log.Warn("message not confirmed yet", zap.String("key", o.key), zap.Int64("outbox_id", o.id))
			continue
		}
		switch err := o.confirmation.Err(); {
		case err == nil:
			out.done = append(out.done, o.id)
			confirmed = append(confirmed, o.row)
		case isRefusal(err):
			out.failed = append(out.failed, failure{o.row, err})
		case errors.Is(err, messaging.ErrRefused):
			suspects = append(suspects, failure{o.row, err})
		default:
			out.broken = fmt.Errorf("publish from the outbox: %w", err)
		}
	}
	return confirmed, suspects
}

func isDone(c *messaging.Confirmation) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}
