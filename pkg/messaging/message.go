package messaging

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Route is where a message goes: an exchange and a routing key. The zero
// exchange is AMQP's default exchange, which routes to the queue named by the key.
type Route struct {
	Exchange, Key string
}

// Message is what is published: a body and AMQP's basic properties, which are
// the envelope. There is no wrapper inside the body.
//
// Make one with [NewMessage]: the id is born there and not in Publish, so that a
// message which is published again, from an outbox or after an unknown outcome,
// keeps the id by which its consumers recognise it.
type Message struct {
	// ID is the idempotency key of all effects, a UUIDv7.
	ID string
	// Type names the kind and version of the body ("order.placed.v1").
	Type string
	// CorrelationID ties messages of one story together: here the order's id,
	// for a call its own.
	CorrelationID string
	// Priority is 0 to 31 on a quorum queue, higher first; what is above counts as 31.
	// 0 means unset, which the broker reads as 4.
	Priority uint8
	// Transient messages may be lost when the broker restarts.
	Transient bool
	// Expiration drops (or dead-letters) the message when it has waited this long in a
	// queue, in whole milliseconds and at most ten years. 0 means never; what is over
	// already, below 0, is refused.
	Expiration time.Duration
	// ReplyTo is the queue that an answer goes to. Direct reply-to is for [Caller] only.
	ReplyTo string
	// AppID and UserID are filled in by the publisher: the application's name
	// and the connected broker user. The broker refuses a false UserID.
	AppID, UserID string
	// Timestamp is when the message was made. Fractions of a second do not travel. The
	// zero time is none.
	Timestamp time.Time
	// ContentType is what the body is. NewMessage sets it, by the type's codec.
	ContentType string
	// ContentEncoding is free for the application ("gzip"). [JSONCodec] refuses what is
	// encoded.
	ContentEncoding string
	// Headers hold strings in UTF-8, booleans, integers, float64, time.Time in whole
	// seconds, []byte, nil, and slices and maps of all of these, whose keys are text. They
	// arrive as []any and as a nested table, whose type is that of the client library
	// (amqp.Table, a map[string]any). An int, a uint and a uint64
	// go out as int64, which they must fit; other integers keep their size. At most
	// 124 KiB, 8,128 names, 8,192 elements of a list and 32 levels can be read back.
	// A stream gives no lists and tables back, except under names that begin with "x-".
	Headers map[string]any
	// Body has at most [Config.MaxMessageSize] bytes.
	Body []byte
}

// NewMessage makes a persistent message with a new UUIDv7 as its id, the current time to
// the second, as it travels, and the body that the type's codec makes of a value: JSON, if
// it names no other. It fails only when the value cannot be encoded.
func NewMessage(kind MessageType, body any) (Message, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Message{}, fmt.Errorf("make a message id: %w", err)
	}
	m := Message{
		ID:        id.String(),
		Type:      kind.Name,
		Timestamp: time.Now().UTC().Truncate(time.Second),
	}
	if err := orJSON(kind.Codec).Encode(&m, body); err != nil {
		return Message{}, fmt.Errorf("encode %s: %w", kind.Name, err)
	}
	return m, nil
}
