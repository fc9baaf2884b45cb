package messaging

import (
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// caught recovers from a panic of user code and logs it. It is called by defer.
func caught(log *zap.Logger, what string) {
	if p := recover(); p != nil {
		log.Error(what+" panicked", zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
	}
}

// aside calls user code on a goroutine of its own and waits for it. So user code may end its
// goroutine (runtime.Goexit).
func aside(log *zap.Logger, what string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer caught(log, what)
		f()
	}()
	<-done
}
