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
	wrongHost   = NewProblem(http.StatusMisdirectedRequest, "the Host header does not name this service, see ALLOWED_HOSTS")
	wrongOrigin = NewProblem(http.StatusForbidden, "a web page of another origin may not send this request")
	notStarted  = NewProblem(http.StatusServiceUnavailable, "the service is starting").After(time.Second)
)

// answer handles every request to the public port.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || s.ready.isStopping() {
		// net/http does not show whether a chunked request had a Content-Length too. If it
		// had, a gateway may take the next bytes for a part of this body (RFC 9112, 6.1).
		// And a client of a process that stops needs another connection.
		w.Header().Set("Connection", "close")
	}
	routes := s.routes.Load()
	switch {
	case r.URL.Path == "/healthz" || r.URL.Path == "/readyz": // under every host name
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

// answerFrom calls the route. If there is none it answers with a problem document, not with
// the text of the mux: 405 with Allow if the path has other methods, else 404.
func answerFrom(routes *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	refuse, pattern := routes.Handler(r)
	if pattern != "" {
		routes.ServeHTTP(w, r)
		return
	}
	answered := &statusOnly{ResponseWriter: w}
	refuse.ServeHTTP(answered, r)
	if answered.status == http.StatusMethodNotAllowed {
		NewProblem(answered.status, "this path does not support the method").Write(w)
		return
	}
	w.Header().Del("Location") // the mux redirects to a path that does not exist either
	NewProblem(http.StatusNotFound, "there is no such path").Write(w)
}

// statusOnly passes on the headers, stores the status, and drops the body.
type statusOnly struct {
	http.ResponseWriter
	status int
}

func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// hostList has the host names that requests may use. For a browser, a page whose own name
// resolves to this machine (DNS rebinding) has the same origin as the service, but its name
// is not in the list.
type hostList struct {
	any   bool
	names map[string]bool
}

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*)$`)

// newHostList makes the list of the service's own name and ALLOWED_HOSTS.
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
			return list, fmt.Errorf("ALLOWED_HOSTS: %q is not a host name: give it without scheme, port and path", name)
		}
	}
	return list, nil
}

// allows says whether a Host header is a name of the list or a loopback address.
func (l hostList) allows(host string) bool {
	name := hostOnly(host)
	if l.any || l.names[name] {
		return true
	}
	address, err := netip.ParseAddr(name)
	return err == nil && address.IsLoopback()
}

// isAddress says whether a Host header is an IP address. DNS rebinding needs a name.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(hostOnly(host))
	return err == nil
}

// hostOnly returns a Host header in lower case, without port, brackets and a dot at its end.
func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
