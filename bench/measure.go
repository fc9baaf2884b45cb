package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A scenario is a kind of work that several contenders do.
type scenario struct {
	name       string
	what       string
	messages   int
	backlog    bool // the messages are in the queue before the run
	publishes  bool // the messages are in the queue after the run
	contenders []contender
}

// A contender is an implementation of a scenario's work. The first one of a scenario is the
// baseline of its ratios.
type contender struct {
	name string
	// share is the part of the scenario's messages that a slow contender handles.
	share float64
	// start prepares a run, and returns the work to be measured and the clean-up.
	start func(ctx context.Context, b *broker, n int) (job, error)
}

// A job does the work. It returns the latency of each message if the scenario measures it.
type job struct {
	run   func(ctx context.Context) ([]time.Duration, error)
	close func() error
}

// A sample has the measurements of one run of one contender. Allocations and CPU time are for one
// message and of this process, except the broker's CPU time.
type sample struct {
	rate   float64 // messages a second
	p50    time.Duration
	p99    time.Duration
	allocs float64
	bytes  float64
	cpu    time.Duration
	broker time.Duration // the broker's CPU time; 0 if unknown
}

func (s sample) String() string {
	text := fmt.Sprintf("%8.0f/s %6.1f allocs %6.0f B %7s cpu %7s broker", s.rate, s.allocs, s.bytes, s.cpu.Round(10*time.Nanosecond), s.broker.Round(10*time.Nanosecond))
	if s.p50 > 0 {
		text += fmt.Sprintf("  p50 %s p99 %s", s.p50.Round(time.Microsecond), s.p99.Round(time.Microsecond))
	}
	return text
}

func measure(ctx context.Context, b *broker, s scenario, c contender, scale float64) (sample, error) {
	n := int(float64(s.messages) * scale)
	if c.share > 0 {
		n = int(float64(n) * c.share)
	}
	n = max(n, 100)
	if err := b.prepare(); err != nil {
		return sample{}, err
	}
	defer b.clear()
	if s.backlog {
		if err := b.fill(ctx, n); err != nil {
			return sample{}, err
		}
	}
	job, err := c.start(ctx, b, n)
	if err != nil {
		return sample{}, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, brokers, started := cpuTime(), b.cpuTime(), time.Now()
	latencies, err := job.run(ctx)
	took, used, brokerUsed := time.Since(started), cpuTime()-cpu, b.cpuTime()-brokers
	runtime.ReadMemStats(&after)
	if err == nil {
		// Check before the close: with the close, the broker drops acknowledgements that a
		// quorum queue has not processed, and the messages would be in the queue again.
		err = b.check(s, n)
	}
	if closeErr := job.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return sample{}, err
	}
	per := float64(n)
	got := sample{
		rate:   per / took.Seconds(),
		allocs: float64(after.Mallocs-before.Mallocs) / per,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / per,
		cpu:    time.Duration(float64(used) / per),
		broker: time.Duration(float64(brokerUsed) / per),
	}
	got.p50, got.p99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	return got, nil
}

// cpuTime is the CPU time of this process: all threads, user and system.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// broker has the queues of all contenders: one quorum queue behind a fanout exchange, so that any
// routing key works, and one classic queue for calls.
type broker struct {
	url      string
	database string
	pid      int // 0 if its process is not on this machine
	version  string
	conn     *amqp.Connection
	ch       *amqp.Channel
}

const (
	exchange = "bench"
	queue    = "bench"
	requests = "bench.requests"
)

func dial(url string, pid int) (*broker, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker (scripts/bench.sh starts one): %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	version, _ := conn.Properties["version"].(string)
	return &broker{url: url, pid: pid, version: version, conn: conn, ch: ch}, nil
}

func (b *broker) close() { _ = b.conn.Close() }

// cpuTime is the CPU time of the broker's process: fields 14 and 15 of stat in proc(5), in
// hundredths of a second.
func (b *broker) cpuTime() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), ") ") // after the name, which may contain any character
	var ticks time.Duration
	for _, field := range strings.Fields(after)[11:13] {
		n, _ := strconv.Atoi(field) // the kernel writes numbers
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}

// prepare declares the exchange and the queues, which clear removed after the earlier run.
func (b *broker) prepare() error {
	if err := b.ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := b.ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return err
	}
	if err := b.ch.QueueBind(queue, "", exchange, false, nil); err != nil {
		return err
	}
	_, err := b.ch.QueueDeclare(requests, true, false, false, false, amqp.Table{"x-queue-type": "classic"})
	return err
}

func (b *broker) clear() {
	_, _ = b.ch.QueueDelete(queue, false, false, false)
	_, _ = b.ch.QueueDelete(requests, false, false, false)
}

// fill publishes n messages to the queue.
func (b *broker) fill(ctx context.Context, n int) error {
	filler, err := rawTuned(1, window)(ctx, b, n)
	if err != nil {
		return err
	}
	if _, err := filler.run(ctx); err != nil {
		return err
	}
	return filler.close()
}

// check waits until the queue has the messages that it must have after a run, and returns an error
// if messages were lost.
func (b *broker) check(s scenario, n int) error {
	want := 0
	if s.publishes {
		want = n
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		q, err := b.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			return err
		}
		if q.Messages == want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages are in the queue, %d should be", q.Messages, want)
		}
		<-poll.C
	}
}
