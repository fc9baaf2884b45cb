package messaging

import (
	"fmt"
	"runtime/debug"

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
