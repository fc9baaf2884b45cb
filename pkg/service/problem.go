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

// maxBody is the largest request body, in bytes.
const maxBody = 64 << 10

// Problem is an HTTP answer that describes an error (RFC 9457). It is a Go error too.
type Problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Code   string       `json:"code,omitempty"`
	Errors []FieldError `json:"errors,omitempty"`
	// RetryAfter is sent in the header Retry-After, in whole seconds.
	RetryAfter time.Duration `json:"-"`
}

// FieldError names a field of the request and what is wrong with it.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// NewProblem makes a problem with a status. The type is about:blank, which means that the
// problem has no other meaning than the status.
func NewProblem(status int, detail string, fields ...FieldError) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: fields}
}

// After sets Retry-After, and returns the problem.
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
	_ = json.NewEncoder(w).Encode(p) // fails only if the client has disconnected
}

// DecodeJSON decodes a body of one JSON object of at most 64 KiB into v. The error is a
// *[Problem]: 415 for a body that is not application/json in UTF-8 without an encoding, 413
// for a larger body, 408 for one that does not end in time, and 400, with the name of the
// field if there is one, for one that does not match v. Field names are case-sensitive and
// may occur only once, so that a gateway cannot understand the body in another way than the
// service.
func DecodeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if !isPlainJSON(r.Header) {
		return NewProblem(http.StatusUnsupportedMediaType, "the body must be application/json in UTF-8, without an encoding")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", maxBody))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, "the body did not end in time")
	default: // the error's text is not sent: it contains addresses of this host
		return NewProblem(http.StatusBadRequest, "the body is cut off, or its chunks are malformed")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return errNoObject
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return decodeProblem(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errNoObject
	}
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.UseNumber() // otherwise a large number would be an error here
	if wrong := checkStrict(strict); wrong != nil {
		return NewProblem(http.StatusBadRequest, invalidField, *wrong)
	}
	return nil
}

var errNoObject = NewProblem(http.StatusBadRequest, "the body must be one JSON object and nothing else")

const (
	invalidField = "a field of the body is not valid"
	noSuchField  = "there is no such field"
)

func isPlainJSON(h http.Header) bool {
	mediaType, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := parameters["charset"]
	return err == nil && mediaType == "application/json" && (!given || strings.EqualFold(charset, "utf-8")) &&
		h.Get("Content-Encoding") == ""
}

// decodeProblem describes an error of encoding/json without names of Go types.
func decodeProblem(err error) *Problem {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return NewProblem(http.StatusBadRequest, invalidField, FieldError{wrongType.Field, "must be " + nameOf(wrongType.Type)})
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // this error has no type of its own
		if name, err := strconv.Unquote(quoted); err == nil {
			return NewProblem(http.StatusBadRequest, invalidField, FieldError{name, noSuchField})
		}
	}
	return NewProblem(http.StatusBadRequest, "the body is not JSON: "+strings.TrimPrefix(err.Error(), "json: "))
}

var fieldName = regexp.MustCompile(`^[a-z_]+$`)

// checkStrict finds what encoding/json accepts in a well-formed value and we do not: a field
// that occurs twice or is written in other letters, and text that is not valid Unicode.
func checkStrict(d *json.Decoder) *FieldError {
	token, _ := d.Token()
	switch t := token.(type) {
	case string:
		if strings.ContainsRune(t, utf8.RuneError) { // the decoder puts it in place of invalid text
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
			if wrong := checkStrict(d); wrong != nil {
				if wrong.Field != "" && !strings.HasPrefix(wrong.Field, "[") {
					place += "."
				}
				return &FieldError{place + wrong.Field, wrong.Detail}
			}
		}
		_, _ = d.Token() // the closing delimiter
	}
	return nil
}

// nameOf is the name of a Go type's JSON values in an error for clients.
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
