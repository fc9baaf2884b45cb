package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

const (
	maxKey       = 255
	defaultLimit = 50
	maxLimit     = 200
)

// view is an order as customers see it.
type view struct {
	ID         string         `json:"id"`
	Status     order.Status   `json:"status"`
	Tier       string         `json:"tier"`
	Region     string         `json:"region"`
	CustomerID string         `json:"customer_id"`
	Total      contract.Money `json:"total"`
	Items      []order.Item   `json:"items"`
	History    []order.Change `json:"history"`
}

func viewOf(o *order.Order) view {
	return view{o.ID, o.Status, o.Tier, o.Region, o.CustomerID, o.Total, o.Items, o.History}
}

// place answers POST /v1/orders.
func (a *API) place(w http.ResponseWriter, r *http.Request) error {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return service.NewProblem(http.StatusBadRequest, "the header Idempotency-Key does not fit",
			service.FieldError{Field: "Idempotency-Key", Detail: "may have 255 printable ASCII characters"})
	}
	var request order.Request
	if err := service.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	if err := request.Validate(); err != nil {
		return err
	}
	hash, err := postgres.Hash(request)
	if err != nil {
		return err
	}
	if key != "" { // a repeated request is answered even while new ones are refused
		known, err := a.Store.FindByKey(r.Context(), key, hash)
		if err != nil {
			return err
		}
		if known != nil {
			service.WriteJSON(w, http.StatusOK, viewOf(known))
			return nil
		}
	}
	waiting, err := a.Waiting(r.Context())
	if err != nil {
		return err
	}
	if waiting > maxWaiting {
		return errBusy
	}
	knows, err := a.Knows(r.Context())
	if err != nil {
		return err
	}
	if err := request.CheckSKUs(knows); err != nil {
		return err
	}
	total, err := a.Quote(r.Context(), request.Items)
	if err != nil {
		return err
	}
	placed, err := order.Place(request, total, time.Now().UTC())
	if err != nil {
		return err
	}
	messages, err := placed.PlacedMessages(request.PaymentToken)
	if err != nil {
		return err
	}
	stored, isNew, err := a.Store.Place(r.Context(), placed, messages, key, hash)
	if err != nil {
		return err
	}
	if !isNew {
		service.WriteJSON(w, http.StatusOK, viewOf(stored))
		return nil
	}
	a.Wake()
	a.Log.Info("order placed", zap.String("order_id", stored.ID), zap.String("tier", stored.Tier), zap.String("region", stored.Region))
	w.Header().Set("Location", "/v1/orders/"+stored.ID)
	service.WriteJSON(w, http.StatusCreated, viewOf(stored))
	return nil
}

// get answers GET /v1/orders/{id}.
func (a *API) get(w http.ResponseWriter, r *http.Request) error {
	o, err := a.Store.Find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusOK, viewOf(o))
	return nil
}

// list answers GET /v1/orders, newest first; the cursor is the last order's id.
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	status := order.Status(query.Get("status"))
	if status != "" && !slices.Contains(order.Statuses, status) {
		return badQuery("status", "must be placed, paid, declined, cancelled or refunded")
	}
	limit := defaultLimit
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return badQuery("limit", "must be 1 to 200")
		}
		limit = n
	}
	cursor := query.Get("cursor")
	if cursor != "" && !order.ValidID(cursor) {
		return badQuery("cursor", "must be a cursor that was given before")
	}
	orders, err := a.Store.List(r.Context(), status, cursor, limit)
	if err != nil {
		return err
	}
	answer := struct {
		Orders []view `json:"orders"`
		Cursor string `json:"cursor,omitempty"` // absent on the last page
	}{Orders: []view{}}
	for _, o := range orders {
		answer.Orders = append(answer.Orders, viewOf(o))
	}
	if len(orders) == limit {
		answer.Cursor = orders[limit-1].ID
	}
	service.WriteJSON(w, http.StatusOK, answer)
	return nil
}

func badQuery(field, detail string) error {
	return service.NewProblem(http.StatusBadRequest, "the query does not fit", service.FieldError{Field: field, Detail: detail})
}

// cancel answers POST /v1/orders/{id}/cancel.
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	o, effect, err := a.Store.Change(r.Context(), r.PathValue("id"), func(o *order.Order) (order.Effect, error) {
		return o.Cancel(time.Now().UTC())
	})
	if err != nil {
		return err
	}
	a.Wake()
	a.Log.Info("cancellation accepted", zap.String("order_id", o.ID), zap.String("effect", string(effect)))
	service.WriteJSON(w, http.StatusAccepted, viewOf(o))
	return nil
}
