package messaging

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type node struct {
	A int             `json:"a"`
	N *node           `json:"n"`
	L []node          `json:"l"`
	M map[string]node `json:"m"`
}

// known gives a decoded node without the names that it has no field for, and fails for
// one that is not overwritten.
func known(t *testing.T, v any, overwritten bool) any {
	t.Helper()
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for name, value := range object {
		switch name {
		case "a":
			out[name] = value
		case "n":
			out[name] = known(t, value, overwritten)
		case "l":
			list, _ := value.([]any)
			nodes := []any{}
			for _, element := range list {
				nodes = append(nodes, known(t, element, overwritten))
			}
			out[name] = nodes
		case "m":
			table, _ := value.(map[string]any)
			nodes := map[string]any{}
			for key, element := range table {
				nodes[key] = known(t, element, overwritten)
			}
			out[name] = nodes
		default:
			if overwritten && strings.Trim(name, ",") != "" {
				t.Fatalf("%q is still there", name)
			}
		}
	}
	return out
}

// What is overwritten are the names that a struct has no field for, and nothing else.
func FuzzExactNames(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"A":2}`, `{"n":{"N":{"a":1},"n":null}}`, `{"l":[{"a":1,"x":[{"A":1}]},null]}`, `{"m":{"A":{"A":1,"a":2}}}`,
		`{"\u0061":1,"\u0041":2,"":3}`, `[{"a":1}]`, `{"a":1e3,"x":"\"}\\"}`, `{`, `{"a"`, `"\`, ``, `[[[[`, `{"a":1}}`, `{"a":1 2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		out := exactNames(body, shapeOf(reflect.TypeFor[node]()))
		if string(body) != before || len(out) != len(body) {
			t.Fatal("the body itself has changed")
		}
		var n node
		if json.Unmarshal(out, &n) != nil {
			return
		}
		var in, exact any
		if err := json.Unmarshal(body, &in); err != nil {
			t.Fatalf("refused text has become readable: %q, %v", out, err)
		}
		if err := json.Unmarshal(out, &exact); err != nil {
			t.Fatal(err)
		}
		if want, got := known(t, in, false), known(t, exact, true); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q has become %q", body, out)
		}
	})
}

// A text that is nested without end is refused, and costs no more than that.
func TestJSONWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, opening := range []string{"[", `{"n":`, `{"m":{"a":`, `{"x":`} {
		m := Message{Body: []byte(strings.Repeat(opening, 1<<20))}
		var n node
		if err := (JSONCodec{}).Decode(&m, &n); err == nil {
			t.Errorf("%q was read", opening)
		}
	}
}

func BenchmarkExactNames(b *testing.B) {
	body := []byte(`{"a":1,"b":"a name that is not read","n":{"a":2,"l":[{"a":3},{"a":4},{"a":5}]},"m":{"x":{"a":6},"y":{"a":7}}}`)
	s := shapeOf(reflect.TypeFor[node]())
	b.Run("names", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			exactNames(body, s)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var n node
			if err := json.Unmarshal(body, &n); err != nil {
				b.Fatal(err)
			}
		}
	})
}
