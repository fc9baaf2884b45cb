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

// Codec turns values into the bodies of messages and back. [JSONCodec] and [BytesCodec]
// are two; a [MessageType] has one, or JSONCodec. Safe for concurrent use, and comparable,
// since a MessageType is.
type Codec interface {
	// Encode puts v into the message: its body, and the properties that say what the
	// body is.
	Encode(m *Message, v any) error
	// Decode reads the message's body into what v points to. It keeps nothing of the
	// message that it may change. An error is one of the message, which will be the same
	// the next time.
	Decode(m *Message, v any) error
}

// JSON makes a typed function a Handler: it decodes the body into a T, as [JSONCodec] does.
//
// A body that does not decode is [Permanent] with [ErrUndecodable], since it will not
// decode the next time either. So is one that the method Validate() error of T, or of
// its pointer, refuses.
//
// The Handler of a nil function is nil, which [Conn.Consume] refuses.
func JSON[T any](handle func(ctx context.Context, d *Delivery, body T) error) Handler {
	return Typed(JSONCodec{}, handle)
}

// Typed is [JSON] for bodies in another form. A nil codec is [JSONCodec].
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

// decode reads a body as every receiver does: handlers, servers and callers.
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

// JSONCodec is bodies in JSON, by encoding/json.
//
// It reads what has the content type application/json, or application/*+json, in
// any letters and with any parameters, and what has no content type at all, as from
// producers that do not set it. A charset other than UTF-8 is refused, and so is a
// content encoding other than "utf-8" or "identity", and a body that is not UTF-8.
//
// A body is one JSON value with nothing behind it, and not null. Names are case-sensitive:
// what a struct has no field for, letter by letter, is ignored. Of a name that is there
// twice the last one counts.
//
// It makes no null either: a nil slice becomes [] and a nil map {}, and what else would be
// null is refused.
type JSONCodec struct{}

var errNull = errors.New("null is no body")

// Encode makes a body of any value that encoding/json can encode.
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

// Decode reads a body into what v points to.
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

// isJSON says whether a body claims to be JSON, in an encoding that we read.
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
	if !utf8.Valid(m.Body) { // the decoder would put U+FFFD in its place, and say nothing
		return errors.New("not UTF-8")
	}
	return nil
}

// BytesCodec is bodies as they are, of a []byte or a string: text, and whatever a program
// decodes itself. It reads bodies of every content type and content encoding.
type BytesCodec struct {
	// ContentType is that of the messages that it makes. Defaults to
	// "application/octet-stream".
	ContentType string
}

// Encode takes a []byte or a string, or a type made of one.
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

// Decode wants a pointer to what Encode takes. A []byte is the message's own body.
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
