package messaging

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// When something that a handler needs is away, its error is [Unavailable]. The message is
// held, which means not settled, until other messages show whether it has failed alone:
//
//	              Unavailable: held                  another one is Unavailable too,
//	working ─────────────────────────────▶ holding ── nothing else comes, or for 1 s ─▶ pausing
//	 ▲   ▲                                    │        no success                       │   ▲
//	 │   └── a message that began later ◀─────┘                                         │   │
//	 │       succeeds: the held one alone                     1 s, doubling to 30 s:    │   │
//	 │       has failed, that is an attempt                   all were given back,      │   │
//	 │                                                        which is no attempt       ▼   │
//	 └────────── the first success, or nothing is Unavailable ◀──────────────────── probing │
//	             what is held goes back and is remembered                               │   │
//	                                                                                    └───┘
//	                     1, 2, 4, ... 32 messages, one after the other, all Unavailable
//
// When a remembered message is Unavailable again, although a message that began in between
// has succeeded, it has failed alone, which is an attempt. So an outage costs no attempts,
// however long it lasts, and a message that can never be handled is parked at its limit
// while others go on.
//
// On a queue that keeps order this is not possible: the consumer keeps its one message,
// waits in place with the same pauses and tries again.
const (
	// holdTime is how long a held message waits for others to be handled.
	holdTime = time.Second
	// firstPause doubles with each probe that fails, to lastPause.
	firstPause = time.Second
	lastPause  = 30 * time.Second
	// maxAskedPause is the longest pause that UnavailableFor may ask for.
	maxAskedPause = 5 * time.Minute
	// maxProbe is how many messages a probe tries at most. It is more than one, because
	// those at the head of the queue may be messages that can never be handled.
	maxProbe = 32
	// maxProbeTime is for how long a probe takes new messages. It is much shorter than the
	// broker's default consumer timeout of 30 min, which holds for the messages it holds.
	maxProbeTime = 10 * time.Minute
	// maxRemembered is how many messages that were given back are remembered.
	maxRemembered = 1000
)

// errAway ends a subscription because what its handlers need is away. errBack ends a probe
// because it is back.
var (
	errAway = errors.New("what the handlers need is away")
	errBack = errors.New("what the handlers need is back")
)

// away is what a Consumer knows, over all its subscriptions, about what its handlers need.
type away struct {
	queue string
	log   *zap.Logger
	to    *observers

	active atomic.Bool // false while nothing was Unavailable: then messages need no lock

	mu         sync.Mutex
	err        error // what is away; nil when nothing is
	since      time.Time
	pauses     int
	level      time.Duration        // the upper bound of the last pause
	pause      time.Duration        // the next pause
	probe      int                  // how many messages the next probe tries
	lastGood   time.Time            // when the latest call began that succeeded
	remembered map[string]time.Time // when messages were Unavailable last, by identity

	telling sync.Mutex // held while observers are called
	told    bool       // they know that something is away
}

func newAway(queue string, log *zap.Logger, to *observers) *away {
	return &away{queue: queue, log: log, to: to, remembered: map[string]time.Time{}}
}

// state is nil, or says what is away.
func (a *away) state() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		return nil
	}
	return fmt.Errorf("queue %q: away: %w", a.queue, a.err)
}

// down notes that something is away, and says how long to pause.
func (a *away) down(j *job) time.Duration {
	a.active.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.since, a.pauses = time.Now(), 0
		a.log.Warn("what the handlers need is away, pausing", zap.String("message_id", j.delivery.ID),
			zap.String("correlation_id", j.delivery.CorrelationID), zap.String("error", j.out.text))
	}
	a.err = errors.New(j.out.text)
	a.pauses++
	a.level = min(max(2*a.level, firstPause), lastPause)
	a.pause = max(a.level/2+rand.N(a.level/2+1), min(j.out.pause, maxAskedPause))
	a.probe = min(max(2*a.probe, 1), maxProbe)
	return a.pause
}

// up notes that nothing seems to be away any more. Only if a message was handled, the next
// pause is a short one again.
func (a *away) up(handled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if handled {
		a.level, a.probe = 0, 0
	}
	if a.err == nil {
		return
	}
	a.log.Warn("what the handlers need is back", zap.Error(a.err), zap.Int("pauses", a.pauses), zap.Duration("after", time.Since(a.since)))
	a.err = nil
}

// tell calls the observers if the state has changed since the last call.
func (a *away) tell() {
	a.telling.Lock()
	defer a.telling.Unlock()
	a.mu.Lock()
	err := a.err
	a.mu.Unlock()
	if (err != nil) != a.told {
		a.told = err != nil
		a.to.isAway(AwayEvent{Queue: a.queue, Err: err})
	}
}

// end tells observers that nothing is away, because the consumer has stopped.
func (a *away) end() {
	a.mu.Lock()
	a.err = nil
	a.mu.Unlock()
	a.tell()
}

// size is how many messages the next probe tries; 0 when nothing is away.
func (a *away) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		return 0
	}
	return a.probe
}

// sleep pauses. It returns false when ctx ended first.
func (a *away) sleep(ctx context.Context) bool {
	a.mu.Lock()
	timer := time.NewTimer(a.pause)
	a.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// succeeded notes a message that was handled.
func (a *away) succeeded(j *job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j.tried.After(a.lastGood) {
		a.lastGood = j.tried
	}
	delete(a.remembered, identity(j))
	a.active.Store(a.err != nil || a.level > 0 || len(a.remembered) > 0)
}

// failedAlone says whether a message that is Unavailable was so before, and another one that
// began since then has succeeded. It remembers the message.
func (a *away) failedAlone(j *job) bool {
	a.active.Store(true)
	a.mu.Lock()
	defer a.mu.Unlock()
	id := identity(j)
	before, known := a.remembered[id]
	if !known && len(a.remembered) >= maxRemembered {
		for other := range a.remembered { // any
			delete(a.remembered, other)
			break
		}
	}
	a.remembered[id] = time.Now()
	return known && a.lastGood.After(before)
}

var seed = maphash.MakeSeed()

// identity is the message's id, or a hash of the body if it has none.
func identity(j *job) string {
	if j.raw.MessageId != "" {
		return j.raw.MessageId
	}
	return fmt.Sprint("#", maphash.Bytes(seed, j.raw.Body))
}
