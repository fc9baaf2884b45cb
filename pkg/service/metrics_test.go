package service_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

// The length of the outbox is a metric, which is -1 while it is unknown.
func TestOutboxMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.toBroker.Stall() }) // nothing leaves the outbox
	w.run(t, nothing)
	_, metrics := fetch(t, w.AdminAddr()+"/metrics")
	require.Contains(t, metrics, "outbox_waiting -1\n")
	require.Contains(t, metrics, "outbox_held_back -1\n")
	w.becomes(t, http.StatusOK, "/healthz")
	waitFor(t, w, "outbox_waiting 0\n")
	_, err := open(t, w.toData.URL).Exec(t.Context(), `INSERT INTO outbox (key, exchange, route, message, not_before) VALUES ('o1', 'e', 'k', '{}', NULL), ('o2', 'e', 'k', '{}', now())`)
	require.NoError(t, err)
	waitFor(t, w, "outbox_waiting 2\n")
	waitFor(t, w, "outbox_held_back 1\n")
}

// waitFor waits until the metrics have a line.
func waitFor(t *testing.T, w *world, line string) {
	t.Helper()
	messagingtest.Eventually(t, waitTimeout, func() (bool, string) {
		_, metrics := fetch(t, w.AdminAddr()+"/metrics")
		return strings.Contains(metrics, line), "no " + line
	})
}
