package messaging

import (
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// limitMemory is for how long a limit of the broker's is believed.
const limitMemory = time.Minute

// channels counts those of the shared connection. The broker ends the connection, with
// all of them, over one that is more than a limit of the user or the virtual host allows
// (530). So after the first time no more are asked for than were allowed then.
type channels struct {
	mu   sync.Mutex
	open int
	most int // this many were allowed; 0 when that is not known
	at   time.Time
}

// take makes place for one more, and says how many there are with it.
func (c *channels) take() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.open >= c.most && time.Since(c.at) < limitMemory {
		return 0, fmt.Errorf("%w: the broker allows %d on the connection", ErrTooManyChannels, c.most)
	}
	c.open++
	return c.open, nil
}

// put gives a place back.
func (c *channels) put() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// limited notes that the broker does not allow so many.
func (c *channels) limited(open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 || time.Since(c.at) >= limitMemory { // else others see the same, at the same time
		c.most, c.at = max(open-1, 1), time.Now()
	}
}

// exhausted says whether a channel could not be opened because there are too many.
func exhausted(err error) (limit, all bool) {
	var refused *amqp.Error
	limit = errors.As(err, &refused) && refused.Server && refused.Code == amqp.NotAllowed
	return limit, limit || errors.Is(err, amqp.ErrChannelMax)
}
