package messaging

import "fmt"

const (
	// defaultWindow is how many messages of a lane may await their confirm at once.
	defaultWindow = 1000
	// maxWindow bounds it: each place in a window takes memory.
	maxWindow = 65_535
)

// publisherConfig is what the options of a [Publisher] say.
type publisherConfig struct {
	confirms bool
	window   int
}

// PublisherOption is a setting of [Conn.Publisher]. Nil is none.
type PublisherOption interface{ applyPublisher(c *publisherConfig) }

type publisherOption func(c *publisherConfig)

func (f publisherOption) applyPublisher(c *publisherConfig) { f(c) }

// WithoutConfirms makes a fire-and-forget publisher: Publish returns when the
// message is in the connection's write buffer, and nobody learns whether it
// arrived. Messages are not mandatory. The [Window] bounds them too.
func WithoutConfirms() PublisherOption {
	return publisherOption(func(c *publisherConfig) { c.confirms = false })
}

// Window bounds how many messages to one exchange, or on the default exchange to one
// queue, may await their confirm at once: 1 to 65,535. Defaults to 1000. Where more than
// 32 do they get a connection of their own: the broker stops reading from a connection on
// which one channel has too many of them.
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

// publishConfig is what the options of one publish say.
type publishConfig struct {
	allowUnroutable bool
	asReceived      bool // see limits
}

// PublishOption is a setting of one publish. Nil is none.
type PublishOption interface {
	// By value, so that a publish moves nothing to the heap.
	applyPublish(c publishConfig) publishConfig
}

type publishOption func(c publishConfig) publishConfig

func (f publishOption) applyPublish(c publishConfig) publishConfig { return f(c) }

// AllowUnroutable confirms a message even though no queue takes it. Without it
// such a message comes back with [ErrUnroutable], unless its exchange has an alternate.
func AllowUnroutable() PublishOption {
	return publishOption(func(c publishConfig) publishConfig { c.allowUnroutable = true; return c })
}

// asReceived passes on what somebody else has sent, as it came.
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
