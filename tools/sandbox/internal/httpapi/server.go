// Package httpapi has the API of the payment provider, the receiver of webhooks, and the lists
// of everything that the sandbox received.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
	"example.com/orderflow/tools/sandbox/internal/postgres"
)

const (
	maxSlow        = 30 * time.Second
	requestTimeout = 5 * time.Second
	moveTimeout    = maxSlow + requestTimeout
	defaultLimit   = 100
	maxLimit       = 1000
)

// Secrets are the credentials of callers. An empty one is not required.
type Secrets struct {
	// ProviderKey is the bearer token of captures and refunds.
	ProviderKey service.Secret
	// Webhook is the secret that signs webhooks.
	Webhook service.Secret
}

type api struct {
	store   *postgres.Store
	secrets Secrets
	faults  *fault.Switches
	log     *zap.Logger
}

// Routes are the sandbox's routes.
func Routes(store *postgres.Store, secrets Secrets, faults *fault.Switches, log *zap.Logger) *http.ServeMux {
	a := &api{store, secrets, faults, log}
	return service.Routes(log, problem, map[string]func(w http.ResponseWriter, r *http.Request) error{
		"POST /v1/captures":        a.faulty(fault.Provider, a.keyed(a.capture)),
		"POST /v1/refunds":         a.faulty(fault.Provider, a.keyed(a.refund)),
		"POST /webhooks":           a.faulty(fault.Webhook, a.signed(a.webhook)),
		"GET /v1/captures":         a.listCaptures,
		"GET /v1/refunds":          a.listRefunds,
		"GET /v1/mails":            a.listMails,
		"GET /v1/webhooks":         a.listWebhooks,
		"GET /v1/faults":           a.listFaults,
		"PUT /v1/faults/{name}":    a.setFault,
		"DELETE /v1/faults/{name}": a.clearFault,
		"DELETE /v1/faults":        a.clearFaults,
	})
}

// problem turns the errors of the sandbox into HTTP answers. No other function does.
func problem(err error) *service.Problem {
	var unstorable *pgconn.PgError
	switch {
	case errors.As(err, &unstorable) && strings.HasPrefix(unstorable.Code, "22"): // a NUL, or invalid UTF-8
		return service.NewProblem(http.StatusUnprocessableEntity, "a text of the request cannot be stored")
	case errors.Is(err, postgres.ErrConflict): // not 409, which means: try again
		return refusal("key_reused", postgres.ErrConflict.Error())
	case errors.Is(err, postgres.ErrNoCapture):
		return refusal("no_capture", postgres.ErrNoCapture.Error())
	default:
		return nil
	}
}

// refusal is for a request that can never be carried out.
func refusal(code, detail string) *service.Problem {
	p := service.NewProblem(http.StatusUnprocessableEntity, detail)
	p.Code = code
	return p
}

type captureRequest struct {
	OrderID      string          `json:"order_id"`
	PaymentToken string          `json:"payment_token"`
	Amount       postgres.Amount `json:"amount"`
}

func (a *api) capture(w http.ResponseWriter, r *http.Request) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var in captureRequest
	if err := service.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	if err := checkMovement(in.OrderID, in.Amount); err != nil {
		return err
	}
	ctx, cancel := detached(r)
	defer cancel()
	_, err = a.store.FindCapture(ctx, key)
	if errors.Is(err, postgres.ErrNoCapture) {
		err = a.authorize(ctx, r.Context().Done(), key, in.PaymentToken)
	}
	if err != nil {
		return err
	}
	m, isNew, err := a.store.Capture(ctx, postgres.Movement{Key: key, PaymentID: key, OrderID: in.OrderID, Amount: in.Amount})
	if err != nil {
		return err
	}
	a.log.Info("captured", zap.String("payment_id", key), zap.String("order_id", in.OrderID), zap.Bool("new", isNew))
	service.WriteJSON(w, statusOf(isNew), m)
	return nil
}

// detached is a context that does not end when the caller disconnects: as at a real provider,
// the money moves all the same, and the next call with the same key finds it moved. Its timeout
// is long enough for slow tokens and faults.
func detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), moveTimeout)
}

// authorize does what the token says. gone is closed when the caller has disconnected.
func (a *api) authorize(ctx context.Context, gone <-chan struct{}, key, token string) error {
	name, parameter := token, 0
	if i := strings.LastIndexByte(token, '_'); i > len("tok") {
		if n, err := strconv.Atoi(token[i+1:]); err == nil && n >= 0 {
			name, parameter = token[:i], n
		}
	}
	switch name {
	case "tok_ok":
		return nil
	case "tok_declined":
		p := service.NewProblem(http.StatusPaymentRequired, "the card was declined")
		p.Code = "card_declined"
		return p
	case "tok_broken":
		return refusal("token_broken", "the provider always refuses this token")
	case "tok_flaky":
		n, err := a.store.CountAttempt(ctx, key)
		if err != nil {
			return err
		}
		if n <= parameter { // only for this payment: the provider works for others
			p := service.NewProblem(http.StatusConflict, "this attempt fails, as the token says")
			p.Code = "try_again"
			return p
		}
		return nil
	case "tok_slow":
		delay(ctx, min(time.Duration(parameter)*time.Millisecond, maxSlow))
		return ctx.Err()
	case "tok_silent":
		timer := time.NewTimer(maxSlow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-gone:
		}
		panic(http.ErrAbortHandler) // closes the connection
	default:
		return service.NewProblem(http.StatusUnprocessableEntity, "unknown payment token",
			service.FieldError{Field: "payment_token", Detail: "must be one of the sandbox's tokens"})
	}
}

type refundRequest struct {
	PaymentID string          `json:"payment_id"`
	OrderID   string          `json:"order_id"`
	Amount    postgres.Amount `json:"amount"`
}

func (a *api) refund(w http.ResponseWriter, r *http.Request) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var in refundRequest
	if err := service.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	if err := checkMovement(in.OrderID, in.Amount); err != nil {
		return err
	}
	ctx, cancel := detached(r)
	defer cancel()
	m, isNew, err := a.store.Refund(ctx, postgres.Movement{Key: key, PaymentID: in.PaymentID, OrderID: in.OrderID, Amount: in.Amount})
	if err != nil {
		return err
	}
	a.log.Info("refunded", zap.String("payment_id", in.PaymentID), zap.String("order_id", in.OrderID), zap.Bool("new", isNew))
	service.WriteJSON(w, statusOf(isNew), m)
	return nil
}

func (a *api) webhook(w http.ResponseWriter, r *http.Request) error {
	var body map[string]any
	if err := service.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	orderID, _ := body["order_id"].(string)
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	if err := a.store.AddWebhook(ctx, postgres.Webhook{DedupeKey: r.Header.Get("Idempotency-Key"), OrderID: orderID, Body: encoded}); err != nil {
		return err
	}
	a.log.Info("webhook taken", zap.String("order_id", orderID))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) listCaptures(w http.ResponseWriter, r *http.Request) error {
	list, total, err := a.store.Captures(r.Context(), r.FormValue("order_id"), limit(r))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusOK, map[string]any{"captures": orEmpty(list), "total": total})
	return nil
}

func (a *api) listRefunds(w http.ResponseWriter, r *http.Request) error {
	list, total, err := a.store.Refunds(r.Context(), r.FormValue("order_id"), limit(r))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusOK, map[string]any{"refunds": orEmpty(list), "total": total})
	return nil
}

func (a *api) listMails(w http.ResponseWriter, r *http.Request) error {
	list, err := a.store.Mails(r.Context(), r.FormValue("to"), limit(r))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusOK, map[string]any{"mails": orEmpty(list)})
	return nil
}

func (a *api) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	list, err := a.store.Webhooks(r.Context(), r.FormValue("order_id"), limit(r))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusOK, map[string]any{"webhooks": orEmpty(list)})
	return nil
}

func idempotencyKey(r *http.Request) (string, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return "", service.NewProblem(http.StatusBadRequest, "the header Idempotency-Key is missing",
			service.FieldError{Field: "Idempotency-Key", Detail: "required"})
	}
	return key, nil
}

func checkMovement(orderID string, amount postgres.Amount) error {
	var fields []service.FieldError
	if orderID == "" {
		fields = append(fields, service.FieldError{Field: "order_id", Detail: "required"})
	}
	if amount.AmountMinor <= 0 {
		fields = append(fields, service.FieldError{Field: "amount.amount_minor", Detail: "must be above zero"})
	}
	if len(amount.Currency) != 3 {
		fields = append(fields, service.FieldError{Field: "amount.currency", Detail: "must be an ISO 4217 code"})
	}
	if len(fields) > 0 {
		return service.NewProblem(http.StatusUnprocessableEntity, "the request cannot be carried out", fields...)
	}
	return nil
}

func limit(r *http.Request) int {
	n, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || n < 1 {
		return defaultLimit
	}
	return min(n, maxLimit)
}

func statusOf(isNew bool) int {
	if isNew {
		return http.StatusCreated
	}
	return http.StatusOK
}

// orEmpty makes a nil list "[]" in JSON, instead of "null".
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
