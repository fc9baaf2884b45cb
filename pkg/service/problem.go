package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"time"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// Problem is an error as an HTTP answer (RFC 9457), and an error by itself.
type Problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Code   string       `json:"code,omitempty"`
	Errors []FieldError `json:"errors,omitempty"`
	// RetryAfter goes into the header of that name, in whole seconds.
	RetryAfter time.Duration `json:"-"`
}

// FieldError names a field of the request and what is wrong with it.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// NewProblem makes a problem of a status. The type is about:blank, which means
// that the status says it all.
func NewProblem(status int, detail string, fields ...FieldError) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: fields}
}

// After is the same problem with a Retry-After.
func (p *Problem) After(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a caller that is gone cannot be told
}

// DecodeJSON reads one JSON object of at most 64 KiB. The error is a *[Problem]:
// 415 for another content type, 413 for a larger body, 400 with the field's name
// for what does not fit, and for fields that v does not have.
func DecodeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return NewProblem(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have %d bytes", maxBody))
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return NewProblem(http.StatusBadRequest, "the body must be one JSON object and nothing else")
	case errors.As(err, &wrongType):
		return NewProblem(http.StatusBadRequest, "the body does not fit", FieldError{wrongType.Field, "must be " + nameOf(wrongType.Type)})
	default:
		return NewProblem(http.StatusBadRequest, "the body is not the JSON that is wanted: "+err.Error())
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return NewProblem(http.StatusBadRequest, "the body must be one JSON object and nothing else")
	}
	return nil
}

// nameOf is what a caller knows a Go type as.
func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "a whole number in its range"
	}
}
