package service

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// overAfter is how long a condition must not be seen before its episode is over, if many
	// callers report it.
	overAfter = 10 * time.Second
	// logInterval is how often a lasting condition is logged.
	logInterval = time.Minute
)

// An Episode logs a condition that lasts, such as a database that is unavailable: one line
// when it begins or has a new state, one each minute while it lasts, and one when it is over,
// with how often it was seen. Without it, each request during an outage would log a line.
//
// Safe for concurrent use.
type Episode struct {
	log       *zap.Logger
	level     zapcore.Level
	message   string
	overAfter time.Duration

	mu     sync.Mutex
	state  string
	began  time.Time
	last   time.Time // when it was last seen
	seen   int64
	logged map[string]time.Time // when each state was last logged
}

// NewEpisode makes an episode that has not begun. It is over when [Episode.Over] is called
// and the condition was not seen for as long as overAfter.
func NewEpisode(log *zap.Logger, level zapcore.Level, message string, overAfter time.Duration) *Episode {
	return &Episode{log: log, level: level, message: message, overAfter: overAfter}
}

// Seen reports that the condition exists. state describes it; there should be only a few
// different states. err is added to the logged line.
func (e *Episode) Seen(state string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.seen > 0 && e.overAfter > 0 && now.Sub(e.last) >= e.overAfter {
		e.end() // Over was not called in the meantime
	}
	if e.seen == 0 {
		e.began, e.logged = now, map[string]time.Time{}
	}
	e.seen++
	e.last, e.state = now, state
	if at, ok := e.logged[state]; ok && now.Sub(at) < logInterval {
		return
	}
	e.logged[state] = now
	e.log.Log(e.level, e.message, zap.String("state", state), zap.Int64("count", e.seen), zap.Error(err))
}

// Over reports that the condition does not exist. It is cheap to call without an episode.
func (e *Episode) Over() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen > 0 && time.Since(e.last) >= e.overAfter {
		e.end()
	}
}

func (e *Episode) end() {
	e.log.Info(e.message+": over", zap.String("state", e.state), zap.Int64("count", e.seen), zap.Duration("lasted", e.last.Sub(e.began)))
	e.seen = 0
}
