package messaging

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// maxShortString is the length of AMQP's type shortstr, in bytes.
	maxShortString = 255
	// maxHeaders is how many bytes of headers a message may have. All its properties
	// travel in one frame, of 128 KiB by the broker's default, and what is not a header
	// needs less than the rest.
	maxHeaders = 124 << 10
)

// Validate says whether AMQP can carry the message to a route. Publishers and
// callers ask themselves; it is for those who keep a message to publish it later.
// The error is an [ErrInvalid].
func (m Message) Validate(route Route) error { return validate(route, &m) }

// validate refuses what AMQP cannot carry: some of it would cost the connection,
// and with it the outcome of every other message that is on its way.
func validate(route Route, m *Message) error {
	if m.ID == "" {
		return fmt.Errorf("%w: Message.ID: must not be empty", ErrInvalid)
	}
	for _, f := range [...]struct{ name, value string }{
		{"Route.Exchange", route.Exchange}, {"Route.Key", route.Key}, {"Message.ID", m.ID}, {"Message.Type", m.Type},
		{"Message.CorrelationID", m.CorrelationID}, {"Message.ReplyTo", m.ReplyTo}, {"Message.AppID", m.AppID},
		{"Message.UserID", m.UserID}, {"Message.ContentType", m.ContentType}, {"Message.ContentEncoding", m.ContentEncoding},
	} {
		if len(f.value) > maxShortString {
			return fmt.Errorf("%w: %s: has %d bytes, AMQP allows %d", ErrInvalid, f.name, len(f.value), maxShortString)
		}
	}
	if len(m.Headers) == 0 {
		return nil
	}
	if err := amqp.Table(m.Headers).Validate(); err != nil {
		return fmt.Errorf("%w: Message.Headers: %w", ErrInvalid, err)
	}
	size, err := encodedSize(amqp.Table(m.Headers))
	if err == nil && size > maxHeaders {
		err = fmt.Errorf("%d bytes, at most %d fit into a frame", size, maxHeaders)
	}
	if err != nil {
		return fmt.Errorf("%w: Message.Headers: %w", ErrInvalid, err)
	}
	return nil
}

// encodedSize is how many bytes a header takes on the wire, at most. It fails for a
// name that is too long, also one deep inside.
func encodedSize(value any) (int, error) {
	const prefix = 5 // the type, and the length of what follows
	switch v := value.(type) {
	case string:
		return prefix + len(v), nil
	case []byte:
		return prefix + len(v), nil
	case []any:
		size := prefix
		for _, element := range v {
			n, err := encodedSize(element)
			if err != nil {
				return 0, err
			}
			size += n
		}
		return size, nil
	case amqp.Table:
		size := prefix
		for name, field := range v {
			if len(name) > maxShortString {
				return 0, fmt.Errorf("the name %.20q... has %d bytes, AMQP allows %d", name, len(name), maxShortString)
			}
			n, err := encodedSize(field)
			if err != nil {
				return 0, err
			}
			size += 1 + len(name) + n
		}
		return size, nil
	default:
		return 9, nil // the longest of the others: int64, float64, time
	}
}
