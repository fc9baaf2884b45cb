package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
// 415 for what is not plain application/json in UTF-8, 413 for a larger body, 408
// for one that does not end in time, and 400, with the field's name where there is
// one, for what does not fit v. It takes a field only as v spells it, and once:
// whatever stands before a service must not read another body than the service.
func DecodeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if !isPlainJSON(r.Header) {
		return NewProblem(http.StatusUnsupportedMediaType, "the body must be application/json in UTF-8, without an encoding")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have %d bytes", maxBody))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, "the body did not end in time")
	default: // the reason names our addresses
		return NewProblem(http.StatusBadRequest, "the body is cut off, or its chunks are malformed")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return errNoObject
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return misfit(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errNoObject
	}
	again := json.NewDecoder(bytes.NewReader(body))
	again.UseNumber() // so that no number is an error now
	if wrong := lax(again); wrong != nil {
		return NewProblem(http.StatusBadRequest, "the body does not fit", *wrong)
	}
	return nil
}

var errNoObject = NewProblem(http.StatusBadRequest, "the body must be one JSON object and nothing else")

func isPlainJSON(h http.Header) bool {
	mediaType, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := parameters["charset"]
	return err == nil && mediaType == "application/json" && (!given || strings.EqualFold(charset, "utf-8")) &&
		h.Get("Content-Encoding") == ""
}

// misfit tells an error of encoding/json in words that a caller knows.
func misfit(err error) *Problem {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return NewProblem(http.StatusBadRequest, "the body does not fit", FieldError{wrongType.Field, "must be " + nameOf(wrongType.Type)})
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // it has no type
		if name, err := strconv.Unquote(quoted); err == nil {
			return NewProblem(http.StatusBadRequest, "the body does not fit", FieldError{name, noSuchField})
		}
	}
	return NewProblem(http.StatusBadRequest, "the body is not JSON: "+strings.TrimPrefix(err.Error(), "json: "))
}

const noSuchField = "there is no such field"

var fieldName = regexp.MustCompile(`^[a-z_]+$`)

// lax finds what encoding/json lets pass in a well-formed value: a field that stands
// there twice or in other letters, and text that is no Unicode.
func lax(d *json.Decoder) *FieldError {
	token, _ := d.Token()
	switch t := token.(type) {
	case string:
		if strings.ContainsRune(t, utf8.RuneError) { // in place of what was sent
			return &FieldError{Detail: "must be Unicode, in UTF-8"}
		}
	case json.Delim:
		seen := map[string]bool{}
		for i := 0; d.More(); i++ {
			place := fmt.Sprintf("[%d]", i)
			if t == '{' {
				token, _ := d.Token()
				name, _ := token.(string)
				switch {
				case !fieldName.MatchString(name):
					return &FieldError{name, noSuchField}
				case seen[name]:
					return &FieldError{name, "is given more than once"}
				}
				seen[name], place = true, name
			}
			if wrong := lax(d); wrong != nil {
				if wrong.Field != "" && !strings.HasPrefix(wrong.Field, "[") {
					place += "."
				}
				return &FieldError{place + wrong.Field, wrong.Detail}
			}
		}
		_, _ = d.Token() // its end
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
