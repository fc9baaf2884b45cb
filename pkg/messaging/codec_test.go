package messaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

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
}

func TestJSONIsOneValue(t *testing.T) {
	t.Parallel()
	decodes[any](t, delivered(" {\"a\": [null]}\n"), true)
	decodes[int](t, delivered(`7`), true)
	decodes[map[string]int](t, delivered(`null`), false)
	decodes[any](t, delivered("\tnull\r\n"), false)
	decodes[int](t, delivered(`null`), false)
	decodes[positive](t, delivered(`{"n":1} {"n":2}`), false)
	decodes[positive](t, delivered(`{"n":1}x`), false)
	decodes[positive](t, delivered(``), false)
}

func TestJSONMakesNoNull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value any
		want  string
	}{
		{[]int(nil), `[]`},
		{map[string]int(nil), `{}`},
		{[]*int{nil}, `[null]`},
		{struct{}{}, `{}`},
	} {
		m, err := messaging.NewMessage(work, c.value)
		require.NoError(t, err)
		require.Equal(t, c.want, string(m.Body))
		require.Equal(t, "application/json", m.ContentType)
	}
	for _, value := range []any{nil, (*positive)(nil), func() {}} {
		_, err := messaging.NewMessage(work, value)
		require.ErrorContains(t, err, "encode work.v1")
	}
}

type Line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

type base struct {
	ID string `json:"id"`
}

type order struct {
	base
	*Line
	Lines   []Line            `json:"lines"`
	Next    *order            `json:"next"`
	ByName  map[string]Line   `json:"by_name"`
	Labels  map[string]string `json:"labels"`
	Any     any               `json:"any"`
	At      time.Time         `json:"at"`
	Raw     json.RawMessage   `json:"raw"`
	Ignored string            `json:"-"`
	Plain   string
	Both    string `json:"both"`
	BOTH    string `json:"BOTH"`
	Quoted  string `json:"qu\"oted"` //nolint:staticcheck // no name for encoding/json
}

// A name is that of a field letter by letter, and else nothing.
func TestJSONNamesAreCaseSensitive(t *testing.T) {
	t.Parallel()
	read := func(t *testing.T, body string) (got order) {
		t.Helper()
		m := messaging.Message{Body: []byte(body)}
		require.NoError(t, messaging.JSONCodec{}.Decode(&m, &got))
		require.Equal(t, body, string(m.Body), "the message has changed")
		return got
	}
	for _, c := range []struct{ name, body, same string }{
		{"another case", `{"id":"a","ID":"b","Id":"c"}`, `{"id":"a"}`},
		{"before the field", `{"ID":"b","id":"a"}`, `{"id":"a"}`},
		{"letters that fold", `{"\u017fku":"x","ſku":"y"}`, `{}`},
		{"an escaped name", `{"\u0069d":"a"}`, `{"id":"a"}`},
		{"an escaped name in another case", `{"\u0049d":"a"}`, `{}`},
		{"of an embedded pointer", `{"quantity":1,"Quantity":2}`, `{"quantity":1}`},
		{"in a list", `{"lines":[{"sku":"a","Sku":"b"},{"SKU":"c"}]}`, `{"lines":[{"sku":"a"},{}]}`},
		{"in itself", `{"next":{"id":"a","next":{"Id":"b","Next":{"id":"c"}}}}`, `{"next":{"id":"a","next":{}}}`},
		{"in a map", `{"by_name":{"SKU":{"sku":"a","SKU":"b"}}}`, `{"by_name":{"SKU":{"sku":"a"}}}`},
		{"a field without a tag", `{"Plain":"a","plain":"b","PLAIN":"c"}`, `{"Plain":"a"}`},
		{"two fields", `{"both":"a","BOTH":"b","Both":"c"}`, `{"both":"a","BOTH":"b"}`},
		{"one that is not read", `{"Ignored":"a","-":"b"}`, `{}`},
		{"a tag that is no name", `{"Quoted":"a","quoted":"b"}`, `{"Quoted":"a"}`},
		{"unknown values", `{"x":{"id":[1,{"a":"}]"}],"b":-1.5e3},"y":[true,false,null],"id":"a"}`, `{"id":"a"}`},
		{"escapes and brackets in text", `{"id":"\"}]{\\","ID":1,"Plain":"b"}`, `{"id":"\"}]{\\","Plain":"b"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, read(t, c.same), read(t, c.body))
		})
	}
	got := read(t, `{"labels":{"ID":"a","Plain":"b"},"any":{"ID":"c"},"raw":{"ID": "d"},"at":"2026-01-02T03:04:05Z"}`)
	require.Equal(t, map[string]string{"ID": "a", "Plain": "b"}, got.Labels)
	require.Equal(t, map[string]any{"ID": "c"}, got.Any)
	require.JSONEq(t, `{"ID":"d"}`, string(got.Raw))
	require.Equal(t, 2026, got.At.Year())
}

func TestBytesCodec(t *testing.T) {
	t.Parallel()
	type text string
	kind := messaging.MessageType{Name: "text.v1", Codec: messaging.BytesCodec{ContentType: "text/plain"}}
	for _, value := range []any{"hello", []byte("hello"), text("hello"), json.RawMessage("hello")} {
		m, err := messaging.NewMessage(kind, value)
		require.NoError(t, err)
		require.Equal(t, "hello", string(m.Body))
		require.Equal(t, "text/plain", m.ContentType)
	}
	_, err := messaging.NewMessage(kind, 7)
	require.ErrorContains(t, err, "no int")
	m, err := messaging.NewMessage(messaging.MessageType{Codec: messaging.BytesCodec{}}, "x")
	require.NoError(t, err)
	require.Equal(t, "application/octet-stream", m.ContentType)

	d := &messaging.Delivery{Message: messaging.Message{ContentType: "image/png", ContentEncoding: "gzip", Body: []byte("\xff\x00")}}
	takes[string](t, kind.Codec, d, "\xff\x00")
	takes[text](t, kind.Codec, d, "\xff\x00")
	takes[[]byte](t, kind.Codec, d, []byte("\xff\x00"))
	err = messaging.Typed(kind.Codec, func(context.Context, *messaging.Delivery, int) error { return nil }).Handle(t.Context(), d)
	require.ErrorIs(t, err, messaging.ErrUndecodable)
	require.True(t, messaging.IsPermanent(err))
}

func takes[T any](t *testing.T, codec messaging.Codec, d *messaging.Delivery, want T) {
	t.Helper()
	require.NoError(t, messaging.Typed(codec, func(_ context.Context, _ *messaging.Delivery, got T) error {
		require.Equal(t, want, got)
		return nil
	}).Handle(t.Context(), d))
}

func TestTypedWithoutACodecIsJSON(t *testing.T) {
	t.Parallel()
	require.Nil(t, messaging.Typed[int](nil, nil))
	require.NoError(t, messaging.Typed(nil, func(_ context.Context, _ *messaging.Delivery, n int) error {
		require.Equal(t, 7, n)
		return nil
	}).Handle(t.Context(), delivered(`7`)))
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
