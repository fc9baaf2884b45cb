// Package service is what every Orderflow process has around its messaging: a
// main function, settings from the environment, an HTTP server with health,
// readiness and metrics, problem documents, a migrated database, a heartbeat,
// and an orderly stop. It knows nothing of orders.
package service
