package messaging

import (
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// limitMemory is for how long a limit of the broker is assumed to hold after it was hit.
const limitMemory = time.Minute

// channels counts the channels of the shared connection. When there is one channel more than
// a limit of the user or the virtual host allows, the broker closes the whole connection
// (530). So after the first time no more channels are opened than were allowed then.
type channels struct {
	mu   sync.Mutex
	open int
	most int // how many were allowed; 0 when that is not known
	at   time.Time
}

// take counts one more channel, and gives the new number.
func (c *channels) take() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.open >= c.most && time.Since(c.at) < limitMemory {
		return 0, fmt.Errorf("%w: the broker allows %d on the connection", ErrTooManyChannels, c.most)
	}
	c.open++
	return c.open, nil
}

// put counts one channel less.
func (c *channels) put() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// limited notes that the broker does not allow this many.
func (c *channels) limited(open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 || time.Since(c.at) >= limitMemory { // otherwise another lane has just noted it
		c.most, c.at = max(open-1, 1), time.Now()
	}
}

// exhausted says whether a channel could not be opened because of a limit of the user or
// virtual host (limit), or because of any limit (all).
func exhausted(err error) (limit, all bool) {
	var refused *amqp.Error
	limit = errors.As(err, &refused) && refused.Server && refused.Code == amqp.NotAllowed
	return limit, limit || errors.Is(err, amqp.ErrChannelMax)
}
