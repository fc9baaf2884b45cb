package service

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Secret is a password or a key. The setting is the name of the file that contains it; white
// space around the text is removed. The process does not start if the file does not exist,
// is empty, or has more than one line of text. A Secret is printed as "***", also in logs and
// JSON. Empty means that there is no such setting.
type Secret string

// UnmarshalText reads the secret from the file of this name.
func (s *Secret) UnmarshalText(path []byte) error {
	content, err := os.ReadFile(string(path))
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(content))
	switch {
	case text == "":
		return fmt.Errorf("the file %s is empty", path)
	case !utf8.ValidString(text), strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("the file %s must have one line of text", path)
	}
	*s = Secret(text)
	return nil
}

const hidden = "***"

// String hides the secret, from %v and %s.
func (s Secret) String() string { return hidden }

// GoString hides the secret, from %#v.
func (s Secret) GoString() string { return hidden }

// MarshalText hides the secret, from JSON and loggers.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Authorizes says whether a request has the secret as its bearer token. It compares hashes,
// which have equal lengths, in constant time. The empty secret authorizes no request.
func (s Secret) Authorizes(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s))
	return s != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}
