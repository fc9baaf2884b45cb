package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/contract"
	"example.com/orderflow/e2e/internal/stack"
	"example.com/orderflow/tools/orderctl/ledger"
)

// Poisoned puts a message that no consumer can decode into every queue that has a
// dead-letter queue. There must be nothing to repair; the ledger check looks for them.
var Poisoned = Fault{Name: "poison in every queue", Takes: 2 * time.Second, run: injectPoison}

func injectPoison(ctx context.Context, in *Injector) error {
	// A queue that is about to be deleted must stay empty.
	allow := in.Customers.PreventPause()
	defer allow()
	for _, q := range Topology.Queues {
		if q.DeadLetter == nil || q.DeadLetter.Exchange != contract.DeadLetters {
			continue
		}
		id, p := uuid.NewString(), ledger.PoisonMessage{Queue: q.Name, At: time.Since(in.Started)}
		in.notePoison(id, p)
		// The broker may be away, by another fault: what is not confirmed is sent again.
		if err := stack.Poll(ctx, 3*time.Minute, func() error { return in.publishPoison(ctx, q.Name, id) }); err != nil {
			return fmt.Errorf("poison for %s: %w", q.Name, err)
		}
		p.Stored = true
		in.notePoison(id, p)
	}
	return nil
}

func (in *Injector) notePoison(id string, p ledger.PoisonMessage) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.poison == nil {
		in.poison = map[string]ledger.PoisonMessage{}
	}
	in.poison[id] = p
}

func (in *Injector) publishPoison(ctx context.Context, queue, id string) error {
	conn, err := in.Stack.DialBroker()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
		MessageId: id, Type: contract.Charge.Name, ContentType: "application/json", DeliveryMode: amqp.Persistent, UserId: "admin", Body: []byte(`{"payment_id":`),
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stored, err := confirm.WaitContext(waiting)
	switch {
	case err != nil:
		return err
	case !stored:
		return errors.New("the broker refused it")
	case len(returned) > 0: // a return comes before the confirm
		return errors.New("there is no such queue")
	}
	return nil
}
