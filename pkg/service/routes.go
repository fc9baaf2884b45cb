package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/jackc/puddle/v2"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/inbox"
)

// requestTimeout is how long a request may take. When the database or the broker is slow, the
// client gets an error after this time.
const requestTimeout = 5 * time.Second

var (
	unavailable = NewProblem(http.StatusServiceUnavailable, "a system that this request needs is unavailable, try again later").After(time.Second)
	unexpected  = NewProblem(http.StatusInternalServerError, "an unexpected error occurred, and was logged")
)

// Routes makes a mux of handlers that may fail. A request's context ends after 5 s.
//
// If the error is a *[Problem], that is the answer. The function problem turns the other
// errors of the service into answers, and returns nil for those that it does not know: then
// an unavailable database is 503 with Retry-After, and any other error, or a panic, is 500.
// Answers that are not the client's fault (429 and above 499) are logged as an [Episode] for
// each route and answer.
func Routes(log *zap.Logger, problem func(err error) *Problem, handlers map[string]func(w http.ResponseWriter, r *http.Request) error) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, handle := range handlers {
		mux.Handle(pattern, newRoute(log, pattern, problem, handle))
	}
	return mux
}

// route is one pattern with its handler.
type route struct {
	problem func(err error) *Problem
	handle  func(w http.ResponseWriter, r *http.Request) error
	refused *Episode // by 429 and 503
	failed  *Episode // by the other answers above 499
}

func newRoute(log *zap.Logger, pattern string, problem func(err error) *Problem, handle func(w http.ResponseWriter, r *http.Request) error) *route {
	log = log.With(zap.String("route", pattern))
	return &route{
		problem: problem, handle: handle,
		refused: NewEpisode(log, zap.WarnLevel, "requests refused", overAfter),
		failed:  NewEpisode(log, zap.ErrorLevel, "requests failed", overAfter),
	}
}

// ServeHTTP calls the handler, and answers with a problem if it returns an error.
func (o *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	err := o.attempt(w, r.WithContext(ctx))
	if err == nil {
		o.refused.Over()
		o.failed.Over()
		return
	}
	p := o.problemOf(err)
	if r.Context().Err() == nil { // otherwise the client has disconnected, which is not logged
		o.report(p, err)
	}
	p.Write(w)
}

// attempt calls the handler, and turns a panic into an error, so that it is answered and
// logged.
func (o *route) attempt(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		p := recover()
		if p == http.ErrAbortHandler { //nolint:errorlint // recover gives any value, and net/http compares it so
			panic(p)
		}
		if p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return o.handle(w, r)
}

func (o *route) problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if p := o.problem(err); p != nil {
		return p
	}
	if messaging.IsUnavailable(inbox.Verdict(err)) || errors.Is(err, puddle.ErrClosedPool) { // the pool is closed at the end of a stop
		return unavailable
	}
	return unexpected
}

// report logs an answer that is not the client's fault.
func (o *route) report(p *Problem, err error) {
	state := fmt.Sprintf("%d %s", p.Status, p.Detail)
	switch {
	case p.Status == http.StatusTooManyRequests, p.Status == http.StatusServiceUnavailable:
		o.refused.Seen(state, err)
	case p.Status >= http.StatusInternalServerError:
		o.failed.Seen(state, err)
	}
}

// WriteJSON answers with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has disconnected
}
