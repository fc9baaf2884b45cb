package messaging

import (
	"regexp"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	// maxReasons is how many reasons of one trouble are logged.
	maxReasons = 5
	// remindAfter is how long nothing is logged of what goes on and on.
	remindAfter = 10 * time.Minute
)

// localPort is different for each connection to one address, which is one reason.
var localPort = regexp.MustCompile(`:\d+->`)

// trouble logs what fails again and again: once for each of the first few reasons, again
// when it still goes on after a while, and how often it was when it is over. What comes
// and goes is one trouble.
type trouble struct {
	log    *zap.Logger
	fails  string // what the log says then
	works  string // and when it is over
	seen   []string
	times  int // since it was over
	since  time.Time
	logged time.Time
	open   bool // it was logged, and is not over since
}

func (t *trouble) note(err error) {
	now, text := time.Now(), localPort.ReplaceAllString(err.Error(), "->")
	if t.times == 0 {
		t.since = now
	}
	t.times++
	if now.Sub(t.logged) > remindAfter {
		t.seen = nil
	}
	if len(t.seen) == maxReasons || slices.Contains(t.seen, text) {
		return
	}
	t.seen = append(t.seen, text)
	t.logged, t.open = now, true
	t.log.Warn(t.fails, zap.Error(err), zap.Int("failures", t.times))
}

func (t *trouble) over() {
	if t.open {
		t.log.Info(t.works, zap.Int("failures", t.times), zap.Duration("after", time.Since(t.since)))
		t.open, t.times = false, 0
	}
}
