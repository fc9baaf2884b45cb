package messaging_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// A caller knows its answer by the correlation id that it has made, whatever that is, and
// wherever it waits: in a queue of its own, or by direct reply-to.
func TestACorrelationIDGoesBackAsItCame(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	rpcQueue(t, raw(t, b))
	conn := b.Connect(t, b.Config())
	_, err := conn.Consume(messaging.Queue{Name: "rpc_queue"}, messaging.Serve(publisher(t, conn), shout,
		func(_ context.Context, _ *messaging.Delivery, word string) (string, error) {
			return strings.ToUpper(word), nil
		}))
	require.NoError(t, err)
	for _, direct := range []bool{false, true} {
		ch := raw(t, b)
		replyTo := "amq.rabbitmq.reply-to"
		if !direct {
			q, err := ch.QueueDeclare("", false, true, true, false, nil)
			require.NoError(t, err)
			replyTo = q.Name
		}
		answers, err := ch.ConsumeWithContext(t.Context(), replyTo, "", true, false, false, false, nil)
		require.NoError(t, err)
		for _, id := range []string{"a\x00b", "\xff\xfe", strings.Repeat("\xc3", 255), uuid.NewString()} {
			request := plainText("hello")
			request.CorrelationId, request.ReplyTo = id, replyTo
			require.NoError(t, ch.PublishWithContext(t.Context(), "", "rpc_queue", false, false, request))
			answer := next(t, answers)
			require.Equal(t, id, answer.CorrelationId, "direct: %t", direct)
			require.Equal(t, "HELLO", string(answer.Body))
		}
	}
}

// A reply-to that the broker would close the connection over is answered nowhere, and
// others are answered all the same.
func TestAReplyToThatIsNoText(t *testing.T) {
	t.Parallel()
	b := messagingtest.Broker(t)
	s := serve(t, b)
	for _, replyTo := range []string{"\xff", "a\x00"} {
		request := amqp.Publishing{
			MessageId: uuid.NewString(), Type: upper.Request.Name, UserId: owner, ReplyTo: replyTo,
			ContentType: "application/json", Body: []byte(`"hello"`),
		}
		require.NoError(t, raw(t, b).PublishWithContext(t.Context(), "calls", "upper", false, false, request))
		require.Equal(t, verdict{request.MessageId, messaging.Dropped}, next(t, s.verdicts))
	}
	require.NoError(t, s.conn.Ready())
}
