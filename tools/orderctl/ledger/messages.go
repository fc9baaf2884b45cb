package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/contract"
)

// auditTimeout is how long reading the audit stream may take.
const auditTimeout = 2 * time.Minute

// ReadMessages reads the dead letters and the audit stream into b. After an error, call it
// again to read both.
func (s Source) ReadMessages(ctx context.Context, b *Books) (err error) {
	b.Dead = map[string][]DeadLetter{}
	for _, q := range s.Topology.Queues {
		if !isDead(q.Name) {
			continue
		}
		letters, err := s.ReadDead(q.Name)
		if err != nil {
			return fmt.Errorf("read %s: %w", q.Name, err)
		}
		for id, l := range letters {
			b.Dead[id] = append(b.Dead[id], l...)
		}
	}
	if b.Events, err = s.readAudit(ctx); err != nil {
		return fmt.Errorf("read the audit stream: %w", err)
	}
	return nil
}

// ReadDead returns the messages of a dead-letter queue by their ids, and leaves them in it.
func (s Source) ReadDead(queue string) (map[string][]DeadLetter, error) {
	ch, closeAll, err := s.channel()
	if err != nil {
		return nil, err
	}
	defer closeAll() // the messages go back to the queue
	letters := map[string][]DeadLetter{}
	for {
		m, ok, err := ch.Get(queue, false)
		if err != nil || !ok {
			return letters, err
		}
		reason, ok := m.Headers["dead-reason"].(string)
		if !ok {
			reason, _ = m.Headers["x-first-death-reason"].(string) // dead-lettered by the broker
		}
		letters[m.MessageId] = append(letters[m.MessageId], DeadLetter{queue, reason, m.CorrelationId})
	}
}

// readAudit reads the audit stream from its beginning to a message that it publishes to the
// stream itself first.
func (s Source) readAudit(ctx context.Context) (map[Event]int, error) {
	ch, closeAll, err := s.channel()
	if err != nil {
		return nil, err
	}
	defer closeAll()
	now := uuid.NewString()
	err = errors.Join(ch.Qos(1000, 0, false), ch.PublishWithContext(ctx, "", contract.Audit, true, false, amqp.Publishing{MessageId: now, DeliveryMode: amqp.Persistent}))
	if err != nil {
		return nil, err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, contract.Audit, "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		return nil, err
	}
	timeout := time.After(auditTimeout)
	events := map[Event]int{}
	for {
		select {
		case m, ok := <-deliveries:
			if !ok {
				return nil, errors.New("the broker has closed the channel")
			}
			if m.MessageId == now {
				return events, nil
			}
			events[Event{m.CorrelationId, m.Type}]++
			if err := m.Ack(false); err != nil {
				return nil, err
			}
		case <-timeout:
			return nil, fmt.Errorf("its end was not reached within %s", auditTimeout)
		}
	}
}

func (s Source) channel() (ch *amqp.Channel, closeAll func(), err error) {
	conn, err := s.Broker()
	if err != nil {
		return nil, nil, err
	}
	if ch, err = conn.Channel(); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return ch, func() { _ = conn.Close() }, nil
}
