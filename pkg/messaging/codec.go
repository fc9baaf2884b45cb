package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"strings"
	"unicode/utf8"
)

// JSON makes a typed function a Handler: it decodes the body into a T. Fields that T
// does not have are ignored.
//
// JSON is what has the content type application/json, or application/*+json, in
// any letters and with any parameters, and what has no content type at all, as from
// producers that do not set it. A charset other than UTF-8 is refused, and so is a
// content encoding other than "utf-8" or "identity", and a body that is not UTF-8.
//
// A body that does not decode is [Permanent] with [ErrUndecodable], since it will not
// decode the next time either. So is one that the method Validate() error of T, or of
// its pointer, refuses.
//
// The Handler of a nil function is nil, which [Conn.Consume] refuses.
func JSON[T any](handle func(ctx context.Context, d *Delivery, body T) error) Handler {
	if handle == nil {
		return nil
	}
	return HandlerFunc(func(ctx context.Context, d *Delivery) error {
		body, err := decode[T](d)
		if err != nil {
			return Permanent(err)
		}
		return handle(ctx, d, body)
	})
}

// decode reads a body as every receiver of JSON does: handlers, servers and callers.
func decode[T any](d *Delivery) (T, error) {
	var body T
	if err := isJSON(d); err != nil {
		return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
	}
	if err := json.Unmarshal(d.Body, &body); err != nil {
		return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
	}
	if err := check(&body); err != nil {
		return body, fmt.Errorf("%w: %s: %w", ErrUndecodable, d.Type, err)
	}
	return body, nil
}

// isJSON says whether a body claims to be JSON, in an encoding that we read.
func isJSON(d *Delivery) error {
	if d.ContentType != "" && d.ContentType != contentTypeJSON {
		kind, parameters, err := mime.ParseMediaType(d.ContentType)
		if err != nil {
			return fmt.Errorf("content type %q: %w", d.ContentType, err)
		}
		if kind != contentTypeJSON && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
			return fmt.Errorf("content type %q", d.ContentType)
		}
		if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
			return fmt.Errorf("charset %q", charset)
		}
	}
	switch strings.ToLower(d.ContentEncoding) {
	case "", "utf-8", "identity":
	default:
		return fmt.Errorf("content encoding %q", d.ContentEncoding)
	}
	if !utf8.Valid(d.Body) { // the decoder would put U+FFFD in its place, and say nothing
		return errors.New("not UTF-8")
	}
	return nil
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
