// Package httpapi has the HTTP routes of orders, which customers call.
package httpapi

import (
	"errors"
	"net/http"
	"sort"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/postgres"
)

// API answers the HTTP requests: the service changes orders, the store reads them.
type API struct {
	Service *order.Service
	Store   *postgres.Store
	Log     *zap.Logger
}

// Routes are the API's routes.
func (a *API) Routes() *http.ServeMux {
	return service.Routes(a.Log, problem, map[string]func(w http.ResponseWriter, r *http.Request) error{
		"POST /v1/orders":             a.place,
		"GET /v1/orders":              a.list,
		"GET /v1/orders/{id}":         a.get,
		"POST /v1/orders/{id}/cancel": a.cancel,
	})
}

// problem turns the errors of orders into HTTP answers. No other function does.
func problem(err error) *service.Problem {
	var invalid order.Invalid
	switch {
	case errors.As(err, &invalid):
		return service.NewProblem(http.StatusUnprocessableEntity, "the request cannot be carried out", fieldErrors(invalid)...)
	case errors.Is(err, order.ErrNotFound):
		return service.NewProblem(http.StatusNotFound, order.ErrNotFound.Error())
	case errors.Is(err, order.ErrClosed):
		return service.NewProblem(http.StatusConflict, order.ErrClosed.Error())
	case errors.Is(err, order.ErrKeyReused):
		return service.NewProblem(http.StatusConflict, order.ErrKeyReused.Error(),
			service.FieldError{Field: "Idempotency-Key", Detail: "was used with another body"})
	case errors.Is(err, order.ErrBusy):
		return service.NewProblem(http.StatusTooManyRequests, order.ErrBusy.Error()).After(5 * time.Second)
	case errors.Is(err, order.ErrPricingAway):
		return service.NewProblem(http.StatusServiceUnavailable, order.ErrPricingAway.Error()).After(time.Second)
	default:
		return nil
	}
}

func fieldErrors(invalid order.Invalid) []service.FieldError {
	fields := make([]service.FieldError, 0, len(invalid))
	for field, detail := range invalid {
		fields = append(fields, service.FieldError{Field: field, Detail: detail})
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].Field < fields[j].Field })
	return fields
}
