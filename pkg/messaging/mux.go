package messaging

import (
	"context"
	"fmt"
)

// Mux routes deliveries to handlers by message type, and takes a type only from
// its owner: the broker user and the exchange that its [MessageType] names. The
// broker refuses a false user id but accepts none at all, and whoever may write
// to the default exchange reaches every queue; so both are checked here.
//
// What has no handler ([ErrUnknownType]) or comes from elsewhere
// ([ErrUntrustedSource]) is [Permanent].
type Mux struct {
	operator string
	routes   map[string]muxRoute
}

type muxRoute struct {
	kind    MessageType
	handler Handler
}

// AnyOwner is the [MessageType.Owner] of a type that anybody may send who can write to its
// exchange: for producers that set no user id, and several users. An empty Owner takes
// messages without a user id only.
const AnyOwner = "*"

// owns says whether a message of this type may come from a user.
func (t MessageType) owns(user string) bool { return t.Owner == AnyOwner || t.Owner == user }

// NewMux makes an empty Mux. The operator is the one broker user that may bring
// messages back: through the default exchange from a dead-letter queue, or
// through the type's own exchange. Empty means nobody.
func NewMux(operator string) *Mux {
	return &Mux{operator: operator, routes: map[string]muxRoute{}}
}

// Handle registers the handler of a type. It panics for a second handler of a type, and for a
// nil handler, as [net/http.ServeMux] does: each is a mistake
// in the program. Not safe for use while deliveries are handled.
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

// handleDelivery is the mux as a HandlerFunc: Handle is taken by registration.
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
