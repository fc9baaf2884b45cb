// Package httpapi has the HTTP routes that list and change prices.
package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"sort"
	"strings"

	"go.uber.org/zap"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

// API answers the HTTP requests.
type API struct {
	Store *postgres.Store
	// OperatorToken is the bearer token that price changes need.
	OperatorToken string
	Log           *zap.Logger
}

// Routes are the API's routes.
func (a *API) Routes() *http.ServeMux {
	return service.Routes(a.Log, problem, map[string]func(w http.ResponseWriter, r *http.Request) error{
		"GET /v1/prices":       a.list,
		"PUT /v1/prices/{sku}": a.put,
	})
}

// problem turns the errors of pricing-rpc into HTTP answers. No other function does.
func problem(err error) *service.Problem {
	var invalid pricing.Invalid
	if !errors.As(err, &invalid) {
		return nil
	}
	fields := make([]service.FieldError, 0, len(invalid))
	for field, detail := range invalid {
		fields = append(fields, service.FieldError{Field: field, Detail: detail})
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].Field < fields[j].Field })
	return service.NewProblem(http.StatusUnprocessableEntity, "the price cannot be set", fields...)
}

// list answers GET /v1/prices.
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	catalogue, err := a.Store.Catalogue(r.Context())
	if err != nil {
		return err
	}
	prices := catalogue.Prices
	if prices == nil {
		prices = []pricing.Price{}
	}
	service.WriteJSON(w, http.StatusOK, map[string]any{"prices": prices, "version": catalogue.Version})
	return nil
}

type putRequest struct {
	Name  string         `json:"name"`
	Price contract.Money `json:"price"`
}

// put answers PUT /v1/prices/{sku}.
func (a *API) put(w http.ResponseWriter, r *http.Request) error {
	if !a.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return service.NewProblem(http.StatusUnauthorized, "the operator's token is required")
	}
	var in putRequest
	if err := service.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	price := pricing.Price{SKU: r.PathValue("sku"), Name: in.Name, Price: in.Price}
	if err := price.Validate(); err != nil {
		return err
	}
	price, err := a.Store.Put(r.Context(), price)
	if err != nil {
		return err
	}
	a.Log.Info("price set", zap.String("sku", price.SKU), zap.Int64("version", price.Version))
	service.WriteJSON(w, http.StatusOK, price)
	return nil
}

// authorized compares hashes, which have equal lengths, in constant time. An API without a
// token authorizes no request.
func (a *API) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.OperatorToken))
	return a.OperatorToken != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}
