package messaging

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// maxConnectionName leaves room for what makes a consumer's tag unique: see uniqueTag.
const maxConnectionName = maxShortString - 37

// validate is an error that names the invalid setting. It never has a URL, which may have a
// password.
func (c Config) validate() error {
	if len(c.URLs) == 0 {
		return errors.New("messaging: URLs: at least one is needed")
	}
	if err := c.validateLogin(); err != nil {
		return err
	}
	for i, u := range c.URLs {
		uri, err := parseURL(u)
		switch {
		case err != nil:
			return fmt.Errorf("messaging: URLs: number %d is %w", i+1, err)
		case c.byURL() && uri.Username != c.user(): // every message carries this user, who must be the one who logs in
			return fmt.Errorf("messaging: URLs: number %d has another user than the first", i+1)
		case c.ByCertificate && uri.Scheme != "amqps":
			return fmt.Errorf("messaging: ByCertificate: URL number %d is without TLS", i+1)
		}
	}
	if err := checkText(c.Name); err != nil {
		return fmt.Errorf("messaging: Name: %w", err)
	}
	if len(c.Name) > maxConnectionName {
		return fmt.Errorf("messaging: Name: has %d bytes, at most %d leave room for a consumer's tag", len(c.Name), maxConnectionName)
	}
	if err := checkText(c.AppID); err != nil {
		return fmt.Errorf("messaging: AppID: %w", err)
	}
	for _, d := range [...]struct {
		name  string
		value time.Duration
	}{
		{"Heartbeat", c.Heartbeat}, {"DialTimeout", c.DialTimeout}, {"CallTimeout", c.CallTimeout},
		{"WriteTimeout", c.WriteTimeout}, {"MaxBackoff", c.MaxBackoff},
	} {
		if d.value < 0 {
			return fmt.Errorf("messaging: %s: must not be negative", d.name)
		}
	}
	if err := checkObservers(c.Observers); err != nil {
		return err
	}
	switch {
	case c.Heartbeat%time.Second != 0 || c.Heartbeat > math.MaxUint16*time.Second:
		return fmt.Errorf("messaging: Heartbeat: must be whole seconds, at least 1 and at most %d", math.MaxUint16)
	case c.MaxMessageSize < 0 || c.MaxMessageSize > maxMessageSize:
		return fmt.Errorf("messaging: MaxMessageSize: must not be negative, and at most %d", maxMessageSize)
	}
	return nil
}

// validateLogin allows one way to log in.
func (c Config) validateLogin() error {
	switch {
	case c.Credentials == nil && !c.ByCertificate:
		return checkCredentials(c.User, c.Password)
	case c.Credentials != nil && c.ByCertificate:
		return errors.New("messaging: ByCertificate: takes no Credentials")
	case c.Password != "":
		return errors.New("messaging: Password: is not used with Credentials or ByCertificate")
	case c.ByCertificate && c.TLS == nil:
		return errors.New("messaging: ByCertificate: needs TLS with a certificate")
	}
	if err := checkText(c.User); err != nil {
		return fmt.Errorf("messaging: User: %w", err)
	}
	return nil
}

// checkCredentials says what is wrong with a user and a password outside of a URL.
func checkCredentials(user, password string) error {
	switch {
	case user == "" && password != "":
		return errors.New("messaging: Password: is ignored without User")
	case user != "" && password == "":
		return errors.New("messaging: Password: must not be empty where User is given")
	case strings.Contains(password, "\x00"):
		return errors.New("messaging: Password: holds a zero byte")
	}
	if err := checkText(user); err != nil {
		return fmt.Errorf("messaging: User: %w", err)
	}
	return nil
}

// errNoURL is the end of an error text about a URL, which the text does not have.
var errNoURL = errors.New("not an AMQP URL: '#', '?', '/', '@' and '%' in a user, a password or a virtual host are percent-encoded there, but not in settings of their own")

// knownParameters are the query parameters of a URL that the client library uses.
var knownParameters = map[string]bool{
	"cacertfile": true, "certfile": true, "keyfile": true, "server_name_indication": true,
	"auth_mechanism": true, "heartbeat": true, "connection_timeout": true, "channel_max": true,
}

// parseURL parses an AMQP URL. A URL whose password is not percent-encoded may still be valid:
// then a part of the password is taken for the host.
func parseURL(text string) (amqp.URI, error) {
	uri, err := amqp.ParseURI(text)
	if err != nil || strings.Contains(text, "#") || uri.Port < 1 || uri.Port > math.MaxUint16 {
		return uri, errNoURL
	}
	_, behind, _ := strings.Cut(text, "://")
	behind, query, _ := strings.Cut(behind, "?")
	if _, path, _ := strings.Cut(behind, "/"); strings.Contains(path, "@") {
		return uri, errNoURL
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return uri, errNoURL
	}
	for name := range parameters {
		if !knownParameters[name] {
			return uri, errNoURL
		}
	}
	for _, f := range [...]struct{ name, value string }{{"user", uri.Username}, {"virtual host", uri.Vhost}} {
		if err := checkText(f.value); err != nil {
			return uri, fmt.Errorf("not usable: its %s %w", f.name, err)
		}
	}
	if strings.Contains(uri.Password, "\x00") {
		return uri, errors.New("not usable: its password holds a zero byte")
	}
	return uri, nil
}
