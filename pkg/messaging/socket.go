package messaging

import (
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxBacklog is how many bytes may wait in the buffer before publishers wait too. The
	// buffer may become larger: publishers that see room at the same time add one message
	// each, of any size.
	maxBacklog = 256 << 10
	// chunk is how many bytes are written at once. Each write has a new deadline, so a slow
	// network may take any time for the whole buffer as long as it makes progress.
	chunk = 256 << 10
	// maxSpare is the size of the largest buffer that is kept for reuse.
	maxSpare = 1 << 20
)

// A socket is the TCP connection to the broker with a write buffer. The client library flushes
// after every message and holds its locks meanwhile. Here a flush only fills the buffer, and
// one goroutine writes all that is in it with one system call. So a Write never blocks, and
// many small messages need few system calls.
//
// An error of the goroutine closes the connection; later writes return it.
type socket struct {
	net.Conn
	timeout time.Duration

	wake    chan struct{} // there is something to write
	closing chan struct{}
	once    sync.Once
	done    chan struct{}

	mu      sync.Mutex
	pending []byte
	err     error
	drained chan struct{} // closed when there is room; nil while nothing waits for that
}

func newSocket(conn net.Conn, timeout time.Duration) *socket {
	s := &socket{
		Conn:    conn,
		timeout: timeout,
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	go s.run()
	return s
}

// Write puts b into the buffer. It never waits for room, because its caller holds locks of the
// library; publishers wait for room before they call the library.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if len(s.pending) == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.pending = append(s.pending, b...)
	return len(b), nil
}

// full gives a channel that is closed when there is room, or nil if there is room now.
func (s *socket) full() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) < maxBacklog || s.err != nil {
		return nil
	}
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	return s.drained
}

// take takes the contents of the buffer. spare becomes the new, empty buffer.
func (s *socket) take(spare []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.pending
	s.pending = spare[:0]
	s.release()
	return batch
}

// release wakes the publishers that wait for room.
func (s *socket) release() {
	if s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// run writes until the connection is closed.
func (s *socket) run() {
	defer close(s.done)
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.closing:
			return
		}
		batch := s.take(spare)
		if err := s.write(batch); err != nil {
			s.fail(err)
			return
		}
		if spare = batch; cap(spare) > maxSpare {
			spare = nil
		}
	}
}

func (s *socket) write(batch []byte) error {
	for part := range slices.Chunk(batch, chunk) {
		if err := s.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		if _, err := s.Conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// fail closes the connection; the library's reader notices that.
func (s *socket) fail(err error) {
	s.mu.Lock()
	s.err, s.pending = err, nil
	s.release()
	s.mu.Unlock()
	_ = s.Conn.Close()
}

// Close closes the connection at once; what is in the buffer is lost. The library calls it
// after the broker has answered connection.close, which was sent after everything else.
func (s *socket) Close() error {
	s.once.Do(func() { close(s.closing) })
	err := s.Conn.Close()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.release()
	return err
}
