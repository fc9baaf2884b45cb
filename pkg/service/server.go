package service

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Server has the two HTTP ports of a process. The public one has the service's routes, and
//
//	GET /healthz  200 while the process can answer
//	GET /readyz   200 when every check passes, else 503, without reasons
//
// The admin port is for the people who operate the system, and must not be reachable for
// others:
//
//	GET /metrics        the metrics of the process
//	GET /readyz         the same status, and the reasons
//	GET /debug/pprof/   profiles of net/http/pprof
//
// A new Server is not ready. It answers requests to routes with 503 until [Server.Start].
type Server struct {
	config HTTPConfig
	log    *zap.Logger
	public *port
	admin  *port // nil without an address
	hosts  hostList
	origin *http.CrossOriginProtection
	probes *http.ServeMux
	routes atomic.Pointer[http.ServeMux]
	ready  *readiness
}

// port is an open port and its HTTP server.
type port struct {
	listener net.Listener
	http     *http.Server
}

// NewServer opens the ports, so a wrong address is an error here. Requests are answered from
// [Server.Serve] on. name is a host name that requests to the public port may use, besides
// those in c.
func NewServer(ctx context.Context, name string, c HTTPConfig, log *zap.Logger, registry *prometheus.Registry) (*Server, error) {
	hosts, err := newHostList(name, c.AllowedHosts)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, log: log, hosts: hosts, origin: http.NewCrossOriginProtection(), probes: http.NewServeMux(), ready: newReadiness()}
	s.probes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.probes.HandleFunc("GET /readyz", s.answerReady)
	registry.MustRegister(s.ready)
	if s.public, err = open(ctx, c.Addr, http.HandlerFunc(s.answer), log); err != nil {
		return nil, fmt.Errorf("HTTP_ADDR: %w", err)
	}
	if c.AdminAddr == "" {
		return s, nil
	}
	if s.admin, err = open(ctx, c.AdminAddr, s.adminRoutes(registry), log); err != nil {
		return nil, errors.Join(fmt.Errorf("ADMIN_ADDR: %w", err), s.public.close())
	}
	s.admin.http.WriteTimeout = 2 * time.Minute // a profile can take as long as its request says
	return s, nil
}

func open(ctx context.Context, addr string, handler http.Handler, log *zap.Logger) (*port, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &port{listener, &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      45 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          serverLog(log),
	}}, nil
}

// Start begins to answer the routes. The Server is ready from now on when every check passes.
func (s *Server) Start(routes *http.ServeMux, checks ...Check) {
	s.ready.start(checks)
	s.routes.Store(routes)
}

// Addr is the address of the public port.
func (s *Server) Addr() string { return s.public.listener.Addr().String() }

// AdminAddr is the address of the admin port; empty if there is none.
func (s *Server) AdminAddr() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.listener.Addr().String()
}

// Serve answers requests until both ports are closed, and then returns nil. If one of them
// fails, it closes the other one and returns the error.
func (s *Server) Serve() error {
	if s.admin == nil {
		return s.public.serve()
	}
	admin := make(chan error, 1)
	go func() {
		err := s.admin.serve()
		if err != nil {
			_ = s.public.http.Close()
		}
		admin <- err
	}()
	err := s.public.serve()
	if err != nil {
		_ = s.admin.http.Close()
	}
	return errors.Join(err, <-admin)
}

func (p *port) serve() error {
	if err := p.http.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// Drain closes the public port. First it reports that the process is not ready, and still
// takes requests for the configured DrainDelay, so that load balancers can notice. Then it
// closes the port and waits for the running requests, until ctx is done: then it closes their
// connections. A Server that was not started does not wait for the delay.
func (s *Server) Drain(ctx context.Context) error {
	if s.ready.stop() && s.config.DrainDelay > 0 {
		timer := time.NewTimer(s.config.DrainDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return s.public.shutdown(ctx)
}

// Close closes the admin port. Call it after [Server.Drain].
func (s *Server) Close(ctx context.Context) error {
	if s.admin == nil {
		return nil
	}
	return s.admin.shutdown(ctx)
}

func (p *port) shutdown(ctx context.Context) error {
	if err := p.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop HTTP: %w", err), p.http.Close())
	}
	return p.close()
}

// close closes a port that was never served; one that was served is closed already.
func (p *port) close() error {
	if err := p.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the port: %w", err)
	}
	return nil
}

// adminRoutes answers requests whose Host is an IP address, as those of Prometheus, or a name
// that is allowed on the public port too.
func (s *Server) adminRoutes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", s.explainReady)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.hosts.allows(r.Host) && !isAddress(r.Host) {
			wrongHost.Write(w)
			return
		}
		answerFrom(mux, w, r)
	})
}

// serverLog logs what net/http reports, as an [Episode], since clients can cause it often.
func serverLog(log *zap.Logger) *stdlog.Logger {
	return stdlog.New(reports{NewEpisode(log, zap.WarnLevel, "HTTP server", overAfter)}, "", 0)
}

// reports is an io.Writer that adds what is written to an Episode.
type reports struct{ *Episode }

func (r reports) Write(b []byte) (int, error) {
	r.Seen("reports", errors.New(strings.TrimSpace(string(b))))
	return len(b), nil
}
