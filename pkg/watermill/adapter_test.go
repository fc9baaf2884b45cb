package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"example.com/orderflow/pkg/messaging"
)

// A topic is a fanout exchange. A consumer group is a queue bound to it, whose subscribers
// compete.

// publisher is Watermill's message.Publisher.
type publisher struct{ *messaging.Publisher }

func (p publisher) Publish(topic string, messages ...*message.Message) error {
	sent := make([]*messaging.Confirmation, len(messages))
	for i, m := range messages {
		headers := make(map[string]any, len(m.Metadata))
		for name, value := range m.Metadata {
			headers[name] = value
		}
		sent[i] = p.PublishAsync(m.Context(), messaging.Route{Exchange: topic}, messaging.Message{ID: m.UUID, Headers: headers, Body: m.Payload})
	}
	var errs []error
	for i, c := range sent {
		errs = append(errs, c.Wait(messages[i].Context()))
	}
	return errors.Join(errs...)
}

func (p publisher) Close() error { return p.Publisher.Close(within(closeTimeout)) }

// subscriber is Watermill's message.Subscriber.
type subscriber struct {
	conn    *messaging.Conn
	declare func(topic string, q messaging.Queue) error
	queue   messaging.Queue // its name is the consumer group's
	opts    []messaging.ConsumeOption
	closing chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

func (s *subscriber) named(topic string) messaging.Queue {
	q := s.queue
	q.Name = topic + "." + q.Name
	return q
}

func (s *subscriber) SubscribeInitialize(topic string) error { return s.declare(topic, s.named(topic)) }

func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	messages := make(chan *message.Message)
	consumer, err := s.conn.Consume(s.named(topic), handler(ctx, messages), s.opts...)
	if err != nil {
		return nil, err
	}
	s.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.closing:
		case <-consumer.Done(): // its Conn is closed
		}
		_ = consumer.Stop(within(closeTimeout)) // gives back the messages that were not received
		<-consumer.Done()
		close(messages)
	})
	return messages, nil
}

func (s *subscriber) Close() error {
	s.once.Do(func() { close(s.closing) })
	s.running.Wait()
	return nil
}

var errNacked = errors.New("nacked")

// handler passes deliveries on, and waits for their Ack or Nack, which is the verdict.
func handler(subscribed context.Context, messages chan<- *message.Message) messaging.Handler {
	return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		m := message.NewMessage(d.ID, d.Body)
		for name, value := range d.ApplicationHeaders() {
			m.Metadata[name] = fmt.Sprint(value)
		}
		own, cancel := context.WithCancel(subscribed)
		defer cancel()
		m.SetContext(own)
		select {
		case messages <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-m.Acked():
			return nil
		case <-m.Nacked():
			return errNacked
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

const closeTimeout = 20 * time.Second

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	time.AfterFunc(d, cancel)
	return ctx
}
