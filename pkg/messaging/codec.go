package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Codec encodes values as the bodies of messages and decodes them. [JSONCodec] and
// [BytesCodec] are codecs; a [MessageType] without one uses JSONCodec. A Codec must be safe
// for concurrent use, and comparable, so that a MessageType is comparable.
type Codec interface {
	// Encode sets the body of the message to v, and the properties that describe the body.
	Encode(m *Message, v any) error
	// Decode decodes the body of the message into the value that v points to. It must not
	// change the message. An error means that the message can never be decoded.
	Decode(m *Message, v any) error
}

// JSON makes a Handler of a typed function: it decodes the body into a T, as [JSONCodec] does.
//
// A body that cannot be decoded is a [Permanent] error with [ErrUndecodable], since a retry
// cannot help. So is a value for which the method Validate() error of T or *T, if there is
// one, returns an error.
//
// The Handler of a nil function is nil; [Conn.Consume] refuses it.
func JSON[T any](handle func(ctx context.Context, d *Delivery, body T) error) Handler {
	return Typed(JSONCodec{}, handle)
}

// Typed is [JSON] with another codec. A nil codec is [JSONCodec].
func Typed[T any](codec Codec, handle func(ctx context.Context, d *Delivery, body T) error) Handler {
	if handle == nil {
		return nil
	}
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		body, err := decode[T](codec, d)
		if err != nil {
			return Permanent(err)
		}
		return handle(ctx, d, body)
	})
}

// decode decodes and validates a body, for handlers, servers and callers.
func decode[T any](codec Codec, d *Delivery) (T, error) {
	var body T
	err := orJSON(codec).Decode(&d.Message, &body)
	if err == nil {
		err = check(&body)
	}
	if err != nil {
		return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
	}
	return body, nil
}

func orJSON(c Codec) Codec {
	if c == nil {
		return JSONCodec{}
	}
	return c
}

// check calls the method Validate, of the value or of its pointer.
func check[T any](body *T) error {
	type validator interface{ Validate() error }
	v, ok := any(*body).(validator)
	if !ok {
		v, ok = any(body).(validator)
	}
	if !ok {
		return nil
	}
	if value := reflect.ValueOf(v); value.Kind() == reflect.Pointer && value.IsNil() {
		return errors.New("null")
	}
	return v.Validate()
}

// contentTypeJSON is the content type of the bodies that JSONCodec makes.
const contentTypeJSON = "application/json"

// JSONCodec encodes bodies as JSON, with encoding/json.
//
// It decodes messages with the content type application/json or application/*+json, in
// upper or lower case and with any parameters, and messages without a content type, because
// some producers do not set it. It refuses a charset other than UTF-8, a content encoding
// other than "utf-8" or "identity", and a body that is not UTF-8.
//
// A body is one JSON value that is not null, with nothing after it. Names are
// case-sensitive: a name for which the struct has no field is ignored. When a name occurs
// twice the last one counts.
//
// Encoding makes no null either: a nil slice becomes [] and a nil map {}; any other value
// that would become null is refused.
type JSONCodec struct{}

var errNull = errors.New("null is no body")

// Encode encodes any value that encoding/json can encode.
func (JSONCodec) Encode(m *Message, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if isNull(body) {
		switch reflect.ValueOf(v).Kind() {
		case reflect.Slice:
			body = []byte("[]")
		case reflect.Map:
			body = []byte("{}")
		default:
			return errNull
		}
	}
	m.Body, m.ContentType, m.ContentEncoding = body, contentTypeJSON, ""
	return nil
}

// Decode decodes a body into the value that v points to.
func (JSONCodec) Decode(m *Message, v any) error {
	if err := isJSON(m); err != nil {
		return err
	}
	if isNull(m.Body) {
		return errNull
	}
	return json.Unmarshal(exactNames(m.Body, shapeOf(reflect.TypeOf(v))), v)
}

func isNull(body []byte) bool { return string(bytes.Trim(body, " \t\r\n")) == "null" }

// isJSON is an error unless the message says that its body is JSON in UTF-8.
func isJSON(m *Message) error {
	if m.ContentType != "" && m.ContentType != contentTypeJSON {
		kind, parameters, err := mime.ParseMediaType(m.ContentType)
		if err != nil {
			return fmt.Errorf("content type %q: %w", m.ContentType, err)
		}
		if kind != contentTypeJSON && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
			return fmt.Errorf("content type %q", m.ContentType)
		}
		if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
			return fmt.Errorf("charset %q", charset)
		}
	}
	switch strings.ToLower(m.ContentEncoding) {
	case "", "utf-8", "identity":
	default:
		return fmt.Errorf("content encoding %q", m.ContentEncoding)
	}
	if !utf8.Valid(m.Body) { // the decoder would replace it by U+FFFD without an error
		return errors.New("not UTF-8")
	}
	return nil
}

// BytesCodec uses a []byte or a string as the body, unchanged: for text, and for programs that
// decode bodies themselves. It accepts every content type and content encoding.
type BytesCodec struct {
	// ContentType is set in messages that it encodes. Defaults to
	// "application/octet-stream".
	ContentType string
}

// Encode takes a value whose type is, or is defined as, []byte or string.
func (c BytesCodec) Encode(m *Message, v any) error {
	value := reflect.ValueOf(v)
	switch {
	case isBytes(value):
		m.Body = value.Bytes()
	case value.Kind() == reflect.String:
		m.Body = []byte(value.String())
	default:
		return notBytes(v)
	}
	m.ContentType, m.ContentEncoding = c.ContentType, ""
	if m.ContentType == "" {
		m.ContentType = "application/octet-stream"
	}
	return nil
}

// Decode takes a pointer to such a value. A []byte then shares its memory with the body of
// the message.
func (c BytesCodec) Decode(m *Message, v any) error {
	value := reflect.ValueOf(v).Elem()
	switch {
	case isBytes(value):
		value.SetBytes(m.Body)
	case value.Kind() == reflect.String:
		value.SetString(string(m.Body))
	default:
		return notBytes(value.Interface())
	}
	return nil
}

func isBytes(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
}

func notBytes(v any) error { return fmt.Errorf("a BytesCodec takes []byte and string, and no %T", v) }
