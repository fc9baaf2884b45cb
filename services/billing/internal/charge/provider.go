package charge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

// DeclinedError says that the provider declined the payment (402). This is an outcome, not a
// failure.
type DeclinedError struct {
	// Reason is the provider's code, such as "card_declined".
	Reason string
}

func (e *DeclinedError) Error() string { return "payment declined: " + e.Reason }

// Observe is called after each call to the provider. operation is capture or refund; outcome
// is done, declined, conflict, refused or unavailable.
type Observe func(operation, outcome string, took time.Duration)

// Provider is a client of the payment provider, an outside system with an HTTP API that
// accepts an Idempotency-Key. Safe for concurrent use.
//
// Its errors are marked with their verdict, see [service.Answer.Verdict]: the provider is
// unavailable, has refused the request, or the request should be tried again.
type Provider struct {
	base    *url.URL
	key     service.Secret
	outside *service.Outside
	observe Observe
}

// NewProvider makes a client of the provider at base, see [service.OutsideURL]. It sends
// the key as a bearer token, if the key is not empty. timeout limits each call, from
// connecting to the end of the answer.
func NewProvider(base *url.URL, key service.Secret, timeout time.Duration, observe Observe) *Provider {
	return &Provider{base, key, service.NewOutside(timeout), observe}
}

// Close closes the connections that are kept for later calls.
func (p *Provider) Close() { p.outside.Close() }

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

// movement is the provider's answer to both requests.
type movement struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
}

// Capture takes the money, once for each payment id, however often it is called. Errors:
// *[DeclinedError], and errors that are marked with a verdict.
func (p *Provider) Capture(ctx context.Context, c Command) error {
	return p.call(ctx, "capture", c.PaymentID, c, captureRequest{c.OrderID, c.Token, c.Amount})
}

// Refund gives the money back, once for each payment id, however often it is called. Its
// errors are marked with a verdict.
func (p *Provider) Refund(ctx context.Context, c Command) error {
	err := p.call(ctx, "refund", "refund:"+c.PaymentID, c, refundRequest{c.PaymentID, c.OrderID, c.Amount})
	var declined *DeclinedError
	if errors.As(err, &declined) { // no event announces a declined refund
		return messaging.Permanent(fmt.Errorf("payment provider: refund declined: %s", declined.Reason))
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
	header := http.Header{}
	header.Set("Idempotency-Key", key)
	if p.key != "" {
		header.Set("Authorization", "Bearer "+string(p.key))
	}
	answer, err := p.outside.Post(ctx, p.base.JoinPath(path), header, encoded)
	if err != nil {
		return fmt.Errorf("payment provider: %w", err)
	}
	return classify(answer, c)
}

// classify turns the provider's answer into an outcome. If a success does not repeat the
// request, the outcome is unknown: the money may have moved. So it is not handled as a
// refusal, but as if the provider were unavailable.
func classify(answer service.Answer, c Command) error {
	switch answer.Status {
	case http.StatusOK, http.StatusCreated:
		var m movement
		if err := json.Unmarshal(answer.Body, &m); err != nil || m != (movement{c.PaymentID, c.OrderID, c.Amount}) {
			return answer.Verdict(fmt.Errorf("payment provider: %d with an answer that does not repeat the request", answer.Status))
		}
		return nil
	case http.StatusPaymentRequired:
		return &DeclinedError{Reason: reasonOf(answer.Body, "declined")}
	default:
		return answer.Verdict(fmt.Errorf("payment provider: %d %s", answer.Status, reasonOf(answer.Body, http.StatusText(answer.Status))))
	}
}

// code is the format of a provider's reason. The reason is used in the ledger, events, mails
// and logs, and must be valid in all of them.
var code = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// reasonOf is the code of a problem document. Its detail is not used: it may repeat the
// request, which contains the token.
func reasonOf(answer []byte, otherwise string) string {
	var problem struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &problem); err != nil || !code.MatchString(problem.Code) {
		return otherwise
	}
	return problem.Code
}

// outcomeOf is the outcome as a label of metrics.
func outcomeOf(err error) string {
	var declined *DeclinedError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &declined):
		return "declined"
	case messaging.IsPermanent(err):
		return "refused"
	case messaging.IsUnavailable(err):
		return "unavailable"
	default:
		return "conflict"
	}
}
