package charge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"example.com/orderflow/contract"
)

// What the payment provider can answer besides yes.
var (
	// ErrUnavailable says that the outcome is unknown or that the provider could
	// not act now: no connection, a time-out, 408, 425, 429, 5xx, or an answer that
	// makes no sense. Ask again with the same idempotency key.
	ErrUnavailable = errors.New("payment provider unavailable")
	// ErrRefused says that the provider will never carry out this request: any
	// other 4xx, or an answer about another payment than the one asked for.
	ErrRefused = errors.New("payment provider refused")
)

// DeclinedError says that the customer cannot pay this way (402). That is an
// outcome, not a failure.
type DeclinedError struct {
	// Reason is the provider's code, such as "card_declined".
	Reason string
}

func (e *DeclinedError) Error() string { return "payment declined: " + e.Reason }

const (
	// maxAnswer bounds what is read of the provider's answer, in bytes.
	maxAnswer = 64 << 10
	// maxReason bounds the provider's own words in events and errors, in bytes.
	maxReason = 100
)

// Observe is called after each call of the provider. operation is capture or
// refund, outcome is done, declined, refused or unavailable.
type Observe func(operation, outcome string, took time.Duration)

// Provider is a client of the payment provider, an outside system that speaks
// HTTP and recognises an Idempotency-Key. Safe for concurrent use.
type Provider struct {
	base    *url.URL
	client  *http.Client
	observe Observe
}

// NewProvider makes a client. timeout bounds each call, from the dial to the end
// of the answer. It fails when base is not an http or https URL.
func NewProvider(base string, timeout time.Duration, observe Observe) (*Provider, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the payment provider's URL must begin with http:// or https:// and name a host")
	}
	return &Provider{
		base: u,
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				MaxIdleConnsPerHost: 32, // the default of 2 would dial anew for most calls
				IdleConnTimeout:     time.Minute,
			},
			// A redirect would send the token to somewhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		observe: observe,
	}, nil
}

// Close closes the connections that are kept for later calls.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

type captureRequest struct {
	OrderID string         `json:"order_id"`
	Token   string         `json:"payment_token"`
	Amount  contract.Money `json:"amount"`
}

type refundRequest struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
}

// movement is the provider's answer to both.
type movement struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
}

// Capture takes the money, once per payment id however often it is called.
// Errors: *[DeclinedError], [ErrRefused], [ErrUnavailable].
func (p *Provider) Capture(ctx context.Context, c Command) error {
	return p.call(ctx, "capture", c.PaymentID, c, captureRequest{c.OrderID, c.Token, c.Amount})
}

// Refund gives the money back, once per payment id however often it is called.
// Errors: [ErrRefused], [ErrUnavailable].
func (p *Provider) Refund(ctx context.Context, c Command) error {
	err := p.call(ctx, "refund", "refund:"+c.PaymentID, c, refundRequest{c.PaymentID, c.OrderID, c.Amount})
	var declined *DeclinedError
	if errors.As(err, &declined) { // there is no event for a refund that is declined
		return fmt.Errorf("%w: declined: %s", ErrRefused, declined.Reason)
	}
	return err
}

func (p *Provider) call(ctx context.Context, operation, key string, c Command, body any) error {
	started := time.Now()
	err := p.post(ctx, "/v1/"+operation+"s", key, c, body)
	p.observe(operation, outcomeOf(err), time.Since(started))
	return err
}

// post sends the request and classifies the answer.
func (p *Provider) post(ctx context.Context, path, key string, c Command, body any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base.JoinPath(path).String(), bytes.NewReader(encoded))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: read the answer: %w", ErrUnavailable, err)
	}
	return classify(res.StatusCode, answer, c)
}

// classify turns the provider's answer into an outcome. What is neither a clear
// yes nor a clear no leaves the outcome unknown, and that is asked again.
func classify(status int, answer []byte, c Command) error {
	switch {
	case status == http.StatusOK, status == http.StatusCreated:
		var m movement
		if err := json.Unmarshal(answer, &m); err != nil {
			return fmt.Errorf("%w: %d with an answer that does not decode", ErrUnavailable, status)
		}
		if m != (movement{c.PaymentID, c.OrderID, c.Amount}) {
			return fmt.Errorf("%w: %d about another payment than the one asked for", ErrRefused, status)
		}
		return nil
	case status == http.StatusPaymentRequired:
		return &DeclinedError{Reason: reasonOf(answer, "declined")}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status < http.StatusBadRequest, status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %d %s", ErrUnavailable, status, reasonOf(answer, http.StatusText(status)))
	default:
		return fmt.Errorf("%w: %d %s", ErrRefused, status, reasonOf(answer, http.StatusText(status)))
	}
}

// reasonOf is the code of a problem document. Its detail is not used: it may
// repeat what was sent, and that holds the token.
func reasonOf(answer []byte, otherwise string) string {
	var problem struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &problem); err != nil || problem.Code == "" || len(problem.Code) > maxReason {
		return otherwise
	}
	return problem.Code
}

// outcomeOf is a label for metrics.
func outcomeOf(err error) string {
	var declined *DeclinedError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &declined):
		return "declined"
	case errors.Is(err, ErrRefused):
		return "refused"
	default:
		return "unavailable"
	}
}
