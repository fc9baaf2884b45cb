package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/internal/plain"
)

// stored is a message as it is in the table: readable JSON in which every header keeps its
// type. Strings, booleans, float64, lists, tables and nil are the same in JSON. A value of
// any other type is an object whose only name is that type:
//
//	{"count": {"$int64": 5}, "at": {"$time": "2026-01-02T15:04:05Z"}, "raw": {"$bytes": "AQI="}}
type stored struct {
	messaging.Message
	Headers map[string]any // instead of the message's own
}

// encode makes the stored form of a message that is validated. An error is a
// [messaging.ErrInvalid].
func encode(m messaging.Message) ([]byte, error) {
	for _, f := range [...]struct{ name, value string }{
		{"ID", m.ID}, {"Type", m.Type}, {"CorrelationID", m.CorrelationID}, {"ReplyTo", m.ReplyTo}, {"AppID", m.AppID},
		{"UserID", m.UserID}, {"ContentType", m.ContentType}, {"ContentEncoding", m.ContentEncoding},
	} {
		if err := checkText("Message."+f.name, f.value); err != nil {
			return nil, err
		}
	}
	s := stored{Message: m}
	if len(m.Headers) > 0 {
		headers, err := encodeTable(m.Headers)
		if err != nil {
			return nil, fmt.Errorf("%w: Message.Headers: %w", messaging.ErrInvalid, err)
		}
		s.Headers = headers
	}
	encoded, err := json.Marshal(s)
	if err != nil { // a year of five digits
		return nil, fmt.Errorf("%w: %w", messaging.ErrInvalid, err)
	}
	return encoded, nil
}

// checkText refuses text that PostgreSQL cannot store. The statement would fail, and with
// it the caller's transaction.
func checkText(name, s string) error {
	if err := invalidText(s); err != nil {
		return fmt.Errorf("%w: %s: %w", messaging.ErrInvalid, name, err)
	}
	return nil
}

func invalidText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("holds a zero byte, which PostgreSQL cannot keep")
	}
	return nil
}

// storable replaces what PostgreSQL cannot store in a text.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func encodeTable(t map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(t))
	for name, value := range t {
		if err := invalidText(name); err != nil {
			return nil, fmt.Errorf("the name %.40q %w", name, err)
		}
		encoded, err := encodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("%.40q: %w", name, err)
		}
		out[name] = encoded
	}
	return out, nil
}

func encodeValue(value any) (any, error) {
	tagged := func(kind string, v any) (any, error) { return map[string]any{kind: v}, nil }
	switch v := value.(type) {
	case nil, bool:
		return v, nil
	case string:
		return v, invalidText(v)
	case float64:
		if v == 0 && math.Signbit(v) {
			return tagged("$float64", "-0")
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			encoded, err := encodeValue(element)
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			out[i] = encoded
		}
		return out, nil
	case amqp.Table:
		return encodeNested(v)
	case map[string]any:
		return encodeNested(v)
	case []byte:
		return tagged("$bytes", v)
	case time.Time:
		return tagged("$time", v)
	case int, uint, uint64: // AMQP has no such types: they are sent as int64
		return tagged("$int64", v)
	case int8, int16, int32, int64, uint8, uint16, uint32, float32:
		return tagged("$"+fmt.Sprintf("%T", v), v)
	default:
		if converted, ok := plain.Value(value); ok { // another map or slice type
			return encodeValue(converted)
		}
		return nil, fmt.Errorf("the outbox cannot keep a %T", value)
	}
}

// encodeNested encodes a table. One that looks like a value with its type is marked.
func encodeNested(t map[string]any) (any, error) {
	out, err := encodeTable(t)
	if err == nil && isTagged(out) {
		return map[string]any{"$table": out}, nil
	}
	return out, err
}

func isTagged(t map[string]any) bool {
	for name := range t {
		return len(t) == 1 && strings.HasPrefix(name, "$")
	}
	return false
}

// decode reads what encode makes, and also the plain JSON of earlier versions of the outbox.
func decode(encoded []byte) (messaging.Message, error) {
	var s stored
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.UseNumber() // a float64 does not have every int64
	if err := d.Decode(&s); err != nil {
		return messaging.Message{}, err
	}
	m := s.Message
	m.Headers = nil
	if s.Headers == nil {
		return m, nil
	}
	headers, err := decodeTable(s.Headers)
	if err != nil {
		return m, fmt.Errorf("decode the headers: %w", err)
	}
	m.Headers = headers
	return m, nil
}

func decodeTable(t map[string]any) (amqp.Table, error) {
	out := make(amqp.Table, len(t))
	for name, value := range t {
		decoded, err := decodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("%.40q: %w", name, err)
		}
		out[name] = decoded
	}
	return out, nil
}

func decodeValue(value any) (any, error) {
	switch v := value.(type) {
	case json.Number:
		return v.Float64()
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			decoded, err := decodeValue(element)
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			out[i] = decoded
		}
		return out, nil
	case map[string]any:
		if isTagged(v) {
			for kind, inner := range v {
				return decodeTagged(kind, inner)
			}
		}
		return decodeTable(v)
	default: // a string, a boolean, nil
		return v, nil
	}
}

func decodeTagged(kind string, value any) (any, error) {
	if table, ok := value.(map[string]any); ok && kind == "$table" {
		return decodeTable(table)
	}
	read, ok := kinds[kind]
	if !ok {
		return nil, fmt.Errorf("unknown type %q", kind)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return read(text)
}

// kinds decode the types that JSON does not have.
var kinds = map[string]func([]byte) (any, error){
	"$bytes": as[[]byte], "$time": as[time.Time], "$float32": as[float32],
	"$int8": as[int8], "$int16": as[int16], "$int32": as[int32], "$int64": as[int64],
	"$uint8": as[uint8], "$uint16": as[uint16], "$uint32": as[uint32],
	"$float64": func(text []byte) (any, error) { return strconv.ParseFloat(strings.Trim(string(text), `"`), 64) },
}

func as[T any](text []byte) (any, error) {
	var v T
	err := json.Unmarshal(text, &v)
	return v, err
}
