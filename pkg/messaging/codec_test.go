package messaging_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
)

// positive has its Validate on the pointer, as types with more than one method have.
type positive struct {
	N int `json:"n"`
}

func (p *positive) Validate() error {
	if p.N <= 0 {
		return errors.New("n: must be positive")
	}
	return nil
}

// negative has it on the value.
type negative struct {
	N int `json:"n"`
}

func (n negative) Validate() error {
	if n.N >= 0 {
		return errors.New("n: must be negative")
	}
	return nil
}

func delivered(body string) *messaging.Delivery {
	return &messaging.Delivery{Message: messaging.Message{ContentType: "application/json", Body: []byte(body)}}
}

func decodes[T any](t *testing.T, d *messaging.Delivery, want bool) {
	t.Helper()
	called := false
	err := messaging.JSON(func(context.Context, *messaging.Delivery, T) error {
		called = true
		return nil
	}).Handle(t.Context(), d)
	require.Equal(t, want, called)
	if want {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, messaging.ErrUndecodable)
	require.True(t, messaging.IsPermanent(err))
}

func TestJSONValidates(t *testing.T) {
	t.Parallel()
	decodes[positive](t, delivered(`{"n":1}`), true)
	decodes[positive](t, delivered(`{"n":-1}`), false)
	decodes[*positive](t, delivered(`{"n":1}`), true)
	decodes[*positive](t, delivered(`{"n":-1}`), false)
	decodes[*positive](t, delivered(`null`), false)
	decodes[negative](t, delivered(`{"n":-1}`), true)
	decodes[negative](t, delivered(`{"n":1}`), false)
	decodes[*negative](t, delivered(`{"n":1}`), false)
	decodes[*negative](t, delivered(`null`), false)
	decodes[map[string]int](t, delivered(`null`), true)
	decodes[any](t, delivered(`null`), true)
}

// The rule of what is JSON, as JSON's documentation has it.
func TestJSONContentTypes(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{
		"":                                       true,
		"application/json":                       true,
		"Application/JSON":                       true,
		"application/json; charset=utf-8":        true,
		"application/json;charset=UTF-8":         true,
		`application/json; charset="utf-8"`:      true,
		"application/json; profile=x; version=1": true,
		"application/cloudevents+json":           true,
		"application/problem+json; charset=utf8": true,
		"application/json; charset=iso-8859-1":   false,
		"application/json; charset=utf-16":       false,
		"application/json; charset":              false,
		"application/jsonlines":                  false,
		"application/x+jsonx":                    false,
		"image/x+json":                           false,
		"text/plain":                             false,
		"application/octet-stream":               false,
		";":                                      false,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := delivered(`1`)
			d.ContentType = kind
			decodes[int](t, d, want)
		})
	}
	for encoding, want := range map[string]bool{"": true, "utf-8": true, "UTF-8": true, "identity": true, "gzip": false} {
		d := delivered(`1`)
		d.ContentEncoding = encoding
		decodes[int](t, d, want)
	}
	decodes[string](t, delivered("\"\xff\""), false)
}
