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
	// maxWait is the longest time that the broker accepts in a message or an argument of a
	// queue. In a policy it accepts longer ones, some of which crash the queue.
	maxWait = 10 * 365 * 24 * time.Hour
	// maxPrefetch is the largest number in basic.qos, where 0 means no limit.
	maxPrefetch = math.MaxUint16
	// maxMessageSize is the largest max_message_size that a broker can have.
	maxMessageSize = 512 << 20
)

// defaultMaxMessageSize is the broker's default of max_message_size, in bytes.
const defaultMaxMessageSize = 16 << 20

// Validate says whether AMQP, the client library and the broker can carry the message to a
// route, with a body of at most 16 MiB. Publishers and callers do this check too, with
// [Config.MaxMessageSize] as the limit. Validate is for a message that is stored and published
// later. The error is an [ErrInvalid] that names the field.
func (m Message) Validate(route Route) error {
	return validate(route, &m, limits{size: defaultMaxMessageSize})
}

// validate refuses a message as Message.Validate does, and sets its headers to those that are
// sent.
func (c *Conn) validate(route Route, m *Message) error {
	return validate(route, m, limits{size: c.config.MaxMessageSize})
}

// limits are the limits that differ between messages.
type limits struct {
	size int // the largest size of the body
	// received marks a message of another client that is published again unchanged. AMQP
	// carries some values in it that are refused in our own messages.
	received bool
}

// validate refuses messages that cannot be carried. For some of them the broker would close the
// channel or the connection, so that the outcome of all other messages on their way would be
// unknown. Others would arrive changed, or would end the connection of every consumer.
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
	if err := checkText(route.Key); err != nil { // also for a message of another client
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
		return errors.New("Message.ReplyTo: only a Caller can use direct reply-to")
	case m.Expiration < 0:
		return errors.New("Message.Expiration: must not be negative")
	case m.Expiration > maxWait:
		return fmt.Errorf("Message.Expiration: the broker accepts at most %s", maxWait)
	case len(m.Body) > l.size:
		return fmt.Errorf("Message.Body: has %d bytes, the broker accepts at most %d", len(m.Body), l.size)
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

// checkText says what is wrong with a value of AMQP's type shortstr. When one is not UTF-8 the
// broker closes the connection: in every method except basic.publish, and there too if a
// stream gets the message. AMQP forbids a zero byte, and PostgreSQL cannot store it.
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

// checkName says what is wrong with the name of a queue or an exchange of any owner. The broker
// removes line ends from names when they are declared, but not when publishing or consuming.
func checkName(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\x7f' }) {
		return errors.New("holds a control character")
	}
	return nil
}

// checkNewName says what is wrong with the name of an entity that is to be declared.
func checkNewName(s string) error {
	if strings.HasPrefix(s, "amq.") {
		return errors.New(`names that begin with "amq." are the broker's own`)
	}
	return checkName(s)
}

// checkPathName says what is wrong with a name that is the last part of a URL of the management
// API, where "." and ".." have another meaning, even if they are percent-encoded.
func checkPathName(s string) error {
	if s == "." || s == ".." {
		return errors.New("cannot be part of a URL of the management API")
	}
	return checkName(s)
}

// checkTime says what is wrong with a time. JSON allows no other years, and streams count
// milliseconds.
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
		return fmt.Errorf("the broker accepts at most %s", maxWait)
	}
	return nil
}
