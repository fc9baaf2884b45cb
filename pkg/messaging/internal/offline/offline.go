// Package offline gives package messagingtest access to an unexported function of package
// messaging: the one that handles a message as a consumer does, without a broker.
package offline

// Handle is that function; package messaging, which imports this package, sets it. Its type is
// that of handleOffline there.
var Handle any
