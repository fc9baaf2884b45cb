// Package offline is how package messagingtest reaches what package messaging keeps to
// itself: how a consumer handles a message, without a broker.
package offline

// Handle is a function of package messaging, which imports this package: see handleOffline
// there for its type.
var Handle any
