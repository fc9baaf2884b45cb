package service

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Check is a condition of readiness. Func returns the reason why it is not fulfilled, or nil.
type Check struct {
	Name string
	Func func(ctx context.Context) error
}

const (
	checkTimeout = 2 * time.Second
	// checkAge is how long the results of the checks are kept, so that frequent requests
	// for the readiness do not cause as many queries.
	checkAge = 250 * time.Millisecond
)

// readiness knows whether the process is starting, working or stopping, and which checks
// fail. It also collects two metrics.
type readiness struct {
	mu       sync.Mutex
	waits    string // what the start waits for
	started  bool
	stopping bool
	checks   func(ctx context.Context) (map[string]string, error)
}

var (
	readyDesc   = prometheus.NewDesc("service_ready", "1 when the process is ready, else 0.", nil, nil)
	missingDesc = prometheus.NewDesc("service_missing", "1 for each failing check, for which the process is not ready, else 0.", []string{"what"}, nil)
)

func newReadiness() *readiness { return &readiness{waits: "not started"} }

// waitFor sets what the start waits for.
func (r *readiness) waitFor(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = what
}

// start marks the process as started: from now on the checks decide.
func (r *readiness) start(checks []Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = true
	r.checks = Cached(checkAge, func(ctx context.Context) (map[string]string, error) {
		missing := map[string]string{}
		for _, c := range checks {
			missing[c.Name] = ""
			if err := c.Func(ctx); err != nil {
				missing[c.Name] = err.Error()
			}
		}
		return missing, ctx.Err()
	})
}

// stop marks the process as stopping, and returns whether it was started and not stopping
// before.
func (r *readiness) stop() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	open := r.started && !r.stopping
	r.stopping = true
	return open
}

func (r *readiness) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

// look returns the checks by name, each with the reason why it fails or the empty string.
func (r *readiness) look(ctx context.Context) (checks map[string]string, ready bool) {
	r.mu.Lock()
	started, stopping, waits, ask := r.started, r.stopping, r.waits, r.checks
	r.mu.Unlock()
	switch {
	case stopping:
		return map[string]string{"process": "is stopping"}, false
	case !started:
		return map[string]string{"process": waits}, false
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	checks, err := ask(ctx)
	if err != nil && len(checks) == 0 {
		return map[string]string{"process": "the checks take too long: " + err.Error()}, false
	}
	for _, missing := range checks {
		if missing != "" {
			return checks, false
		}
	}
	return checks, err == nil
}

// Describe sends the two metrics' descriptions.
func (r *readiness) Describe(to chan<- *prometheus.Desc) {
	to <- readyDesc
	to <- missingDesc
}

// Collect runs the checks.
func (r *readiness) Collect(to chan<- prometheus.Metric) {
	checks, ready := r.look(context.Background()) // bounded by checkTimeout
	to <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, oneIf(ready))
	for name, missing := range checks {
		to <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, oneIf(missing != ""), name)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// answerReady is for the public port: a status without reasons.
func (s *Server) answerReady(w http.ResponseWriter, r *http.Request) {
	if _, ready := s.ready.look(r.Context()); !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// explainReady is for the admin port: it has reasons, which may name hosts and users.
func (s *Server) explainReady(w http.ResponseWriter, r *http.Request) {
	checks, ready := s.ready.look(r.Context())
	missing := map[string]string{}
	for name, reason := range checks {
		if reason != "" {
			missing[name] = reason
		}
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	WriteJSON(w, status, map[string]any{"ready": ready, "missing": missing})
}
