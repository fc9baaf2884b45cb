package messaging

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxLanes is how many lanes a publisher or a caller may have at once.
const maxLanes = 64

// lanes has the lanes of one publisher or caller: one for each exchange, and on the default
// exchange one for each queue. A lane is made when it is needed. When there are too many,
// the idle one that was not used for the longest time is closed.
type lanes struct {
	limit int
	start func(*lane) // runs a new lane

	mu      sync.RWMutex
	all     map[Route]*lane
	closed  bool
	waiting atomic.Bool   // a message waits for a lane
	room    chan struct{} // closed when a lane may be free; nil while no message waits
}

func newLanes(limit int, start func(*lane)) *lanes {
	return &lanes{limit: limit, start: start, all: map[Route]*lane{}}
}

// laneOf gives the part of a route that identifies its lane. All answers by direct reply-to
// share one lane, although each has a routing key of its own: the broker neither refuses nor
// delays them.
func laneOf(route Route) Route {
	switch {
	case route.Exchange != "":
		return Route{Exchange: route.Exchange}
	case strings.HasPrefix(route.Key, directReplyTo):
		return Route{Key: directReplyTo}
	default:
		return route
	}
}

// take gives the lane of a route; the caller calls release when it does not need it any more.
// When there is no room for a new lane, take waits until one is idle or ctx is done.
func (ls *lanes) take(ctx context.Context, route Route, now time.Time) (*lane, error) {
	key := laneOf(route)
	for {
		ls.mu.RLock()
		l := ls.all[key]
		if l != nil {
			l.hold(now)
		}
		ls.mu.RUnlock()
		if l != nil {
			return l, nil
		}
		l, room, err := ls.add(key, now)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, ended(ctx, fmt.Sprintf("all %d lanes of the publisher have messages on their way", ls.limit))
		}
	}
}

// add gives the lane of a key, and makes it if there is room. Without room it gives a
// channel that is closed when there may be room.
func (ls *lanes) add(key Route, now time.Time) (*lane, <-chan struct{}, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, nil, ErrClosed
	}
	l := ls.all[key]
	if l == nil {
		ls.waiting.Store(true) // before makeRoom looks for an idle lane: see release
		if !ls.makeRoom() {
			if ls.room == nil {
				ls.room = make(chan struct{})
			}
			return nil, ls.room, nil
		}
		ls.waiting.Store(ls.room != nil)
		l = newLane(key)
		ls.all[key] = l
		ls.start(l)
	}
	l.hold(now)
	return l, nil, nil
}

// makeRoom closes the lane that has been idle for the longest time, if there are too many.
func (ls *lanes) makeRoom() bool {
	if len(ls.all) < ls.limit {
		return true
	}
	var oldest *lane
	for _, l := range ls.all {
		if l.users.Load() == 0 && (oldest == nil || l.used.Load() < oldest.used.Load()) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	delete(ls.all, oldest.key)
	oldest.end(ErrClosed)
	return true
}

// release says that a message does not need its lane any more.
func (ls *lanes) release(l *lane) {
	if l.users.Add(-1) > 0 || !ls.waiting.Load() {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.tellOfRoom()
}

func (ls *lanes) tellOfRoom() {
	ls.waiting.Store(false)
	if ls.room != nil {
		close(ls.room)
		ls.room = nil
	}
}

// remove removes a lane that has ended by itself.
func (ls *lanes) remove(l *lane) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.all[l.key] == l {
		delete(ls.all, l.key)
		ls.tellOfRoom()
	}
}

// close ends all lanes: each when none of its messages is on its way.
func (ls *lanes) close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	for _, l := range ls.all {
		l.end(ErrClosed)
	}
	ls.tellOfRoom()
}

// each calls f for every lane.
func (ls *lanes) each(f func(*lane)) {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	for _, l := range ls.all {
		f(l)
	}
}
