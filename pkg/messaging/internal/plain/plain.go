// Package plain converts Go maps and slices to the two types that AMQP tables have.
package plain

import "reflect"

// Value converts a map with string keys to a map[string]any, a slice of bytes to a []byte and
// any other slice to a []any. Elements are not converted. It returns false for other values,
// also for arrays: an array is more often an identifier or a checksum than a list.
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
