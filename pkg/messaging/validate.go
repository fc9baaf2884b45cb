package messaging

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// What AMQP, the client library and RabbitMQ can carry. The numbers are the
// protocol's, or were found by trying on RabbitMQ 4.3.6 with amqp091-go 1.16: see
// DESIGN.md.
const (
	// maxShortString is the length of AMQP's type shortstr, in bytes.
	maxShortString = 255
	// maxWait is the longest time that the broker takes for a message and as an
	// argument of a queue. It takes longer ones in a policy, of which some kill the queue.
	maxWait = 10 * 365 * 24 * time.Hour
	// maxPrefetch is what basic.qos has room for. Its 0 means no bound.
	maxPrefetch = math.MaxUint16
	// maxMessageSize is the largest max_message_size that a broker can be given.
	maxMessageSize = 512 << 20
)

// defaultMaxMessageSize is the size in bytes of the largest body that a broker takes
// if it is not configured otherwise (max_message_size).
const defaultMaxMessageSize = 16 << 20

// Validate says whether AMQP, the client library and the broker can carry the message
// to a route, with a body of at most 16 MiB. Publishers and callers check it by
// themselves, with [Config.MaxMessageSize] as the limit: this is for those who keep a
// message to publish it later. The error is an [ErrInvalid] that names the field.
func (m Message) Validate(route Route) error {
	return validate(route, &m, limits{size: defaultMaxMessageSize})
}

// validate refuses a message as Message.Validate does, and leaves the headers in it as
// they go out.
func (c *Conn) validate(route Route, m *Message) error {
	return validate(route, m, limits{size: c.config.MaxMessageSize})
}

// limits are those that are not the same for every message.
type limits struct {
	size int // of the body
	// received marks a message that is passed on as it came: what another client has
	// sent may hold what is refused of our own, although AMQP carries it.
	received bool
}

// validate refuses what cannot be carried: some of it would cost the channel or the
// connection, and with it the outcome of every other message that is on its way; some
// would arrive as something else; some would end the connection of every consumer.
func validate(route Route, m *Message, l limits) error {
	if err := invalidField(route, m, l); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func invalidField(route Route, m *Message, l limits) error {
	if m.ID == "" {
		return errors.New("Message.ID: must not be empty")
	}
	if err := checkName(route.Exchange); err != nil {
		return fmt.Errorf("Route.Exchange: %w", err)
	}
	if err := checkText(route.Key); err != nil { // also for a message that is passed on
		return fmt.Errorf("Route.Key: %w", err)
	}
	for _, f := range [...]struct{ name, value string }{
		{"Message.ID", m.ID}, {"Message.Type", m.Type},
		{"Message.CorrelationID", m.CorrelationID}, {"Message.ReplyTo", m.ReplyTo}, {"Message.AppID", m.AppID},
		{"Message.UserID", m.UserID}, {"Message.ContentType", m.ContentType}, {"Message.ContentEncoding", m.ContentEncoding},
	} {
		if err := checkText(f.value); err != nil && (!l.received || len(f.value) > maxShortString) {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	switch {
	case m.ReplyTo == directReplyTo:
		return errors.New("Message.ReplyTo: direct reply-to works from a Caller only")
	case m.Expiration < 0:
		return errors.New("Message.Expiration: must not be negative")
	case m.Expiration > maxWait:
		return fmt.Errorf("Message.Expiration: the broker takes at most %s", maxWait)
	case len(m.Body) > l.size:
		return fmt.Errorf("Message.Body: has %d bytes, the broker takes at most %d", len(m.Body), l.size)
	}
	if err := checkTime(m.Timestamp); err != nil {
		return fmt.Errorf("Message.Timestamp: %w", err)
	}
	headers, err := carriedHeaders(m.Headers, l.received)
	if err != nil {
		return fmt.Errorf("Message.Headers: %w", err)
	}
	m.Headers = headers
	return nil
}

// checkText says what is wrong with a value of AMQP's type shortstr. The broker closes
// the connection over one that is not UTF-8: at once in every method but basic.publish,
// and there where a stream takes the message. A zero byte is what AMQP forbids, and what
// PostgreSQL cannot keep.
func checkText(s string) error {
	switch {
	case len(s) > maxShortString:
		return fmt.Errorf("has %d bytes, AMQP allows %d", len(s), maxShortString)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("holds a zero byte")
	}
	return nil
}

// checkName says what is wrong with the name of a queue or an exchange, whoever has
// declared it. The broker leaves line ends out when it declares, and not when it
// publishes and consumes.
func checkName(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\x7f' }) {
		return errors.New("holds a control character")
	}
	return nil
}

// checkNewName says what is wrong with the name of what is to be declared.
func checkNewName(s string) error {
	if strings.HasPrefix(s, "amq.") {
		return errors.New(`names that begin with "amq." are the broker's own`)
	}
	return checkName(s)
}

// checkPathName says what is wrong with a name that is the last part of a URL of the
// management API, where "." and ".." mean something else, also percent-encoded.
func checkPathName(s string) error {
	if s == "." || s == ".." {
		return errors.New("cannot be part of a URL of the management API")
	}
	return checkName(s)
}

// checkTime says what is wrong with a time. JSON has no year beyond these, and streams
// count milliseconds.
func checkTime(t time.Time) error {
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Errorf("the year %d is not between 0 and 9999", y)
	}
	return nil
}

// checkWait says what is wrong with a time that the broker counts in milliseconds.
func checkWait(d time.Duration) error {
	switch {
	case d < 0:
		return errors.New("must not be negative")
	case d%time.Millisecond != 0:
		return errors.New("must be whole milliseconds, at least 1 ms")
	case d > maxWait:
		return fmt.Errorf("the broker takes at most %s", maxWait)
	}
	return nil
}
