package messaging

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Admin has the addresses and the login for tools that set up the broker. Services do not have
// these rights and do not need it.
type Admin struct {
	// AMQPURL is the URL of any node, "amqp://host:5672/vhost" or "amqps://...".
	AMQPURL string
	// ManagementURL is the root URL of the management plugin, "http://host:15672".
	ManagementURL string
	// User and Password replace those in AMQPURL, and are used for both URLs. The user needs
	// all rights in the virtual host and the tag "policymaker". To change nothing the tag
	// "management" is enough; to apply or verify users the tag "administrator" is needed.
	User, Password string
	// VHost replaces the virtual host in AMQPURL. It must exist.
	VHost string
	// TLS is used for amqps and https URLs.
	TLS *tls.Config
	// Logger is for log lines. Without one nothing is logged.
	Logger *zap.Logger
}

// complete checks the settings and fills in those that are in AMQPURL. Errors name the field and
// never have a URL, which may have a password.
func (a Admin) complete() (Admin, error) {
	uri, err := parseURL(a.AMQPURL)
	if err != nil {
		return a, fmt.Errorf("messaging: AMQPURL: %w", err)
	}
	if err := checkCredentials(a.User, a.Password); err != nil {
		return a, err
	}
	if a.User == "" {
		a.User, a.Password = uri.Username, uri.Password
	}
	if a.VHost == "" {
		a.VHost = uri.Vhost
	}
	if err := checkPathName(a.VHost); err != nil {
		return a, fmt.Errorf("messaging: VHost: %w", err)
	}
	uri.Vhost = a.VHost
	a.AMQPURL = uri.String()
	m, err := url.Parse(a.ManagementURL)
	if err != nil || m.Host == "" || m.Scheme != "http" && m.Scheme != "https" {
		return a, errors.New("messaging: ManagementURL: not an http or https URL")
	}
	if m.User != nil || m.RawQuery != "" || strings.Contains(a.ManagementURL, "#") {
		return a, errors.New("messaging: ManagementURL: takes no user, no query and no fragment: User and Password are used for it too")
	}
	if a.Logger == nil {
		a.Logger = zap.NewNop()
	}
	return a, nil
}

// Limits of one attempt at a request to the management API, in addition to its context. They are
// long, because a busy broker answers late and also works on a request that was given up.
const (
	mgmtTimeout     = 2 * time.Minute
	mgmtDialTimeout = 10 * time.Second
	mgmtMaxResponse = 64 << 20
	mgmtAttempts    = 4
)

// mgmtClient has the part of the management API that this package needs.
type mgmtClient struct {
	root           string
	vhost          string
	user, password string
	http           *http.Client
}

func (a Admin) management() *mgmtClient {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = a.TLS.Clone()
	transport.DialContext = (&net.Dialer{Timeout: mgmtDialTimeout}).DialContext
	return &mgmtClient{
		root:  strings.TrimSuffix(a.ManagementURL, "/") + "/api",
		vhost: a.VHost,
		user:  a.User, password: a.Password,
		http: &http.Client{Transport: transport, Timeout: mgmtTimeout},
	}
}

func (c *mgmtClient) close() { c.http.CloseIdleConnections() }

// mgmtError is an answer with an error status.
type mgmtError struct {
	status int
	reason string
	tag    string // the tag that the user needs for the request
}

func (e *mgmtError) Error() string {
	text := fmt.Sprintf("management API answered %d %s", e.status, http.StatusText(e.status))
	if e.reason != "" {
		text += ": " + e.reason
	}
	if e.tag != "" {
		text += fmt.Sprintf(" (the user needs the tag %q and access to the virtual host)", e.tag)
	}
	return text
}

// neededTag is the tag that a request needs.
func neededTag(method string, path []string) string {
	switch {
	case path[0] == "users" || path[0] == "permissions" || path[len(path)-1] == "permissions":
		return "administrator"
	case method != http.MethodGet:
		return "policymaker"
	default:
		return "management"
	}
}

// The management API's own names for what it stores.
type (
	mgmtPolicy struct {
		Name       string         `json:"name,omitempty"`
		Pattern    string         `json:"pattern"`
		ApplyTo    string         `json:"apply-to"`
		Priority   int            `json:"priority"`
		Definition map[string]any `json:"definition"`
	}
	mgmtExchange struct {
		Name       string         `json:"name"`
		Type       string         `json:"type"`
		Durable    bool           `json:"durable"`
		AutoDelete bool           `json:"auto_delete"`
		Internal   bool           `json:"internal"`
		Arguments  map[string]any `json:"arguments"`
		Policy     string         `json:"policy"`
	}
	mgmtQueue struct {
		Name           string         `json:"name"`
		Type           string         `json:"type"`
		Durable        bool           `json:"durable"`
		AutoDelete     bool           `json:"auto_delete"`
		Exclusive      bool           `json:"exclusive"`
		Arguments      map[string]any `json:"arguments"`
		Policy         string         `json:"policy"`
		OperatorPolicy string         `json:"operator_policy"`
		Effective      map[string]any `json:"effective_policy_definition"`
	}
	mgmtBinding struct {
		Source          string         `json:"source"`
		Destination     string         `json:"destination"`
		DestinationType string         `json:"destination_type"`
		RoutingKey      string         `json:"routing_key"`
		Arguments       map[string]any `json:"arguments"`
	}
	mgmtUser struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	mgmtPermission struct {
		User      string `json:"user"`
		Configure string `json:"configure"`
		Write     string `json:"write"`
		Read      string `json:"read"`
	}
)

func (c *mgmtClient) policies(ctx context.Context) (list []mgmtPolicy, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "policies", c.vhost)
}

func (c *mgmtClient) exchanges(ctx context.Context) (list []mgmtExchange, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "exchanges", c.vhost)
}

func (c *mgmtClient) queues(ctx context.Context) (list []mgmtQueue, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "queues", c.vhost)
}

func (c *mgmtClient) bindings(ctx context.Context) (list []mgmtBinding, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "bindings", c.vhost)
}

// exchangeKinds gives the exchange kinds that the broker has.
func (c *mgmtClient) exchangeKinds(ctx context.Context) ([]ExchangeKind, error) {
	var overview struct {
		Kinds []struct {
			Name ExchangeKind `json:"name"`
		} `json:"exchange_types"`
	}
	if err := c.do(ctx, http.MethodGet, nil, &overview, "overview"); err != nil {
		return nil, err
	}
	kinds := []ExchangeKind{} // not nil
	for _, k := range overview.Kinds {
		kinds = append(kinds, k.Name)
	}
	return kinds, nil
}

func (c *mgmtClient) users(ctx context.Context) (list []mgmtUser, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "users")
}

func (c *mgmtClient) permissions(ctx context.Context) (list []mgmtPermission, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "vhosts", c.vhost, "permissions")
}

func (c *mgmtClient) putPolicy(ctx context.Context, p mgmtPolicy) error {
	name := p.Name
	p.Name = ""
	return c.do(ctx, http.MethodPut, p, nil, "policies", c.vhost, name)
}

func (c *mgmtClient) deletePolicy(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "policies", c.vhost, name)
}

func (c *mgmtClient) putParameter(ctx context.Context, component, name string, value map[string]any) error {
	return c.do(ctx, http.MethodPut, map[string]any{"value": value}, nil, "parameters", component, c.vhost, name)
}

func (c *mgmtClient) putUser(ctx context.Context, u User, password string) error {
	body := map[string]any{"password": password, "tags": strings.Join(u.Tags, ",")}
	return c.do(ctx, http.MethodPut, body, nil, "users", u.Name)
}

func (c *mgmtClient) putPermission(ctx context.Context, u User) error {
	body := map[string]any{"configure": u.Configure, "write": u.Write, "read": u.Read}
	return c.do(ctx, http.MethodPut, body, nil, "permissions", c.vhost, u.Name)
}

// do makes a request. It repeats a request that has failed for a reason that may go away; all
// requests may be repeated. Every error names the method and the path. Request bodies, which
// may have a password, are never in an error.
func (c *mgmtClient) do(ctx context.Context, method string, in, out any, path ...string) error {
	for i, part := range path {
		path[i] = url.PathEscape(part)
	}
	where := "/" + strings.Join(path, "/")
	wait := newBackoff(2 * time.Second)
	for attempt := 1; ; attempt++ {
		err := c.roundTrip(ctx, method, c.root+where, in, out)
		if err == nil {
			return nil
		}
		var answer *mgmtError
		if errors.As(err, &answer) && (answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden) {
			answer.tag = neededTag(method, path)
		}
		if attempt == mgmtAttempts || ctx.Err() != nil || !mayPass(err) || !wait.sleep(ctx) {
			return fmt.Errorf("%s %s: %w", method, where, err)
		}
	}
}

// mayPass says whether a failed request may succeed the next time: there was no answer, or the
// server is overloaded or starts. A refused certificate is not such a reason.
func mayPass(err error) bool {
	var answer *mgmtError
	if errors.As(err, &answer) {
		return answer.status == http.StatusTooManyRequests || answer.status >= 500
	}
	return !isDistrust(err)
}

func (c *mgmtClient) roundTrip(ctx context.Context, method, target string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	// Without statistics the answer comes from the broker's own data and is never out of date.
	req, err := http.NewRequestWithContext(ctx, method, target+"?disable_stats=true", &body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.SetBasicAuth(c.user, c.password)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var asURL *url.Error
		if errors.As(err, &asURL) { // its text has the URL
			err = asURL.Err
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mgmtMaxResponse))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var problem struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(answer, &problem) // the answer of a proxy may not be JSON: then the status is enough
		return &mgmtError{status: resp.StatusCode, reason: strings.Join(strings.Fields(problem.Reason), " ")}
	}
	if out == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber() // a float64 does not have every large integer
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}
