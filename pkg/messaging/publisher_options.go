package messaging

import "fmt"

const (
	// defaultWindow is how many messages of a lane may await their confirm at once.
	defaultWindow = 1000
	// maxWindow is the largest window: each place in it takes memory.
	maxWindow = 65_535
)

// publisherConfig has the settings of a [Publisher].
type publisherConfig struct {
	confirms bool
	window   int
}

// PublisherOption is a setting of [Conn.Publisher]. Nil is ignored.
type PublisherOption interface{ applyPublisher(c *publisherConfig) }

type publisherOption func(c *publisherConfig)

func (f publisherOption) applyPublisher(c *publisherConfig) { f(c) }

// WithoutConfirms makes a fire-and-forget publisher: Publish returns when the message is in
// the connection's write buffer, and does not say whether it arrived. Messages are not
// mandatory. The [Window] holds for them too.
func WithoutConfirms() PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.confirms = false })
}

// Window bounds how many messages to one exchange, or on the default exchange to one
// queue, may await their confirm at the same time: 1 to 65,535. Defaults to 1000. When more
// than 32 do, their channel gets a connection of its own, because the broker stops reading
// from a connection on which one channel has too many unconfirmed messages.
func Window(n int) PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.window = n })
}

func newPublisherConfig(opts []PublisherOption) (publisherConfig, error) {
	c := publisherConfig{confirms: true, window: defaultWindow}
	for _, opt := range opts {
		if opt != nil {
			opt.applyPublisher(&c)
		}
	}
	if c.window < 1 || c.window > maxWindow {
		return c, fmt.Errorf("messaging: Window: must be from 1 to %d", maxWindow)
	}
	return c, nil
}

// publishConfig has the settings of one publish.
type publishConfig struct {
	allowUnroutable bool
	asReceived      bool // see limits
}

// PublishOption is a setting of one publish. Nil is ignored.
type PublishOption interface {
	// By value, so that a publish allocates nothing for it.
	applyPublish(c publishConfig) publishConfig
}

type publishOption func(c publishConfig) publishConfig

func (f publishOption) applyPublish(c publishConfig) publishConfig { return f(c) }

// AllowUnroutable publishes without the mandatory flag: a message that no queue takes is
// confirmed and dropped. Without this option the error is [ErrUnroutable], unless the
// exchange has an alternate exchange.
func AllowUnroutable() PublishOption {
	return publishOption(func(c publishConfig) publishConfig { c.allowUnroutable = true; return c })
}

// asReceived publishes a message of another program unchanged, as it was received.
func asReceived() PublishOption {
	return publishOption(func(c publishConfig) publishConfig { c.asReceived = true; return c })
}

func newPublishConfig(opts []PublishOption) (c publishConfig) {
	for _, opt := range opts {
		if opt != nil {
			c = opt.applyPublish(c)
		}
	}
	return c
}
