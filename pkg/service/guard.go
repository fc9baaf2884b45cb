package service

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

var (
	wrongHost   = NewProblem(http.StatusMisdirectedRequest, "this is not the host of the request, see ALLOWED_HOSTS")
	wrongOrigin = NewProblem(http.StatusForbidden, "a page of another origin may not do this")
	notStarted  = NewProblem(http.StatusServiceUnavailable, "the service is starting").After(time.Second)
)

// answer is what every request to the public port goes through.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || s.ready.isStopping() {
		// net/http hides whether a Content-Length said otherwise. If so, what follows
		// may be a part of this body to whoever stands before us (RFC 9112, 6.1).
		// And a caller of a process that stops needs another connection.
		w.Header().Set("Connection", "close")
	}
	routes := s.routes.Load()
	switch {
	case r.URL.Path == "/healthz" || r.URL.Path == "/readyz": // by whatever name a container is asked
		answerFrom(s.probes, w, r)
	case !s.hosts.allows(r.Host):
		wrongHost.Write(w)
	case s.origin.Check(r) != nil:
		wrongOrigin.Write(w)
	case routes == nil:
		notStarted.Write(w)
	default:
		answerFrom(routes, w, r)
	}
}

// answerFrom answers with a problem where no route is, instead of with the mux's text:
// 405 with Allow for another method, else 404.
func answerFrom(routes *http.ServeMux, w http.ResponseWriter, r *http.Request) {
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
}

// statusOnly lets headers through, and keeps the rest back.
type statusOnly struct {
	http.ResponseWriter
	status int
}

func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// hostList is the names under which a service may be asked. A page that makes its own
// name lead here (DNS rebinding) is the same origin to its browser, but its name is
// not in the list.
type hostList struct {
	any   bool
	names map[string]bool
}

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*)$`)

// newHostList takes the service's own name, and what ALLOWED_HOSTS has.
func newHostList(own string, allowed []string) (hostList, error) {
	list := hostList{names: map[string]bool{"localhost": true, own: true}}
	for _, name := range allowed {
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "*":
			list.any = true
		case hostName.MatchString(name):
			list.names[name] = true
		default:
			return list, fmt.Errorf("ALLOWED_HOSTS: %q is no host name: no scheme, port or path, please", name)
		}
	}
	return list, nil
}

// allows says whether a Host header names this service: by a name of the list, or by an
// address of loopback.
func (l hostList) allows(host string) bool {
	name := hostOnly(host)
	if l.any || l.names[name] {
		return true
	}
	address, err := netip.ParseAddr(name)
	return err == nil && address.IsLoopback()
}

// isAddress says whether a Host header is an IP address. It cannot be rebound.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(hostOnly(host))
	return err == nil
}

// hostOnly is a Host header without port, brackets and the dot at its end, in small letters.
func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
