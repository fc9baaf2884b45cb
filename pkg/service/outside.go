package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"example.com/orderflow/pkg/messaging"
)

const (
	// maxAnswer is how much is read of an outside system's answer, in bytes.
	maxAnswer = 64 << 10
	// maxRetryAfter is the longest wait that an outside system can ask for.
	maxRetryAfter = 5 * time.Minute
)

// Outside is an HTTP client for an outside system, such as a payment provider or a receiver
// of webhooks. It follows no redirects: that would send the body, or a GET without it, to an
// address that is not configured. Safe for concurrent use.
type Outside struct{ client *http.Client }

// NewOutside makes a client. timeout limits each call, from connecting to the end of the
// answer.
func NewOutside(timeout time.Duration) *Outside {
	return &Outside{&http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			MaxIdleConnsPerHost: 32, // with the default of 2, most calls would open a new connection
			IdleConnTimeout:     time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that are kept for later calls.
func (o *Outside) Close() { o.client.CloseIdleConnections() }

// Answer is the answer of an outside system, with any status.
type Answer struct {
	Status int
	Header http.Header
	// Body is cut off after 64 KiB.
	Body []byte
}

// Post sends a JSON body. Without a complete answer it is not known whether the request had
// an effect; the error is [messaging.Unavailable] then. The error never contains the URL,
// which may contain a secret.
func (o *Outside) Post(ctx context.Context, to *url.URL, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("make the request: %w", err)
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	res, err := o.client.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return Answer{}, messaging.Unavailable(fmt.Errorf("no answer: %w", err))
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Answer{}, messaging.Unavailable(fmt.Errorf("read the answer: %w", err))
	}
	return Answer{res.StatusCode, res.Header, answer}, nil
}

// Verdict marks err, which describes an answer that is not a success, with what the status
// means for the handled message:
//
//	409                                      err unchanged: the same request is in progress, try again
//	1xx, 2xx, 3xx, 401, 403, 407, 408,       [messaging.UnavailableFor], with Retry-After: the system is
//	421, 425, 429, 5xx                       unavailable, refuses our login, or gives unexpected answers
//	402, 404, 422 and every other 4xx        [messaging.Permanent]: refused, and will be refused again
func (a Answer) Verdict(err error) error {
	switch a.Status {
	case http.StatusConflict:
		return err
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return messaging.UnavailableFor(err, retryAfter(a.Header, time.Now()))
	}
	if a.Status >= 400 && a.Status < 500 {
		return messaging.Permanent(err)
	}
	return messaging.UnavailableFor(err, retryAfter(a.Header, time.Now()))
}

// retryAfter reads the header Retry-After: whole seconds, or a date. A date is compared with
// the answer's Date if there is one, since clocks differ. The result is at most 5 min, and 0
// if the header is absent, malformed or in the past.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

// OutsideURL parses the URL of an outside system: http or https, with a host and without a
// fragment. A user or password in it is refused, since URLs appear in logs. The error never
// contains the URL.
func OutsideURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("must begin with http:// or https:// and name a host")
	case u.Fragment != "" || u.RawFragment != "":
		return nil, errors.New("must have no fragment: write # as %23")
	case u.User != nil:
		return nil, errors.New("must have no user and no password: credentials come from files")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("must have a port from 1 to 65535, or none")
		}
	}
	return u, nil
}
