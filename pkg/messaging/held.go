package messaging

import (
	"sync"
	"time"
)

// held has the messages that a subscription holds until it is known whether something is
// away: see away.go.
type held struct {
	mu      sync.Mutex
	jobs    []heldJob
	failing []job     // were held, and have failed alone
	probe   int       // how many messages the probe tries, one after the other; 0 when this is no probe
	began   time.Time // when the subscription began
	busy    bool      // the probe is handling a message
	ended   int       // how many messages of the probe are held or settled
	timer   *time.Timer
}

type heldJob struct {
	job
	failed time.Time
}

// watch notes that the subscription begins.
func (s *subscription) watch() {
	b := &s.held
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = time.Now()
	b.timer = time.AfterFunc(holdTime, s.holdTimeOver)
	if b.probe == 0 {
		b.timer.Stop()
	}
}

// begin notes that a message is being handled.
func (b *held) begin() {
	if b.probe > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.busy = true
	}
}

// next gives a message that was held and has failed alone: it is to be settled.
func (s *subscription) next() (j job, ok bool) {
	if !s.away.active.Load() {
		return j, false
	}
	b := &s.held
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.failing) == 0 {
		return j, false
	}
	j = b.failing[0]
	j.out.away = false
	b.failing = b.failing[1:]
	return j, true
}

// hold keeps a message whose handler says that something is away. It returns false when the
// message has failed alone.
func (s *subscription) hold(j *job) bool {
	if isDone(s.ended) || s.away.failedAlone(j) {
		return false
	}
	b := &s.held
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs = append(b.jobs, heldJob{*j, time.Now()})
	*j = job{}
	b.busy = false
	b.ended++
	b.timer.Reset(holdTime)
	if b.probe == 0 && len(b.jobs) >= min(2, s.prefetch) || s.probeOver() {
		s.endHolding()
	}
	return true
}

// probeOver says whether a probe has tried all its messages, or takes too long.
func (s *subscription) probeOver() bool {
	limit := maxProbeTime
	if s.queue.ConsumerTimeout > 0 {
		limit = min(limit, s.queue.ConsumerTimeout/2)
	}
	return s.held.probe > 0 && (s.held.ended >= s.held.probe || time.Since(s.held.began) > limit)
}

// settled looks at the held messages again after another message has ended. One that began
// after they had failed, and succeeded, shows that they have failed alone.
func (s *subscription) settled(j *job) {
	if !s.away.active.Load() || s.config.autoAck {
		return
	}
	succeeded := !j.out.failed
	if succeeded {
		s.away.succeeded(j)
	}
	if s.keepsOrder {
		if j.out.away {
			return // something is away, and the message goes back because the subscription ends
		}
		s.away.up(succeeded)
		s.away.tell()
		return
	}
	b := &s.held
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	b.ended++
	switch {
	case b.probe > 0 && succeeded:
		s.away.up(true)
		s.leave(errBack)
	case s.probeOver():
		s.endHolding()
	case b.probe == 0 && succeeded:
		s.away.up(true)
		b.failAlone(j.tried)
	}
}

// failAlone moves the messages that failed before a time from jobs to failing.
func (b *held) failAlone(before time.Time) {
	kept := b.jobs[:0]
	for _, h := range b.jobs {
		if h.failed.Before(before) {
			b.failing = append(b.failing, h.job)
		} else {
			kept = append(kept, h)
		}
	}
	b.jobs = kept
}

// holdTimeOver ends the holding when no message has ended for holdTime.
func (s *subscription) holdTimeOver() {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	if !s.held.busy {
		s.endHolding()
	}
}

// endHolding ends the subscription: to pause, or after a probe to go on at full speed.
func (s *subscription) endHolding() {
	b := &s.held
	switch {
	case isDone(s.stop):
	case len(b.jobs) > 0:
		last := b.jobs[len(b.jobs)-1].job
		for _, h := range b.jobs {
			last.out.pause = max(last.out.pause, h.out.pause)
		}
		s.away.down(&last)
		s.leave(errAway)
	case b.probe > 0: // no message came, or none that came was Unavailable
		s.away.up(false)
		s.leave(errBack)
	}
}

// release gives the held messages, at the end of the subscription.
func (s *subscription) release() (jobs []job) {
	b := &s.held
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer.Stop()
	jobs = b.failing
	for _, h := range b.jobs {
		jobs = append(jobs, h.job)
	}
	b.jobs, b.failing = nil, nil
	return jobs
}
