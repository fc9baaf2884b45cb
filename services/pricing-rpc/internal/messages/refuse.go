package messages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

// replyTimeout limits the publish of a refusal.
const replyTimeout = 5 * time.Second

// overAfter is how long after the last refusal the log says that they are over.
const overAfter = 10 * time.Second

// refuser answers calls of an unknown type, and calls of senders that may not call. Without it
// the caller would get no answer, for example one with a newer version while pricing-rpc is
// still the old one.
type refuser struct {
	pub     *messaging.Publisher
	refused *service.Episode
}

func newRefuser(pub *messaging.Publisher, log *zap.Logger) *refuser {
	return &refuser{pub, service.NewEpisode(log, zap.WarnLevel, "calls refused", overAfter)}
}

func (r *refuser) wrap(next messaging.Handler) messaging.Handler {
	return messaging.HandlerFunc(func(ctx context.Context, d *messaging.Delivery) error {
		err := next.Handle(ctx, d)
		var refusal *messaging.RemoteError
		switch {
		case errors.Is(err, messaging.ErrUnknownType):
			refusal = &messaging.RemoteError{Code: contract.CodeUnknownType, Message: "there is no such call"}
		case errors.Is(err, messaging.ErrUntrustedSource):
			refusal = &messaging.RemoteError{Code: contract.CodeNotAllowed, Message: "this sender may not call"}
		default:
			r.refused.Over()
			return err
		}
		if replyErr := r.reply(ctx, d, refusal); replyErr != nil {
			err = errors.Join(err, replyErr)
		}
		r.refused.Seen(refusal.Code, err)
		return nil // the call was answered, so it is acknowledged
	})
}

// reply sends the refusal, if the call has a reply-to. It sends only to direct reply-to and
// server-named queues: since senders are not trusted here, they must not be able to choose
// another queue.
func (r *refuser) reply(ctx context.Context, d *messaging.Delivery, refusal *messaging.RemoteError) error {
	if !strings.HasPrefix(d.ReplyTo, "amq.rabbitmq.reply-to.") && !strings.HasPrefix(d.ReplyTo, "amq.gen-") {
		return nil
	}
	m, err := messaging.NewMessage(messaging.MessageType{Name: replyType(d.Type), Owner: contract.PricingUser}, refusal)
	if err != nil {
		return err
	}
	m.Transient, m.CorrelationID = true, d.CorrelationID
	m.Headers = map[string]any{messaging.HeaderError: refusal.Code}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	if err := r.pub.Publish(ctx, messaging.Route{Key: d.ReplyTo}, m, messaging.AllowUnroutable()); err != nil {
		return fmt.Errorf("send the refusal: %w", err)
	}
	return nil
}

// replyType is the type of the reply by the naming rule of package contract: the reply to
// pricing.quote.v2 is pricing.quote.reply.v2.
func replyType(request string) string {
	i := strings.LastIndex(request, ".v")
	if i < 0 {
		return request + ".reply"
	}
	return request[:i] + ".reply" + request[i:]
}
