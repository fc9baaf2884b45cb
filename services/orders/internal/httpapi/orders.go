package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/order"
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
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var request order.Request
	if err := service.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	o, isNew, err := a.Service.Place(r.Context(), request, key)
	if err != nil {
		return err
	}
	if !isNew {
		service.WriteJSON(w, http.StatusOK, viewOf(o))
		return nil
	}
	w.Header().Set("Location", "/v1/orders/"+o.ID)
	service.WriteJSON(w, http.StatusCreated, viewOf(o))
	return nil
}

// idempotencyKey returns the empty string if the request has no key. A malformed key is
// refused, since the client relies on it.
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", service.NewProblem(http.StatusBadRequest, "the header Idempotency-Key is not valid",
			service.FieldError{Field: "Idempotency-Key", Detail: "must be given once, with 1 to 255 printable ASCII characters"})
	}
	return key, nil
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
	status, cursor, limit, err := readQuery(r.URL.RawQuery)
	if err != nil {
		return err
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

// readQuery refuses unknown and repeated parameters: if a filter were ignored, the answer would
// have more than the client asked for. A parameter without a value counts as absent.
func readQuery(raw string) (status order.Status, cursor string, limit int, err error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return "", "", 0, service.NewProblem(http.StatusBadRequest, "the query is malformed")
	}
	limit = defaultLimit
	var wrong []service.FieldError
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value, detail := query.Get(name), ""
		switch name {
		case "status":
			if status = order.Status(value); value != "" && !slices.Contains(order.Statuses, status) {
				detail = "must be placed, paid, declined, cancelled or refunded"
			}
		case "limit":
			if value == "" {
				break
			}
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > maxLimit {
				detail = fmt.Sprintf("must be 1 to %d", maxLimit)
			}
		case "cursor":
			if cursor = value; value != "" && !order.ValidID(cursor) {
				detail = "must be the cursor of an earlier answer"
			}
		default:
			detail = "there is no such parameter"
		}
		if len(query[name]) > 1 {
			detail = "is given more than once"
		}
		if detail != "" {
			wrong = append(wrong, service.FieldError{Field: name, Detail: detail})
		}
	}
	if len(wrong) > 0 {
		return "", "", 0, service.NewProblem(http.StatusBadRequest, "a parameter of the query is not valid", wrong...)
	}
	return status, cursor, limit, nil
}

// cancel answers POST /v1/orders/{id}/cancel.
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	o, err := a.Service.Cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	service.WriteJSON(w, http.StatusAccepted, viewOf(o))
	return nil
}
