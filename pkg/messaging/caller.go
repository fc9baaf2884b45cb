package messaging

import (
	"context"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// directReplyTo is the pseudo-queue over which the broker passes answers directly to the
// channel that has sent the request (https://www.rabbitmq.com/docs/direct-reply-to).
const directReplyTo = "amq.rabbitmq.reply-to"

// Caller sends requests and gets the answers by direct reply-to. No queue is declared, and
// any number of goroutines may share a Caller. See [Call].
//
// As with a [Publisher], each exchange has a channel of its own, and on the default exchange
// each queue: a call to an exchange that is missing does not make other calls fail. When a
// connection is lost all open calls on it fail with [ErrConnectionLost], because their
// answers are lost too.
type Caller struct {
	requests *Publisher
	closing  chan struct{}
	once     sync.Once

	mu   sync.Mutex
	open map[string]chan<- *Delivery // by correlation id
}

// Caller makes a caller. Make few callers and close those that are not used any more.
func (c *Conn) Caller() *Caller {
	caller := &Caller{requests: c.newPublisher(publisherConfig{confirms: true, window: defaultWindow}), closing: make(chan struct{}), open: map[string]chan<- *Delivery{}}
	caller.requests.answers, caller.requests.owner = caller.answer, caller
	c.adopt(caller)
	return caller
}

// Close fails all open calls with [ErrClosed] and closes the channels.
func (c *Caller) Close(ctx context.Context) error {
	c.once.Do(func() { close(c.closing) })
	c.requests.stop(ErrClosed) // no call waits for a confirm any more
	return c.requests.Close(ctx)
}

func (c *Caller) ready() error { return c.requests.ready() }

// call sends a request and waits for its answer. ctx has a deadline.
func (c *Caller) call(ctx context.Context, route Route, m Message) (answer *Delivery, err error) {
	conn := c.requests.conn
	to := conn.config.observers
	m.AppID = conn.config.AppID
	m.UserID = conn.user
	if len(to.confirm) > 0 || len(to.publish) > 0 {
		started := time.Now()
		var finish func(ConfirmEvent)
		if len(to.publish) > 0 {
			m, finish = to.publishing(ctx, route, m, true)
		}
		defer func() {
			to.confirmed(finish, ConfirmEvent{
				Route: route, MessageID: m.ID, Type: m.Type, Call: true, Err: err, Took: time.Since(started),
			})
		}()
	}
	if err := conn.validate(route, &m); err != nil {
		return nil, err
	}
	m.ReplyTo = directReplyTo
	answers := make(chan *Delivery, 1)
	c.expect(m.CorrelationID, answers)
	defer c.take(m.CorrelationID)
	request := &Confirmation{message: Message{ID: m.ID}, started: time.Now(), route: route, mandatory: true, call: true}
	if err := c.requests.send(ctx, request, &m); err != nil {
		return nil, err
	}
	defer request.session.answered()
	return c.wait(ctx, request, answers)
}

// wait waits for the answer, or until it is known that there will be none.
func (c *Caller) wait(ctx context.Context, request *Confirmation, answers <-chan *Delivery) (*Delivery, error) {
	confirmed := request.wire.Done()
	for {
		select {
		case answer := <-answers:
			return answer, nil
		case <-confirmed:
			if err := request.Wait(ctx); err != nil {
				return nil, err
			}
			confirmed = nil
		case <-request.session.ended: // the answer, if there was one, is lost too
			if err := request.Err(); err != nil {
				return nil, err
			}
			return nil, ErrConnectionLost
		case <-c.closing:
			return nil, ErrClosed
		case <-ctx.Done():
			if confirmed == nil {
				return nil, ended(ctx, "the broker has the request, and no answer has come")
			}
			return nil, ended(ctx, request.missing())
		}
	}
}

// remaining is the time until the deadline of ctx, in the milliseconds that the broker
// counts. When it has passed that is an error and the request is not sent: without a time to
// live it would stay in the queue for ever.
func remaining(ctx context.Context) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ended(ctx, "not sent")
	}
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	if left <= 0 { // the timer of the context has not fired yet
		return 0, fmt.Errorf("%w (not sent)", context.DeadlineExceeded)
	}
	return min(left, maxWait), nil
}

// expect notes an open call.
func (c *Caller) expect(id string, answers chan<- *Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = answers
}

// take removes an open call. It gives nil if the call is not open any more.
func (c *Caller) take(id string) chan<- *Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	answers := c.open[id]
	delete(c.open, id)
	return answers
}

// answer passes an answer on to its call.
func (c *Caller) answer(d amqp.Delivery) {
	answers := c.take(d.CorrelationId)
	if answers == nil {
		c.requests.conn.config.Logger.Debug("late answer dropped", zap.String("correlation_id", d.CorrelationId))
		return
	}
	answers <- newDelivery(d, directReplyTo) // there is room
}
