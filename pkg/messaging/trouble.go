package messaging

import (
	"regexp"
	"slices"
	"time"

	"go.uber.org/zap"
)

// trouble logs something that fails again and again once, and again for each new reason
// of the first few, and how often it was when it is over.
type trouble struct {
	log   *zap.Logger
	fails string // what the log says then
	works string // and when it is over
	seen  []string
	times int
	since time.Time
}

// localPort is different for each connection to one address, which is one reason.
var localPort = regexp.MustCompile(`:\d+->`)

// maxReasons is how many reasons of one trouble are logged.
const maxReasons = 5

func (t *trouble) note(err error) {
	if t.times == 0 {
		t.since = time.Now()
	}
	t.times++
	text := localPort.ReplaceAllString(err.Error(), "->")
	if len(t.seen) == maxReasons || slices.Contains(t.seen, text) {
		return
	}
	t.seen = append(t.seen, text)
	t.log.Warn(t.fails, zap.Error(err))
}

func (t *trouble) over() {
	if t.times > 0 {
		t.log.Info(t.works, zap.Int("failures", t.times), zap.Duration("after", time.Since(t.since)))
	}
	t.times, t.seen = 0, nil
}
