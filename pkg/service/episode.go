package service

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// calm is how long something has not been seen before it is over, where many see it.
	calm = 10 * time.Second
	// again is how often a log is told of what goes on.
	again = time.Minute
)

// An Episode logs what lasts, such as a database that is away: one line when it begins
// or has a new state, one each minute while it goes on, and one when it is over, with
// how often it was seen. Otherwise each request of an outage would be a line.
//
// Safe for concurrent use.
type Episode struct {
	log     *zap.Logger
	level   zapcore.Level
	message string
	calm    time.Duration

	mu    sync.Mutex
	state string
	began time.Time
	last  time.Time // when it was seen
	seen  int64
	told  map[string]time.Time // when the log was told of a state
}

// NewEpisode makes an episode that has not begun. It is over when it was not seen for as
// long as calm says.
func NewEpisode(log *zap.Logger, level zapcore.Level, message string, calm time.Duration) *Episode {
	return &Episode{log: log, level: level, message: message, calm: calm}
}

// Seen says that it is so, or still so. state names what it is, in a few different words
// at most; err is logged with the line.
func (e *Episode) Seen(state string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.seen > 0 && e.calm > 0 && now.Sub(e.last) >= e.calm {
		e.end() // nobody came meanwhile who would have noticed
	}
	if e.seen == 0 {
		e.began, e.told = now, map[string]time.Time{}
	}
	e.seen++
	e.last, e.state = now, state
	if told, ok := e.told[state]; ok && now.Sub(told) < again {
		return
	}
	e.told[state] = now
	e.log.Log(e.level, e.message, zap.String("state", state), zap.Int64("count", e.seen), zap.Error(err))
}

// Over says that it is not so. It costs little while there is no episode.
func (e *Episode) Over() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen > 0 && time.Since(e.last) >= e.calm {
		e.end()
	}
}

func (e *Episode) end() {
	e.log.Info(e.message+": over", zap.String("state", e.state), zap.Int64("count", e.seen), zap.Duration("lasted", e.last.Sub(e.began)))
	e.seen = 0
}
