package messaging

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	plainQueue  = Queue{Name: "jobs", Type: Quorum}
	slowQueue   = Queue{Name: "jobs", Type: Quorum, ConsumerTimeout: time.Minute}
	singleQueue = Queue{Name: "shard", Type: Quorum, SingleActiveConsumer: true}
)

func TestConsumeOptions(t *testing.T) {
	t.Parallel()
	plain := consumerConfig{size: 1, concurrency: 1, prefetch: 1, timeout: 30 * time.Second}
	single := plain
	single.tenure = time.Minute
	for name, c := range map[string]struct {
		queue   Queue
		options []ConsumeOption
		change  func(c *consumerConfig) // of the defaults
	}{
		"none":                       {plainQueue, nil, func(*consumerConfig) {}},
		"nil is none":                {plainQueue, []ConsumeOption{nil, Concurrency(3), nil}, func(c *consumerConfig) { c.concurrency, c.prefetch = 3, 3 }},
		"a prefetch of its own":      {plainQueue, []ConsumeOption{Prefetch(9), Concurrency(3)}, func(c *consumerConfig) { c.concurrency, c.prefetch = 3, 9 }},
		"the last one counts":        {plainQueue, []ConsumeOption{Concurrency(0), Concurrency(2)}, func(c *consumerConfig) { c.concurrency, c.prefetch = 2, 2 }},
		"the largest":                {plainQueue, []ConsumeOption{Concurrency(65_535)}, func(c *consumerConfig) { c.concurrency, c.prefetch = 65_535, 65_535 }},
		"a deadline":                 {plainQueue, []ConsumeOption{HandlerTimeout(time.Hour)}, func(c *consumerConfig) { c.timeout = time.Hour }},
		"no deadline":                {plainQueue, []ConsumeOption{HandlerTimeout(0)}, func(c *consumerConfig) { c.timeout = 0 }},
		"a tag":                      {plainQueue, []ConsumeOption{ConsumerTag("me")}, func(c *consumerConfig) { c.tag = "me" }},
		"a priority":                 {plainQueue, []ConsumeOption{ConsumerPriority(math.MinInt32)}, func(c *consumerConfig) { c.priority = math.MinInt32 }},
		"automatic acknowledgement":  {plainQueue, []ConsumeOption{AutoAck(), Concurrency(4)}, func(c *consumerConfig) { c.autoAck, c.concurrency, c.prefetch = true, 4, 4 }},
		"an exclusive consumer":      {Queue{Name: "jobs", Type: Classic}, []ConsumeOption{ExclusiveConsumer()}, func(c *consumerConfig) { c.exclusive = true }},
		"below the consumer timeout": {slowQueue, []ConsumeOption{HandlerTimeout(59 * time.Second)}, func(c *consumerConfig) { c.timeout = 59 * time.Second }},
		"single: none":               {singleQueue, nil, func(c *consumerConfig) { *c = single }},
		"single: one, said again":    {singleQueue, []ConsumeOption{Concurrency(1), Prefetch(1)}, func(c *consumerConfig) { *c = single }},
		"single: for ever":           {singleQueue, []ConsumeOption{Tenure(0)}, func(*consumerConfig) {}},
	} {
		got, err := newConsumerConfig(c.queue, 1, false, c.options)
		require.NoError(t, err, name)
		want := plain
		c.change(&want)
		require.Equal(t, want, got, name)
	}
}

func TestConsumeOptionsOutOfRange(t *testing.T) {
	t.Parallel()
	const tooLong = 11 * 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		queue   Queue
		options []ConsumeOption
		want    string
	}{
		"nothing at once":            {plainQueue, []ConsumeOption{Concurrency(0)}, "Concurrency: must be from 1 to 65535"},
		"less than nothing":          {plainQueue, []ConsumeOption{Concurrency(-1)}, "Concurrency: must be from 1 to 65535"},
		"more at once than numbers":  {plainQueue, []ConsumeOption{Concurrency(65_536)}, "Concurrency: must be from 1 to 65535"},
		"nothing ahead":              {plainQueue, []ConsumeOption{Prefetch(0)}, "Prefetch: must not be below Concurrency"},
		"less than nothing ahead":    {plainQueue, []ConsumeOption{Prefetch(-1)}, "Prefetch: must not be below Concurrency"},
		"less ahead than at once":    {plainQueue, []ConsumeOption{Concurrency(3), Prefetch(2)}, "Prefetch: must not be below Concurrency"},
		"more ahead than numbers":    {plainQueue, []ConsumeOption{Prefetch(65_536)}, "Prefetch: AMQP allows at most 65535"},
		"a prefetch without effect":  {plainQueue, []ConsumeOption{AutoAck(), Prefetch(10)}, "Prefetch: has no effect with AutoAck"},
		"a deadline that has passed": {plainQueue, []ConsumeOption{HandlerTimeout(-1)}, "HandlerTimeout: must not be negative"},
		"a deadline in 11 years":     {plainQueue, []ConsumeOption{HandlerTimeout(tooLong)}, "HandlerTimeout"},
		"a long tag":                 {plainQueue, []ConsumeOption{ConsumerTag(strings.Repeat("x", 256))}, "ConsumerTag: has 256 bytes"},
		"a tag that is not UTF-8":    {plainQueue, []ConsumeOption{ConsumerTag("\xff")}, "ConsumerTag: is not UTF-8"},
		"a priority of 33 bits":      {plainQueue, []ConsumeOption{ConsumerPriority(1 << 31)}, "ConsumerPriority: must fit into 32 bits"},
		"a tenure of no use":         {plainQueue, []ConsumeOption{Tenure(time.Minute)}, "Tenure: for a single active consumer only"},
		"exclusive on a quorum":      {plainQueue, []ConsumeOption{ExclusiveConsumer()}, "ExclusiveConsumer: for a classic queue"},
		"above the consumer timeout": {slowQueue, []ConsumeOption{HandlerTimeout(time.Minute)}, "HandlerTimeout: must, with the time that Retry keeps a message, be below"},
		"no deadline where the broker has one": {slowQueue, []ConsumeOption{HandlerTimeout(0)},
			"HandlerTimeout: must be given, since the queue has a consumer timeout of 1m0s"},
		"single: two at once":    {singleQueue, []ConsumeOption{Concurrency(2)}, "Concurrency: a single active consumer keeps order with 1 only"},
		"single: two ahead":      {singleQueue, []ConsumeOption{Prefetch(2)}, "Prefetch: a single active consumer keeps order with 1 only"},
		"single: a priority":     {singleQueue, []ConsumeOption{ConsumerPriority(1)}, "ConsumerPriority: not for a single active consumer"},
		"single: automatic acks": {singleQueue, []ConsumeOption{AutoAck()}, "AutoAck: not for a single active consumer"},
		"single: before it began": {singleQueue, []ConsumeOption{Tenure(-1)},
			"Tenure: must not be negative"},
		"single: exclusive": {Queue{Name: "local", Type: Classic, SingleActiveConsumer: true}, []ConsumeOption{ExclusiveConsumer()},
			"ExclusiveConsumer: for a classic queue without"},
	} {
		_, err := newConsumerConfig(c.queue, 1, false, c.options)
		require.ErrorContains(t, err, "messaging: "+c.want, name)
	}
}

// An option that has no meaning for a queue of one's own is no ListenOption, so that it
// does not compile there.
func TestListenTakesFewerOptions(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]ConsumeOption{
		"Concurrency": Concurrency(1), "HandlerTimeout": HandlerTimeout(1), "ConsumerTag": ConsumerTag(""), "OnSubscribe": OnSubscribe(nil),
	} {
		require.Implements(t, (*ListenOption)(nil), opt, name)
	}
	for name, opt := range map[string]ConsumeOption{
		"Prefetch": Prefetch(1), "ConsumerPriority": ConsumerPriority(1),
		"Tenure": Tenure(1), "ExclusiveConsumer": ExclusiveConsumer(), "AutoAck": AutoAck(),
	} {
		_, also := opt.(ListenOption)
		require.False(t, also, name)
	}
	config, err := newConsumerConfig(Queue{Type: Classic, Exclusive: true}, 1, true, []ListenOption{nil, Concurrency(2)})
	require.NoError(t, err)
	require.Equal(t, consumerConfig{size: 1, concurrency: 2, prefetch: 2, timeout: 30 * time.Second, autoAck: true}, config)
}

func TestPublisherOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options []PublisherOption
		want    publisherConfig
	}{
		"none":             {nil, publisherConfig{confirms: true, window: 1000}},
		"nil is none":      {[]PublisherOption{nil}, publisherConfig{confirms: true, window: 1000}},
		"the smallest":     {[]PublisherOption{Window(1)}, publisherConfig{confirms: true, window: 1}},
		"the largest":      {[]PublisherOption{Window(65_535)}, publisherConfig{confirms: true, window: 65_535}},
		"without confirms": {[]PublisherOption{WithoutConfirms(), Window(7)}, publisherConfig{window: 7}},
	} {
		got, err := newPublisherConfig(c.options)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	for _, window := range []int{math.MinInt, -1, 0, 65_536, 70_000, math.MaxInt} {
		_, err := newPublisherConfig([]PublisherOption{Window(window)})
		require.EqualError(t, err, "messaging: Window: must be from 1 to 65535")
	}
	require.Equal(t, publishConfig{}, newPublishConfig(nil))
	require.Equal(t, publishConfig{allowUnroutable: true, asReceived: true}, newPublishConfig([]PublishOption{nil, AllowUnroutable(), asReceived()}))
}

func TestStreamOptions(t *testing.T) {
	t.Parallel()
	got, err := newStreamConfig([]StreamOption{nil})
	require.NoError(t, err)
	require.Equal(t, streamConfig{credit: 100}, got)
	for _, credit := range []int{1, 65_535} {
		got, err := newStreamConfig([]StreamOption{Credit(credit)})
		require.NoError(t, err)
		require.Equal(t, streamConfig{credit: credit}, got)
	}
	for _, credit := range []int{-1, 0, 65_536} {
		_, err := newStreamConfig([]StreamOption{Credit(credit)})
		require.EqualError(t, err, "messaging: Credit: must be from 1 to 65535")
	}
}
