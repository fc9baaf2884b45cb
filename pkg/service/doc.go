// Package service has what every Orderflow process needs besides messaging: a main
// function, settings from the environment, an HTTP server with health, readiness and
// metrics, problem documents, a migrated database, a heartbeat, and a stop in order. It
// knows nothing of orders.
package service
