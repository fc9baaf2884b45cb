package messaging

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

// Maps and slices of Go go out as the two that AMQP has.
func TestPlainMapsAndSlicesAsHeaders(t *testing.T) {
	t.Parallel()
	type label string
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type list = []any
	for _, c := range []struct {
		name        string
		value, want any
	}{
		{"map[string]string", map[string]string{"a": "b"}, amqp.Table{"a": "b"}},
		{"map[string]int", map[string]int{"a": 1}, amqp.Table{"a": int64(1)}},
		{"map[string]map[string]bool", map[string]map[string]bool{"a": {"b": true}}, amqp.Table{"a": amqp.Table{"b": true}}},
		{"named keys", map[label]int8{"a": 1}, amqp.Table{"a": int8(1)}},
		{"http.Header", http.Header{"A": {"b", "c"}}, amqp.Table{"A": list{"b", "c"}}},
		{"nil map", map[string]string(nil), amqp.Table{}},
		{"[]string", []string{"a", "b"}, list{"a", "b"}},
		{"[]int", []int{1, 2}, list{int64(1), int64(2)}},
		{"[]uint64", []uint64{1}, list{int64(1)}},
		{"[]float64", []float64{1.5}, list{1.5}},
		{"[]bool", []bool{true}, list{true}},
		{"[]time.Time", []time.Time{at}, list{at}},
		{"[][]string", [][]string{{"a"}, nil}, list{list{"a"}, list{}}},
		{"[]map[string]any", []map[string]any{{"a": []int{1}}}, list{amqp.Table{"a": list{int64(1)}}}},
		{"[]any with them", list{[]string{"a"}}, list{list{"a"}}},
		{"bytes of another type", json.RawMessage("1"), []byte("1")},
		{"[][]byte", [][]byte{{1}}, list{[]byte{1}}},
		{"nil slice", []string(nil), list{}},
		{"a map with other keys", map[int]string{1: "a"}, nil},
		{"an array", uuid.UUID{}, nil},
		{"named text", label("a"), nil},
		{"a duration", time.Second, nil},
		{"text in another type", []label{"a"}, nil},
		{"text that is not UTF-8", []string{"\xff"}, nil},
		{"a number too large", map[string]uint64{"a": 1 << 63}, nil},
		{"too many", make([]int, maxElements+1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			given := map[string]any{"h": c.value}
			got, err := carriedHeaders(given, false)
			if c.want == nil {
				require.ErrorContains(t, err, `"h"`)
				return
			}
			require.NoError(t, err)
			require.Equal(t, map[string]any{"h": c.want}, got)
			require.Equal(t, map[string]any{"h": c.value}, given)
			require.NoError(t, amqp.Table(got).Validate())
		})
	}
}

func TestRoutingKeysInPlainSlices(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CC", "BCC"} {
		got, err := carriedHeaders(map[string]any{name: []string{"a"}}, false)
		require.NoError(t, err)
		require.Equal(t, map[string]any{name: []any{"a"}}, got)
		for _, wrong := range []any{"a", []int{1}, []byte("a"), map[string]string{"a": "a"}, []string{"\xff"}} {
			_, err := carriedHeaders(map[string]any{name: wrong}, false)
			require.Error(t, err, "%T", wrong)
		}
	}
}
