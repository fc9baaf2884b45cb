package messaging

import (
	"regexp"
	"slices"
	"time"

	"go.uber.org/zap"
)

const (
	// maxReasons is how many different reasons are logged.
	maxReasons = 5
	// remindAfter is how long a failure goes on without another log line.
	remindAfter = 10 * time.Minute
)

// localPort is removed from reasons: it differs for each connection, although the reason is
// the same.
var localPort = regexp.MustCompile(`:\d+->`)

// trouble logs repeated failures of one thing: one line for each of the first few reasons, one
// more after remindAfter, and one with their number when it works again.
type trouble struct {
	log    *zap.Logger
	fails  string // the message of the log line for a failure
	works  string // and when it works again
	seen   []string
	times  int // failures since it worked
	since  time.Time
	logged time.Time
	open   bool // a failure was logged, and it has not worked since
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
