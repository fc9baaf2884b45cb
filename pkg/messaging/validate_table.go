package messaging

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/orderflow/pkg/messaging/internal/plain"
)

// The limits of a table of headers or arguments. With a larger one the client library's reader
// closes the connection of every consumer that gets the message, at each redelivery.
const (
	// maxHeaders is how many bytes of headers a message may have. All its properties are
	// sent in one frame, of 128 KiB by the broker's default; 4 KiB are enough for those that
	// are not headers.
	maxHeaders = 124 << 10
	// maxNesting is how deep lists and tables may be nested.
	maxNesting = 32
	// maxElements is how many elements each of them may have.
	maxElements = 8192
	// maxNames leaves room for the headers that the broker and a consumer add.
	maxNames = maxElements - 64
)

// carriedHeaders checks headers and gives them as they are sent. It does not change the map, and
// returns the same map when nothing in it has to change.
func carriedHeaders(headers map[string]any, received bool) (map[string]any, error) {
	if len(headers) == 0 {
		return headers, nil
	}
	if !received {
		if err := checkReserved(headers); err != nil {
			return nil, err
		}
	}
	w := tableWalk{received: received}
	for _, name := range [...]string{"CC", "BCC"} {
		keys, _ := listOf(headers[name])
		for _, key := range keys { // the broker puts them into a header when it dead-letters
			s, _ := key.(string)
			w.size += lengthPrefix + len(s)
		}
	}
	out, _, err := w.table(headers, 0, maxNames)
	return out, err
}

// checkReserved refuses values, under names that the broker uses, for which the broker would
// close the channel, or for which a stream would close the connection of its publisher or
// reader.
func checkReserved(headers map[string]any) error {
	for _, name := range [...]string{"CC", "BCC"} {
		value, given := headers[name]
		if !given {
			continue
		}
		keys, isList := listOf(value)
		if !isList {
			return fmt.Errorf("%q: must be a list of routing keys", name)
		}
		for _, key := range keys {
			s, isString := key.(string)
			if !isString {
				return fmt.Errorf("%q: must be a list of routing keys", name)
			}
			if err := checkText(s); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
	}
	for _, name := range [...]string{"x-stream-filter-value", "x-basic-type"} {
		if value, given := headers[name]; given {
			if _, isString := value.(string); !isString {
				return fmt.Errorf("%q: must be a string", name)
			}
		}
	}
	return nil
}

// listOf gives any slice except a slice of bytes as a list.
func listOf(value any) (list []any, ok bool) {
	if list, ok = value.([]any); !ok {
		value, _ = plain.Value(value)
		list, ok = value.([]any)
	}
	return list, ok
}

// lengthPrefix is the size of a field's type and length.
const lengthPrefix = 5

// A tableWalk goes once through a table and all values in it.
type tableWalk struct {
	size     int  // on the wire, at most
	received bool // see limits
}

// table checks a table and gives it as it is sent, and says whether that differs.
func (w *tableWalk) table(t map[string]any, depth, room int) (out amqp.Table, changed bool, err error) {
	if err := w.container(len(t), depth, room); err != nil {
		return nil, false, err
	}
	out = t
	for name, value := range t {
		w.size += 1 + len(name)
		err := checkText(name)
		if w.received && len(name) <= maxShortString {
			err = nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("the name %.40q %w", name, err)
		}
		carried, other, err := w.value(value, depth)
		if err != nil {
			return nil, false, fmt.Errorf("%.40q: %w", name, err)
		}
		if other {
			if !changed {
				out, changed = maps.Clone(out), true
			}
			out[name] = carried
		}
	}
	return out, changed, w.fits()
}

func (w *tableWalk) list(l []any, depth int) (out []any, changed bool, err error) {
	if err := w.container(len(l), depth, maxElements); err != nil {
		return nil, false, err
	}
	out = l
	for i, value := range l {
		carried, other, err := w.value(value, depth)
		if err != nil {
			return nil, false, fmt.Errorf("element %d: %w", i, err)
		}
		if other {
			if !changed {
				out, changed = slices.Clone(l), true
			}
			out[i] = carried
		}
	}
	return out, changed, w.fits()
}

func (w *tableWalk) container(elements, depth, room int) error {
	w.size += lengthPrefix
	switch {
	case depth > maxNesting:
		return fmt.Errorf("nested deeper than %d", maxNesting)
	case elements > room:
		return fmt.Errorf("has %d elements, at most %d can be read back", elements, room)
	}
	return nil
}

// value checks one value and gives it as it is sent, and says whether that differs.
func (w *tableWalk) value(value any, depth int) (carried any, changed bool, err error) {
	carried = value
	switch v := value.(type) {
	case amqp.Table:
		return w.table(v, depth+1, maxElements)
	case map[string]any: // the library accepts only its own type
		t, _, err := w.table(v, depth+1, maxElements)
		return t, true, err
	case []any:
		return w.list(v, depth+1)
	case string:
		w.size += lengthPrefix + len(v)
		if !w.received && !utf8.ValidString(v) {
			return nil, false, errors.New("is not UTF-8: use a []byte for bytes")
		}
	case []byte:
		w.size += lengthPrefix + len(v)
	default:
		if converted, ok := plain.Value(value); ok { // another map or slice type
			carried, _, err = w.value(converted, depth)
			return carried, true, err
		}
		w.size += 9 // the largest of the other types: int64, float64, time
		if carried, err = w.scalar(value); err != nil {
			return nil, false, err
		}
		changed = carried != value
	}
	return carried, changed, w.fits()
}

func (w *tableWalk) fits() error {
	if w.size > maxHeaders {
		return fmt.Errorf("%d bytes or more, at most %d fit into a frame", w.size, maxHeaders)
	}
	return nil
}

// scalar checks a value of a fixed size. The library would send an int as 32 bits.
func (w *tableWalk) scalar(value any) (any, error) {
	switch v := value.(type) {
	case nil, bool, byte, int8, int16, int32, int64, uint16, uint32:
		return value, nil
	case int:
		return int64(v), nil
	case uint:
		return signed(uint64(v))
	case uint64:
		return signed(v)
	case float32:
		return value, checkFloat(float64(v))
	case float64:
		return value, checkFloat(v)
	case time.Time:
		return value, checkTime(v)
	case amqp.Decimal:
		if !w.received {
			return nil, errors.New("with a decimal the broker closes the connection when a stream gets the message")
		}
		return value, nil
	default:
		return nil, fmt.Errorf("AMQP has no type for a %T", value)
	}
}

func signed(n uint64) (any, error) {
	if n > math.MaxInt64 {
		return nil, fmt.Errorf("%d is more than AMQP's largest integer", n)
	}
	return int64(n), nil
}

// checkFloat refuses numbers that Erlang does not have: for them the broker closes the
// connection.
func checkFloat(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%v is no number for the broker", f)
	}
	return nil
}
