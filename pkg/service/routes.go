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

// requestTimeout is how long a request may work. When a database or the broker is
// slow, a caller is told so, instead of waiting for as long as it takes.
const requestTimeout = 5 * time.Second

var (
	away       = NewProblem(http.StatusServiceUnavailable, "what this needs is away, try again later").After(time.Second)
	unexpected = NewProblem(http.StatusInternalServerError, "this should not have happened, and has been logged")
)

// Routes makes a mux of handlers that may fail. A request's context ends after 5 s.
//
// An error that is a *[Problem] is the answer. problem is the one place where a service's
// other errors become HTTP, and gives nil for those that it does not know: the database
// being away is 503 with Retry-After, anything else, and a panic, is 500. What is refused
// because of us (429 and above 499) is logged as an [Episode], for each route and answer.
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
		refused: NewEpisode(log, zap.WarnLevel, "requests refused", calm),
		failed:  NewEpisode(log, zap.ErrorLevel, "requests failed", calm),
	}
}

// ServeHTTP calls the handler and answers for what it returns.
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
	if r.Context().Err() == nil { // else the caller is gone, and that is no news
		o.tell(p, err)
	}
	p.Write(w)
}

// attempt turns a panic into an error: the caller gets an answer, and the log a line.
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
	if messaging.IsUnavailable(inbox.Verdict(err)) || errors.Is(err, puddle.ErrClosedPool) { // or we are at the end of a stop
		return away
	}
	return unexpected
}

// tell logs an answer that is our fault.
func (o *route) tell(p *Problem, err error) {
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
	_ = json.NewEncoder(w).Encode(body) // a caller that is gone cannot be told
}
