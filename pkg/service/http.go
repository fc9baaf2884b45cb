package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says what a process waits for before it is ready; nil means nothing.
type Check struct {
	Name string
	Func func(ctx context.Context) error
}

// Server is the process's HTTP server: its own routes, and
//
//	GET /healthz  200 while the process is not stuck
//	GET /readyz   200 when every check passes, else 503 with what is missing
//	GET /metrics  the process's own registry
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen opens the port, so that a bad address is an error and not a log line.
// Nothing is answered before [Server.Serve].
func Listen(addr string, routes *http.ServeMux, registry *prometheus.Registry, checks ...Check) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("HTTP_ADDR: %w", err)
	}
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answerReady(w, r, checks) })
	routes.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &Server{
		listener: listener,
		http: &http.Server{
			Handler:           guard(routes),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      45 * time.Second,
			IdleTimeout:       60 * time.Second,
			MaxHeaderBytes:    16 << 10,
		},
	}, nil
}

// guard answers with a problem where no route is, instead of with the mux's text:
// 405 with Allow for another method, else 404.
func guard(routes *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			// net/http hides whether a Content-Length said otherwise. If so, what follows
			// may be a part of this body to whoever stands before us (RFC 9112, 6.1).
			w.Header().Set("Connection", "close")
		}
		refuse, pattern := routes.Handler(r)
		if pattern != "" {
			routes.ServeHTTP(w, r)
			return
		}
		said := &statusOnly{ResponseWriter: w}
		refuse.ServeHTTP(said, r)
		if said.status == http.StatusMethodNotAllowed {
			NewProblem(said.status, "this path has other methods").Write(w)
			return
		}
		w.Header().Del("Location") // of a path that is not there either
		NewProblem(http.StatusNotFound, "there is no such path").Write(w)
	})
}

// statusOnly lets headers through, and keeps the rest back.
type statusOnly struct {
	http.ResponseWriter
	status int
}

func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers until Shutdown, and then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// Shutdown lets running requests finish until ctx is done, and closes the port.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop HTTP: %w", err), s.http.Close())
	}
	return s.closeListener()
}

// closeListener closes a port that was never served; else it is closed already.
func (s *Server) closeListener() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the port: %w", err)
	}
	return nil
}

func answerReady(w http.ResponseWriter, r *http.Request, checks []Check) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	missing := map[string]string{}
	for _, c := range checks {
		if err := c.Func(ctx); err != nil {
			missing[c.Name] = err.Error()
		}
	}
	status := http.StatusOK
	if len(missing) > 0 {
		status = http.StatusServiceUnavailable
	}
	WriteJSON(w, status, map[string]any{"ready": len(missing) == 0, "missing": missing})
}

// requestTimeout is how long a request may work. When a database or the broker is
// slow, a caller is told so, instead of waiting for as long as it takes.
const requestTimeout = 5 * time.Second

// Routes makes a mux of handlers that may fail. problem is the one place where a
// service's errors become HTTP. A request's context ends after 5 s.
func Routes(problem func(err error) *Problem, handlers map[string]func(w http.ResponseWriter, r *http.Request) error) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, handle := range handlers {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
			defer cancel()
			if err := handle(w, r.WithContext(ctx)); err != nil {
				problem(err).Write(w)
			}
		})
	}
	return mux
}

// WriteJSON answers with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that is gone cannot be told
}
