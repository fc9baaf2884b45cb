package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging"
)

// Every contender sends the same bytes: a JSON body of 1 KiB and the properties that a service
// needs. Each makes an id for each message.
const (
	kind = "bench.v1"
	user = "bench"
	app  = "bench"
	keys = 64 // number of different routing keys
)

type payload struct {
	Order   string `json:"order"`
	Amount  int64  `json:"amount"`
	Comment string `json:"comment"`
}

var body = func() []byte {
	encoded, err := json.Marshal(payload{Order: uuid.Nil.String(), Amount: 4200, Comment: strings.Repeat("x", 1024)})
	if err != nil {
		panic(err)
	}
	return append(encoded[:1022], '"', '}')
}()

var routingKeys = func() (out [keys]string) {
	for i := range out {
		out[i] = fmt.Sprintf("order-%d", i)
	}
	return out
}()

func rawMessage() (amqp.Publishing, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return amqp.Publishing{}, err
	}
	return amqp.Publishing{
		MessageId: id.String(), Type: kind, AppId: app, UserId: user, Timestamp: time.Now(),
		ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body,
	}, nil
}

func ourMessage() (messaging.Message, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return messaging.Message{}, err
	}
	return messaging.Message{
		ID: id.String(), Type: kind, Timestamp: time.Now(), ContentType: "application/json", Body: body,
	}, nil
}
