package messaging

import (
	"context"
	"fmt"
)

// Mux routes deliveries to handlers by message type. It accepts a type only from its owner:
// from the broker user and the exchange of its [MessageType]. Both must be checked here,
// because the broker refuses a wrong user id but accepts a message without one, and because
// a user who may write to the default exchange can publish to every queue.
//
// A message without a handler ([ErrUnknownType]), or from another user or exchange
// ([ErrUntrustedSource]), is a [Permanent] error.
type Mux struct {
	operator string
	routes   map[string]muxRoute
}

type muxRoute struct {
	kind    MessageType
	handler Handler
}

// AnyOwner is the [MessageType.Owner] of a type that every user may send who can write to its
// exchange: for producers that set no user id, and for types of several users. An empty
// Owner accepts only messages without a user id.
const AnyOwner = "*"

// owns says whether a message of this type may come from a user.
func (t MessageType) owns(user string) bool { return t.Owner == AnyOwner || t.Owner == user }

// NewMux makes an empty Mux. The operator is the one broker user that may send messages of
// every type again, for example from a dead-letter queue: over the default exchange or over
// the type's own exchange. Empty means no user.
func NewMux(operator string) *Mux {
	return &Mux{operator: operator, routes: map[string]muxRoute{}}
}

// Handle registers the handler of a type. It panics for a second handler of a type and for a
// nil handler, as [net/http.ServeMux] does, because these are mistakes in the program. Do not
// call it while deliveries are handled.
func (m *Mux) Handle(kind MessageType, h Handler) {
	_, twice := m.routes[kind.Name]
	switch {
	case isNil(h):
		panic(fmt.Sprintf("messaging: Mux.Handle: the handler of %q is nil", kind.Name))
	case twice:
		panic(fmt.Sprintf("messaging: Mux.Handle: a second handler of %q", kind.Name))
	}
	m.routes[kind.Name] = muxRoute{kind, h}
}

// handleDelivery is the HandlerFunc of the mux. Its Handle registers handlers.
func (m *Mux) handleDelivery(ctx context.Context, d *Delivery) error {
	route, ok := m.routes[d.Type]
	if !ok {
		return Permanent(fmt.Errorf("%w: %q", ErrUnknownType, d.Type))
	}
	if !m.trusts(route.kind, d) {
		return Permanent(fmt.Errorf("%w: %s from user %q by exchange %q", ErrUntrustedSource, d.Type, d.UserID, d.Exchange))
	}
	return route.handler.Handle(ctx, d)
}

// Handler gives the mux as a Handler.
func (m *Mux) Handler() Handler { return HandlerFunc(m.handleDelivery) }

func (m *Mux) trusts(kind MessageType, d *Delivery) bool {
	byOwner := kind.owns(d.UserID) && d.Exchange == kind.Exchange
	replayed := m.operator != "" && d.UserID == m.operator && (d.Exchange == "" || d.Exchange == kind.Exchange)
	return byOwner || replayed
}
