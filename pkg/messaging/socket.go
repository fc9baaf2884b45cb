package messaging

import (
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxBacklog is how many bytes may wait for the socket before publishers wait
	// too. It bounds when they wait, not what they bring: those that see room at the
	// same time add a message each, whole and of any size.
	maxBacklog = 256 << 10
	// chunk is how many bytes are written at once, each time with a new deadline: a
	// slow network has time for any backlog as long as it takes some of it.
	chunk = 256 << 10
	// maxSpare is the largest buffer that is kept for the next round.
	maxSpare = 1 << 20
)

// A socket is the TCP connection to the broker with a buffer before it. The client
// library flushes after every message and holds its locks meanwhile; here that
// only fills the buffer, and one goroutine writes what has piled up with one
// system call. So a Write never blocks, and many small messages cost few writes.
//
// An error of the goroutine closes the connection; later writes report it.
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
	drained chan struct{} // for those who wait for room; nil while nobody does
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

// Write buffers. It takes everything, so that nobody who holds a lock waits here;
// publishers wait for room before they begin.
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

// full gives a channel to wait on while there is no room, else nil.
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

// take empties the buffer, and leaves spare for what comes next.
func (s *socket) take(spare []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.pending
	s.pending = spare[:0]
	s.release()
	return batch
}

// release lets those go on who wait for room.
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

// fail ends the connection, which its reader notices.
func (s *socket) fail(err error) {
	s.mu.Lock()
	s.err, s.pending = err, nil
	s.release()
	s.mu.Unlock()
	_ = s.Conn.Close()
}

// Close closes the connection at once; what is buffered is lost. The library
// closes after the broker has answered connection.close, behind everything else.
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
