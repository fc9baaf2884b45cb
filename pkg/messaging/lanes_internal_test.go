package messaging

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestTheLaneOfARoute(t *testing.T) {
	t.Parallel()
	for route, want := range map[Route]Route{
		{Exchange: "x", Key: "k"}:             {Exchange: "x"},
		{Exchange: "x"}:                       {Exchange: "x"},
		{Key: "q"}:                            {Key: "q"},
		{}:                                    {},
		{Key: "amq.rabbitmq.reply-to.g1h2AA"}: {Key: directReplyTo},
		{Exchange: "x", Key: "amq.rabbitmq.reply-to.g1"}: {Exchange: "x"},
	} {
		if got := laneOf(route); got != want {
			t.Errorf("%+v: %+v", route, got)
		}
	}
}

func TestLanesMakeRoom(t *testing.T) {
	t.Parallel()
	started := 0
	ls := newLanes(2, func(*lane) { started++ })
	var now int64
	take := func(ctx context.Context, queue string) (*lane, error) {
		now++
		return ls.take(ctx, Route{Key: queue}, time.Unix(now, 0))
	}
	must := func(queue string) *lane {
		t.Helper()
		l, err := take(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := must("a"), must("b")
	if must("a") != a || started != 2 {
		t.Fatal("a second lane of one route")
	}

	// Both are in use: a third one waits, as long as its context allows.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := take(ctx, "c"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	got := make(chan *lane, 2)
	for range 2 { // two who wait for the same
		go func() {
			l, err := ls.take(context.Background(), Route{Key: "c"}, time.Unix(10, 0))
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
	}
	ls.release(a) // of two
	if isDone(a.over) {
		t.Fatal("a lane that is used was closed")
	}
	ls.release(b)
	c := <-got
	if <-got != c || c.key.Key != "c" || !isDone(b.over) || isDone(a.over) {
		t.Fatal("not the idle lane was closed")
	}

	// Of those that are idle the one that was used first goes.
	ls.release(a)
	ls.release(c)
	ls.release(c)
	must("c")
	d := must("d")
	if !isDone(a.over) || isDone(c.over) {
		t.Fatal("not the lane was closed that was idle for the longest time")
	}

	// One that ends by itself makes room too.
	waiting := make(chan error, 1)
	go func() {
		_, err := ls.take(context.Background(), Route{Key: "e"}, time.Unix(20, 0))
		waiting <- err
	}()
	d.end(errors.New("no channel"))
	ls.remove(d)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	ls.close()
	if _, err := take(t.Context(), "f"); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestWhatIsClosedIsForgotten(t *testing.T) {
	t.Parallel()
	conn := &Conn{config: Config{}.withDefaults(), senders: map[sender]struct{}{}}
	for range 3 {
		p, err := conn.Publisher()
		if err != nil {
			t.Fatal(err)
		}
		c := conn.Caller()
		if len(conn.senders) != 2 {
			t.Fatalf("%d senders", len(conn.senders))
		}
		for _, s := range []sender{p, c} {
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(conn.senders) != 0 {
			t.Fatalf("%d of 2 are kept", len(conn.senders))
		}
	}
}
