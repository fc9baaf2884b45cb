package messaging

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MIME type of every body in this system.
const contentTypeJSON = "application/json"

// DefaultPriority is the priority that a quorum queue gives to a message without one.
const DefaultPriority = 4

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
	// Priority is 0 to 31 on a quorum queue, higher first. 0 means unset, which
	// the broker reads as 4.
	Priority uint8
	// Transient messages may be lost when the broker restarts.
	Transient bool
	// Expiration drops (or dead-letters) the message when it has waited this
	// long in a queue, in whole milliseconds. 0 means never.
	Expiration time.Duration
	// ReplyTo is the queue that an answer goes to.
	ReplyTo string
	// AppID and UserID are filled in by the publisher: the application's name
	// and the connected broker user. The broker refuses a false UserID.
	AppID, UserID string
	// Timestamp is when the message was made, in whole seconds on the wire.
	Timestamp time.Time
	// ContentType is "application/json" for bodies made by NewMessage.
	ContentType string
	// ContentEncoding is free for the application ("gzip"); nothing here reads it.
	ContentEncoding string
	// Headers hold strings, booleans, int64, float64, time.Time, []byte, lists
	// and nested tables.
	Headers map[string]any
	Body    []byte
}

// NewMessage makes a persistent message with a new UUIDv7 as its id, the current
// time, and body encoded as JSON. It fails only when body cannot be encoded.
func NewMessage(kind MessageType, body any) (Message, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Message{}, fmt.Errorf("encode %s: %w", kind.Name, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Message{}, fmt.Errorf("make a message id: %w", err)
	}
	return Message{
		ID:          id.String(),
		Type:        kind.Name,
		Timestamp:   time.Now().UTC(),
		ContentType: contentTypeJSON,
		Body:        encoded,
	}, nil
}
