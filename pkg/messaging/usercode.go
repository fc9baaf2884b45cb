package messaging

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// caught logs a panic of user code, and ends it. Deferred.
func caught(log *zap.Logger, what string) {
	if p := recover(); p != nil {
		log.Error(what+" panicked", zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
	}
}

// aside calls user code on a goroutine of its own, which it may end, and waits for it.
func aside(log *zap.Logger, what string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer caught(log, what)
		f()
	}()
	<-done
}

// caught gives hooks that are never nil, but for Publishing, and whose panics are logged.
func (h Hooks) caught(log *zap.Logger) Hooks {
	publishing, published, settled, away := h.Publishing, h.Published, h.Settled, h.Away
	h.Published = func(route Route, messageType string, err error, took time.Duration) {
		defer caught(log, "Hooks.Published")
		if published != nil {
			published(route, messageType, err, took)
		}
	}
	h.Settled = func(d *Delivery, verdict Verdict, took time.Duration) {
		defer caught(log, "Hooks.Settled")
		if settled != nil {
			settled(d, verdict, took)
		}
	}
	h.Away = func(queue string, err error) {
		defer caught(log, "Hooks.Away")
		if away != nil {
			away(queue, err)
		}
	}
	if publishing == nil {
		return h
	}
	h.Publishing = func(ctx context.Context, route Route, m *Message) (done func(err error)) {
		defer caught(log, "Hooks.Publishing")
		finish := publishing(ctx, route, m)
		if finish == nil {
			return nil
		}
		return func(err error) {
			defer caught(log, "what Hooks.Publishing returned")
			finish(err)
		}
	}
	return h
}
