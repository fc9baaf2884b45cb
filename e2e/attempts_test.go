package e2e_test

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

// attempt is an operation that a broker user tries on a new channel. Its error is the broker's
// refusal.
type attempt func(ch *amqp.Channel) error

// The possible attempts. Each waits for the broker's answer.

func declareExchange(name string) attempt {
	return func(ch *amqp.Channel) error { return ch.ExchangeDeclare(name, "topic", true, false, false, false, nil) }
}

func deleteExchange(name string) attempt {
	return func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) }
}

func declareQueue(name string) attempt {
	return func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		return err
	}
}

func lookAtQueue(name string) attempt {
	return func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	}
}

func lookAtExchange(name string) attempt {
	return func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(name, "topic", true, false, false, false, nil)
	}
}

func deleteQueue(name string) attempt {
	return func(ch *amqp.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err }
}

func purge(queue string) attempt {
	return func(ch *amqp.Channel) error { _, err := ch.QueuePurge(queue, false); return err }
}

func bind(exchange, key, queue string) attempt {
	return func(ch *amqp.Channel) error { return ch.QueueBind(queue, key, exchange, false, nil) }
}

func unbind(exchange, key, queue string) attempt {
	return func(ch *amqp.Channel) error { return ch.QueueUnbind(queue, key, exchange, nil) }
}

func bindExchange(source, destination string) attempt {
	return func(ch *amqp.Channel) error { return ch.ExchangeBind(destination, "#", source, false, nil) }
}

// spyOn binds a queue of the user, which every user may declare, to an exchange.
func spyOn(exchange string) attempt {
	return func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclare("", false, false, true, false, nil)
		if err != nil {
			return err
		}
		return ch.QueueBind(q.Name, "#", exchange, false, nil)
	}
}

// deadLetterInto declares a queue of the user that dead-letters expired messages to an exchange.
func deadLetterInto(exchange string) attempt {
	return func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare("", false, false, true, false, amqp.Table{"x-dead-letter-exchange": exchange, "x-message-ttl": int64(0)})
		return err
	}
}

func get(queue string) attempt {
	return func(ch *amqp.Channel) error { _, _, err := ch.Get(queue, false); return err }
}

func consume(queue string) attempt {
	return func(ch *amqp.Channel) error {
		if err := ch.Qos(1, 0, false); err != nil { // a stream requires it
			return err
		}
		_, err := ch.Consume(queue, "", false, false, false, false, nil)
		return err
	}
}

// write publishes to an exchange; the exchange "" routes to queues by their names.
func write(exchange, key string) attempt { return writeAs("", exchange, key) }

// writeAs publishes with a user id.
func writeAs(user, exchange, key string) attempt {
	return func(ch *amqp.Channel) error {
		if err := ch.Publish(exchange, key, false, false, amqp.Publishing{UserId: user, Body: []byte("{}")}); err != nil {
			return err
		}
		return ch.Qos(1, 0, false) // a publish has no answer; the answer to this comes after its refusal
	}
}

// tryAs returns the code of the broker's refusal, 0 if there was none.
func tryAs(t *testing.T, conn *amqp.Connection, try attempt) (code int, reason string) {
	t.Helper()
	ch, err := conn.Channel()
	require.NoError(t, err)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	err = try(ch)
	if err == nil {
		require.NoError(t, ch.Close())
		return 0, ""
	}
	select {
	case e := <-closed: // the method's own error may only say that the channel is closed
		require.NotNil(t, e, err)
		return e.Code, e.Reason
	case <-time.After(10 * time.Second):
		t.Fatalf("refused by the client and not by the broker: %v", err)
		return 0, ""
	}
}

// dialAs connects as a user, to the virtual host of b.
func dialAs(t *testing.T, b *messagingtest.BrokerInfo, user, password string) (*amqp.Connection, error) {
	t.Helper()
	conn, err := amqp.Dial(b.WithUser(t, user, password))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}
