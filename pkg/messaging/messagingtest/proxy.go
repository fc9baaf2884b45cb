package messagingtest

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy between clients and the broker that can simulate network failures.
type Proxy struct {
	// URL is the URL of the broker through the proxy.
	URL string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	cut     bool
	left    bool
	stalled chan struct{} // not nil while stalled; closed to go on
	latency time.Duration
	conns   map[net.Conn]bool // true for those to a client
}

// NewProxy starts a proxy for the broker. It is closed at the end of the test.
func NewProxy(t testing.TB, b *BrokerInfo) *Proxy {
	t.Helper()
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u.Host, listener: l, conns: map[net.Conn]bool{}}
	u.Host = l.Addr().String()
	p.URL = u.String()
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Resume()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Cut closes all connections and refuses new ones, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore accepts new connections again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Leave closes the connections to the clients, now and later, and keeps those to the
// broker, as when a client's host loses power: the broker has not noticed.
func (p *Proxy) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
	for c, toClient := range p.conns {
		if toClient {
			_ = c.Close()
		}
	}
}

// Retarget sends later connections to another broker, as a load balancer does.
func (p *Proxy) Retarget(b *BrokerInfo) {
	u, _ := url.Parse(b.URL) // the proxy of a broker has parsed its like
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = u.Host
}

// Stall keeps connections open and passes on no data, until Resume.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled == nil {
		p.stalled = make(chan struct{})
	}
}

// Resume ends a Stall.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// Latency delays all data in each direction.
func (p *Proxy) Latency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// Connections is how many clients are connected.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2 // each has its other half to the broker
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil || !p.register(client, server) {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		p.wg.Go(func() { p.pipe(client, server) })
		p.wg.Go(func() { p.pipe(server, client) })
	}
}

func (p *Proxy) register(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.left {
		return false
	}
	p.conns[client], p.conns[server] = true, false
	return true
}

func (p *Proxy) pipe(to, from net.Conn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range []net.Conn{to, from} {
			if toClient := p.conns[c]; p.left && !toClient {
				continue // until Cut
			}
			_ = c.Close()
			delete(p.conns, c)
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.wait()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) wait() {
	p.mu.Lock()
	stalled, latency := p.stalled, p.latency
	p.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	if latency > 0 {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		<-timer.C
	}
}
