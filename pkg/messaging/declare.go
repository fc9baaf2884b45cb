package messaging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Declare brings a topology to the broker over AMQP alone: exchanges, queues and bindings. It
// is for development, and for brokers without access to the management API. The user needs
// no tag, only rights: to configure what it declares, and to write and read the entities of
// its bindings, dead-letter routes and alternate exchanges. Declare waits for a connection
// until ctx is done.
//
// All settings become arguments, which can never change; [Apply] writes policies. The broker
// refuses an entity that exists with other settings, for example because Apply has made it
// (406 PRECONDITION_FAILED, with the name of the argument). To change its settings it must
// be deleted. So use either Declare or Apply for a topology, and [Verify] only after Apply.
//
// To declare a topology again changes nothing. Nothing is sent for a topology that is not
// valid, nor for one with a Federated exchange, which needs a policy. Otherwise Declare ends
// at the first entity that the broker refuses: because a right is missing (403
// ACCESS_REFUSED, with the right and the entity), the broker does not have the exchange
// kind, or an external entity does not exist. AMQP cannot ask for the settings of an
// external entity, so these are not compared.
//
// Users are not changed.
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

// declareTimeout bounds one AMQP method, in addition to its context. It is long because a busy
// broker takes long to make a quorum queue.
const declareTimeout = 2 * time.Minute

// A declarer declares entities on one channel.
type declarer struct {
	ch    *amqp.Channel
	guard func(func() error) error
}

// declarer opens a channel for declaring. done closes it. No method on it takes longer than
// ctx allows.
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

// exchange declares an exchange, or checks that an external one exists.
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

// queue declares a queue, or checks that an external one exists.
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

// call runs a synchronous AMQP method, for declareTimeout at most.
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
