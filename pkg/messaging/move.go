package messaging

import "time"

const (
	// vacateTimeout is for how long a lane that wants to change its connection sends
	// nothing and waits until nothing is on its way. After vacateAgain it tries again.
	// After dialAgain it tries again when it could not get a connection of its own.
	vacateTimeout = 100 * time.Millisecond
	vacateAgain   = time.Second
	dialAgain     = 10 * time.Second
)

// A mover moves a lane that has much to send from the shared connection to one of its own.
// It does so when nothing is on its way: otherwise a later message could overtake an earlier
// one.
type mover struct {
	*session
	changed <-chan struct{}  // the state of the new connection has changed
	again   <-chan time.Time // the next attempt
	done    bool             // the session has ended
}

// look moves the lane if that is needed and possible now.
func (m *mover) look() {
	m.changed, m.again = nil, nil
	if m.own || m.answers != nil || !m.lane.needsOwn.Load() {
		return
	}
	own := m.ownLink(m.lane)
	ep, changed := own.epochs.get()
	switch {
	case ep == nil && own.failure() != nil:
		m.closeOwn(m.lane)
		m.again = time.After(dialAgain)
	case ep == nil:
		m.changed = changed
	case m.vacate():
		m.done = m.finish()
	default:
		m.again = time.After(vacateAgain)
	}
}

// vacate takes all places of the window, so that nothing is on its way any more. It fails
// when a confirm is late.
func (m *mover) vacate() bool {
	late := time.NewTimer(vacateTimeout)
	defer late.Stop()
	for taken := range cap(m.places) {
		if !m.takePlace(late) {
			for range taken {
				<-m.places
			}
			return false
		}
	}
	return true
}

// takePlace takes a free place, or that of the next message that is confirmed.
func (m *mover) takePlace(late *time.Timer) bool {
	select {
	case m.places <- struct{}{}:
		return true
	case c := <-m.inflight:
		select {
		case <-c.wire.Done():
			if m.settle(c) {
				return true // its place stays taken
			}
		case <-late.C:
		}
		m.inflight <- c
		return false
	case <-late.C:
		return false
	}
}
