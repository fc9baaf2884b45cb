package messaging

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Route says where a message is published: an exchange and a routing key. The empty exchange
// is AMQP's default exchange, which routes to the queue whose name is the key.
type Route struct {
	Exchange, Key string
}

// Message is a body and AMQP's basic properties. The body has no further envelope inside.
//
// Make one with [NewMessage], which sets the id. Publish does not: a message that is
// published again, from an outbox or after an unknown outcome, must keep the id by which its
// consumers recognise it.
type Message struct {
	// ID is a UUIDv7. Consumers recognise by it a message that they have handled already.
	ID string
	// Type names the kind and version of the body ("order.placed.v1").
	Type string
	// CorrelationID is the same for messages that belong together, for example the id of an
	// order. A call has an id of its own.
	CorrelationID string
	// Priority is 0 to 31 on a quorum queue, higher first; a larger one counts as 31. 0
	// means unset, for which the broker takes 4.
	Priority uint8
	// Transient messages may be lost when the broker restarts.
	Transient bool
	// Expiration drops (or dead-letters) the message when it has waited this long in a
	// queue, in whole milliseconds and at most ten years. 0 means never; a value below 0 is
	// refused.
	Expiration time.Duration
	// ReplyTo is the queue for an answer. Only [Caller] can use direct reply-to.
	ReplyTo string
	// AppID and UserID are set by the publisher if they are empty: to the application's name
	// and the broker user that has logged in. The broker refuses any other UserID.
	AppID, UserID string
	// Timestamp is when the message was made. It is sent in whole seconds. The zero time is
	// not sent.
	Timestamp time.Time
	// ContentType is the media type of the body. NewMessage sets it by the type's codec.
	ContentType string
	// ContentEncoding is for the application ("gzip"). [JSONCodec] refuses encoded bodies.
	ContentEncoding string
	// Headers hold strings in UTF-8, booleans, integers, float64, time.Time in whole
	// seconds, []byte, nil, and slices and maps of all of these; the keys of maps are
	// strings. A slice arrives as []any, and a map as the client library's amqp.Table (a
	// map[string]any). An int, a uint and a uint64 are sent as int64, and must fit; other
	// integers keep their size. The limits are 124 KiB, 8,128 names, 8,192 elements of a
	// list and 32 levels: more could not be read back. From a stream lists and tables come
	// back only under names that begin with "x-".
	Headers map[string]any
	// Body has at most [Config.MaxMessageSize] bytes.
	Body []byte
}

// NewMessage makes a persistent message with a new UUIDv7 as its id and the current time in
// whole seconds. The type's codec encodes the body: as JSON if the type has no codec. It
// fails only when the body cannot be encoded.
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
