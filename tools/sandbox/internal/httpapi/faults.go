package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
)

// maxBody is how much of a body is kept during a delay. The handler refuses longer bodies.
const maxBody = 65 << 10

func (a *api) listFaults(w http.ResponseWriter, _ *http.Request) error {
	service.WriteJSON(w, http.StatusOK, map[string]any{"faults": a.faults.List()})
	return nil
}

// setFault answers PUT /v1/faults/{name}.
func (a *api) setFault(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Value      string `json:"value"`
		RetryAfter string `json:"retry_after"`
	}
	if err := service.DecodeJSON(w, r, &in); err != nil {
		return err
	}
	f := fault.Fault{Name: r.PathValue("name"), Value: in.Value, RetryAfter: in.RetryAfter}
	if err := a.faults.Set(f); err != nil {
		return faultProblem(err)
	}
	a.log.Info("fault set", zap.String("name", f.Name), zap.String("value", f.Value))
	service.WriteJSON(w, http.StatusOK, f)
	return nil
}

// clearFault answers DELETE /v1/faults/{name}.
func (a *api) clearFault(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := a.faults.Clear(name); err != nil {
		return faultProblem(err)
	}
	a.log.Info("fault cleared", zap.String("name", name))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// clearFaults answers DELETE /v1/faults.
func (a *api) clearFaults(w http.ResponseWriter, _ *http.Request) error {
	a.faults.ClearAll()
	a.log.Info("all faults cleared")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func faultProblem(err error) error {
	var invalid *fault.InvalidError
	switch {
	case errors.Is(err, fault.ErrUnknown):
		return service.NewProblem(http.StatusNotFound, "there is no such fault; there are: "+strings.Join(fault.Names(), ", "))
	case errors.As(err, &invalid):
		return service.NewProblem(http.StatusUnprocessableEntity, "the fault cannot be set",
			service.FieldError{Field: invalid.Field, Detail: invalid.Detail})
	default:
		return err
	}
}

// faulty applies the faults of a system, and calls handle if none of them answers. The request
// has moveTimeout, and not 5 s as others.
func (a *api) faulty(system string, handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		// Read the body first: after a long delay, the server's read timeout is over.
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		state := a.faults.Of(system)
		ctx, cancel := detached(r)
		defer cancel()
		delay(ctx, state.Slow)
		if state.AcceptBroken {
			w = &cutOff{ResponseWriter: w}
		}
		switch {
		case state.Down:
			panic(http.ErrAbortHandler) // closes the connection, and logs nothing
		case state.Refuse != 0:
			refused(w, state)
			return nil
		default:
			return handle(w, r.WithContext(ctx))
		}
	}
}

func refused(w http.ResponseWriter, state fault.State) {
	if state.RetryAfter != "" {
		w.Header().Set("Retry-After", state.RetryAfter)
	}
	if state.Refuse < 400 { // a redirect, to a page that answers 200
		w.Header().Set("Location", "/healthz")
	}
	p := service.NewProblem(state.Refuse, "refused on purpose")
	p.Code = "fault"
	p.Write(w)
}

// delay waits for d, or until ctx is done.
func delay(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// cutOff sends only half of a successful answer.
type cutOff struct {
	http.ResponseWriter
	status int
}

func (c *cutOff) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *cutOff) Write(b []byte) (int, error) {
	if c.status >= 300 {
		return c.ResponseWriter.Write(b)
	}
	_, err := c.ResponseWriter.Write(b[:len(b)/2])
	return len(b), err
}
