package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Declare makes the broker have the topology over AMQP alone: exchanges, queues, bindings.
// It is for development, and for those who have no management API: an ordinary user will
// do, with the rights to configure what it makes, and to write and read what it binds,
// dead-letters to and has as an alternate. It waits for a connection until ctx is done.
//
// The price is that all settings become arguments, where [Apply] writes policies: they
// can never change. A queue or exchange that is there with other settings, as one that
// Apply has made is, is refused by the broker (406 PRECONDITION_FAILED, with the name of
// the argument); to change them it has to be deleted. So a topology is declared or
// applied, and [Verify] is for what was applied.
//
// Declaring again changes nothing. A topology that is not valid sends nothing, and neither
// does one with a Federated exchange, which takes a policy. Then Declare goes from one
// entity to the next, and ends at the first that the broker refuses: a right that is
// missing (403 ACCESS_REFUSED, with the right and the entity), an exchange kind that it
// does not have, an external entity that is not there. What an external entity is like
// cannot be asked over AMQP.
//
// Users are not touched.
func (c *Conn) Declare(ctx context.Context, t Topology) error {
	if err := c.declare(ctx, t); err != nil {
		return fmt.Errorf("declare topology: %w", err)
	}
	return nil
}

func (c *Conn) declare(ctx context.Context, t Topology) error {
	for _, x := range t.Exchanges {
		if x.Federated {
			return x.wrong("Federated: takes a policy, see Apply")
		}
	}
	if err := t.Validate(); err != nil {
		return err
	}
	ctx, cancel := c.untilClosed(ctx)
	defer cancel()
	config := c.config
	config.CallTimeout = max(config.CallTimeout, declareTimeout)
	l := startLink(config, "declare")
	defer l.close(ctx)
	d, done, err := l.declarer(ctx)
	if err != nil {
		return errors.Join(err, l.failure())
	}
	defer done()
	return d.topology(ctx, t)
}

// declareTimeout bounds one AMQP method, beside its context: a busy broker takes long to
// make a quorum queue.
const declareTimeout = 2 * time.Minute

// A declarer declares over one channel.
type declarer struct {
	ch    *amqp.Channel
	guard func(func() error) error
}

// declarer opens a channel to declare on, until done. No method on it outlasts ctx.
func (l *link) declarer(ctx context.Context) (d *declarer, done func(), err error) {
	ep, err := l.await(ctx)
	if err != nil {
		return nil, nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = ep.raw.Close() })
	ch, err := ep.channel()
	if err != nil {
		release()
		return nil, nil, err
	}
	return &declarer{ch: ch, guard: ep.guard}, func() { ep.closeChannel(ch); release() }, nil
}

// topology declares everything of a topology with arguments, dead-letter queues first.
func (d *declarer) topology(ctx context.Context, t Topology) error {
	for _, x := range t.Exchanges {
		if err := d.exchange(ctx, x, x.allArguments()); err != nil {
			return err
		}
	}
	for _, q := range deadLettersFirst(t.Queues) {
		if err := d.queue(ctx, q, q.allArguments()); err != nil {
			return err
		}
	}
	for _, b := range t.Bindings {
		if err := d.bind(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// exchange declares an exchange, or looks whether an external one is there.
func (d *declarer) exchange(ctx context.Context, x Exchange, arguments amqp.Table) error {
	err := d.call(ctx, func() error {
		if x.External {
			return d.ch.ExchangeDeclarePassive(x.Name, string(x.Kind), true, false, false, false, nil)
		}
		return d.ch.ExchangeDeclare(x.Name, string(x.Kind), true, x.AutoDelete, x.Internal, false, arguments)
	})
	if isCode(err, amqp.CommandInvalid) || isCode(err, amqp.PreconditionFailed) && strings.Contains(err.Error(), "unknown exchange type") {
		err = fmt.Errorf("%w: %w", unknownKind(x.Kind), err)
	}
	if err != nil {
		return fmt.Errorf("exchange %q: %w", x.Name, err)
	}
	return nil
}

func unknownKind(k ExchangeKind) error {
	return fmt.Errorf("kind: the broker does not have %q, perhaps a plugin is not enabled", k)
}

// queue declares a queue, or looks whether an external one is there.
func (d *declarer) queue(ctx context.Context, q Queue, arguments amqp.Table) error {
	err := d.call(ctx, func() (err error) {
		if q.External {
			_, err = d.ch.QueueDeclarePassive(q.Name, true, false, false, false, nil)
			return err
		}
		_, err = d.ch.QueueDeclare(q.Name, true, q.AutoDelete, false, false, arguments)
		return err
	})
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.Name, err)
	}
	return nil
}

func (d *declarer) bind(ctx context.Context, b Binding) error {
	match, err := b.match()
	if err == nil {
		err = d.call(ctx, func() error {
			if b.ToExchange {
				return d.ch.ExchangeBind(b.Destination, b.Key, b.Source, false, match)
			}
			return d.ch.QueueBind(b.Destination, b.Key, b.Source, false, match)
		})
	}
	if err != nil {
		return fmt.Errorf("binding %s: %w", bindingName(b), err)
	}
	return nil
}

// call runs a synchronous AMQP method in bounded time.
func (d *declarer) call(ctx context.Context, method func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := d.guard(method)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func isCode(err error, code int) bool {
	var refused *amqp.Error
	return errors.As(err, &refused) && refused.Code == code
}
