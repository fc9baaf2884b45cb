package messaging

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// encoding/json also accepts "Amount" for a field "amount", and if both are there it uses the
// later one. Here names are case-sensitive: names that are not exactly those of a field are
// overwritten before encoding/json sees them, so that it ignores them. (Version 2 of
// encoding/json is case-sensitive. In Go 1.26 it is an experiment.)

// A shape has the names that a Go type accepts in JSON. A nil shape accepts all.
type shape struct {
	fields map[string]*shape // of a struct; nil for another type
	elem   *shape            // of a list or a map
}

// shapes caches the shapes of types.
var shapes sync.Map // of reflect.Type

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape) //nolint:forcetypeassert // it holds nothing else
	}
	s := shapesOf{}.of(t)
	shapes.Store(t, s)
	return s
}

// shapesOf makes the shapes of a type and of the types in it. A type may contain itself.
type shapesOf map[reflect.Type]*shape

func (known shapesOf) of(t reflect.Type) *shape {
	for t.Kind() == reflect.Pointer && !decodesItself(t) {
		t = t.Elem()
	}
	if s, ok := known[t]; ok || decodesItself(t) {
		return s
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		s := &shape{}
		known[t] = s
		s.elem = known.of(t.Elem())
		return s
	case reflect.Struct:
		s := &shape{fields: map[string]*shape{}}
		known[t] = s
		known.addFields(s, t)
		return s
	default:
		return nil
	}
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// addFields adds the fields of a struct and then those of its embedded structs, as encoding/json
// finds them: of two fields with the same name the outer one counts.
func (known shapesOf) addFields(s *shape, t reflect.Type) {
	seen := map[reflect.Type]bool{t: true}
	for level := []reflect.Type{t}; len(level) > 0; {
		found := map[string]*shape{}
		var inner []reflect.Type
		for _, t := range level {
			for i := range t.NumField() {
				f := t.Field(i)
				name, embedded := fieldName(f)
				if embedded != nil && !seen[embedded] {
					seen[embedded] = true
					inner = append(inner, embedded)
				}
				if name == "" {
					continue
				}
				if _, twice := found[name]; twice {
					found[name] = nil // whichever counts
				} else {
					found[name] = known.of(f.Type)
				}
			}
		}
		for name, field := range found {
			if _, hidden := s.fields[name]; !hidden {
				s.fields[name] = field
			}
		}
		level = inner
	}
}

// fieldName gives the name of a field in JSON, or "" if it is not in JSON. For an embedded
// struct it gives the struct, whose fields count as those of the outer one.
func fieldName(f reflect.StructField) (name string, embedded reflect.Type) {
	t := f.Type
	if f.Anonymous && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	isStruct := f.Anonymous && t.Kind() == reflect.Struct
	tag := f.Tag.Get("json")
	if tag == "-" || !f.IsExported() && !isStruct {
		return "", nil
	}
	name, _, _ = strings.Cut(tag, ",")
	switch {
	case name != "" && !strings.ContainsFunc(name, notInNames):
		return name, nil
	case isStruct:
		return "", t
	default:
		return f.Name, nil
	}
}

func notInNames(r rune) bool {
	return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// exactNames gives the JSON text with every name for which the struct has no field overwritten
// with commas, which are in no field's name. A text that is not JSON may be changed in any
// way; encoding/json refuses it all the same.
func exactNames(body []byte, s *shape) []byte {
	if s == nil {
		return body
	}
	w := nameWalk{body: body}
	w.value(s, 0)
	return w.body
}

// maxJSONDepth is the depth that encoding/json allows.
const maxJSONDepth = 10000

// A nameWalk goes once through a JSON text. Its methods return false when the text is not JSON.
type nameWalk struct {
	body   []byte
	at     int
	copied bool // the text was copied, since it belongs to the delivery
}

// next gives the first byte of the next token, and 0 at the end. It skips commas and colons;
// encoding/json checks where they are.
func (w *nameWalk) next() byte {
	for ; w.at < len(w.body); w.at++ {
		switch c := w.body[w.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return c
		}
	}
	return 0
}

func (w *nameWalk) value(s *shape, depth int) bool {
	c := w.next()
	if s == nil {
		s = &anyShape
	}
	switch {
	case depth > maxJSONDepth:
		return false
	case c == '{':
		return w.object(s, depth+1)
	case c == '[':
		return w.list(s, depth+1)
	case c == '"':
		return w.text()
	default:
		return w.literal()
	}
}

var anyShape shape

func (w *nameWalk) object(s *shape, depth int) bool {
	for w.at++; w.next() == '"'; {
		from := w.at
		if !w.text() {
			return false
		}
		field, ok := s.elem, true
		if s.fields != nil {
			field, ok = w.field(s, from, w.at)
		}
		if !ok || !w.value(field, depth) {
			return false
		}
	}
	return w.end('}')
}

// field finds the field of a quoted name, or overwrites the name.
func (w *nameWalk) field(s *shape, from, to int) (field *shape, ok bool) {
	name := w.body[from+1 : to-1]
	if field, ok := s.fields[string(name)]; ok {
		return field, true
	}
	if bytes.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\\' }) {
		var unquoted string
		if err := json.Unmarshal(w.body[from:to], &unquoted); err != nil {
			return nil, false // overwritten, it would be valid
		}
		if field, ok := s.fields[unquoted]; ok {
			return field, true
		}
	}
	if !w.copied {
		w.body, w.copied = slices.Clone(w.body), true
	}
	for i := from + 1; i < to-1; i++ {
		w.body[i] = ','
	}
	return nil, true
}

func (w *nameWalk) list(s *shape, depth int) bool {
	w.at++
	for c := w.next(); c != ']' && c != 0; c = w.next() {
		if !w.value(s.elem, depth) {
			return false
		}
	}
	return w.end(']')
}

func (w *nameWalk) end(c byte) bool {
	if w.next() != c {
		return false
	}
	w.at++
	return true
}

// text skips a string.
func (w *nameWalk) text() bool {
	for i := w.at + 1; i < len(w.body); i++ {
		switch w.body[i] {
		case '\\':
			i++
		case '"':
			w.at = i + 1
			return true
		}
	}
	return false
}

// literal skips a number, true, false or null.
func (w *nameWalk) literal() bool {
	n := bytes.IndexAny(w.body[w.at:], " \t\r\n,:[]{}\"")
	if n < 0 {
		n = len(w.body) - w.at
	}
	w.at += n
	return n > 0
}
