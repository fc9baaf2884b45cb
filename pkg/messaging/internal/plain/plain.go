// Package plain turns maps and slices of Go into the two that AMQP's tables have.
package plain

import "reflect"

// Value gives a map whose keys are text as a map[string]any, a slice of bytes as a []byte
// and any other slice as a []any, for one level: elements stay as they are. It says false
// for everything else, arrays included: an array is an identifier or a checksum more often
// than a list.
func Value(v any) (any, bool) {
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.Map && r.Type().Key().Kind() == reflect.String:
		out := make(map[string]any, r.Len())
		for i := r.MapRange(); i.Next(); {
			out[i.Key().String()] = i.Value().Interface()
		}
		return out, true
	case r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8:
		return r.Bytes(), true
	case r.Kind() == reflect.Slice:
		out := make([]any, r.Len())
		for i := range out {
			out[i] = r.Index(i).Interface()
		}
		return out, true
	default:
		return nil, false
	}
}
