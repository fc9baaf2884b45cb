package messaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// observers has the observers of a Conn by kind of event. They are sorted once, so that a kind
// of event without an observer costs nothing.
type observers struct {
	log *zap.Logger // of panics

	connect    []ConnectObserver
	disconnect []DisconnectObserver
	block      []BlockObserver
	subscribe  []SubscribeObserver
	cancel     []CancelObserver
	publish    []PublishObserver
	confirm    []ConfirmObserver
	deliver    []DeliverObserver
	settle     []SettleObserver
	away       []AwayObserver
	overdue    []OverdueObserver
}

// A kind of event: how an observer of it is added, and the method with its name, with any
// signature. The calls have constant names: when a program looks up a method by a variable,
// the linker keeps every method of the program.
type kind struct {
	keep   func(o *observers, observer Observer) bool
	method func(v reflect.Value) reflect.Value
}

var kinds = [...]kind{
	{
		func(o *observers, observer Observer) bool { return keep(&o.connect, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnConnect") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.disconnect, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnDisconnect") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.block, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnBlock") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.subscribe, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnSubscribe") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.cancel, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnCancel") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.publish, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnPublish") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.confirm, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnConfirm") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.deliver, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnDeliver") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.settle, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnSettle") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.away, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnAway") },
	},
	{
		func(o *observers, observer Observer) bool { return keep(&o.overdue, observer) },
		func(v reflect.Value) reflect.Value { return v.MethodByName("OnOverdue") },
	},
}

func keep[O any](list *[]O, observer Observer) bool {
	o, ok := observer.(O)
	if ok {
		*list = append(*list, o)
	}
	return ok
}

// newObservers sorts observers by the interfaces that they implement.
func newObservers(all []Observer, log *zap.Logger) *observers {
	o := &observers{log: log}
	for _, observer := range all {
		for _, k := range kinds {
			k.keep(o, observer)
		}
	}
	return o
}

// checkObservers is an error that names the first invalid observer.
func checkObservers(all []Observer) error {
	for i, observer := range all {
		if err := checkObserver(observer); err != nil {
			return fmt.Errorf("messaging: Observers: number %d %w", i+1, err)
		}
	}
	return nil
}

// checkObserver refuses an observer that would never be called, or one of whose methods would
// never be called.
func checkObserver(observer Observer) error {
	v := reflect.ValueOf(observer)
	if observer == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("is nil")
	}
	found := false
	for _, k := range kinds {
		if k.keep(&observers{}, observer) {
			found = true
		} else if method := k.method(v); method.IsValid() {
			return fmt.Errorf("is a %T: its %s has the name of an observer's method, but another signature", observer, method.Type())
		}
	}
	if !found {
		return fmt.Errorf("is a %T, which has no method of an observer", observer)
	}
	return nil
}

// tell calls observers on the goroutine that handles the message.
func tell[O, E any](log *zap.Logger, list []O, method func(O, E), e E) {
	for _, o := range list {
		tellOne(log, o, method, e)
	}
}

func tellOne[O, E any](log *zap.Logger, o O, method func(O, E), e E) {
	defer func() {
		if p := recover(); p != nil {
			logPanic(log, o, p)
		}
	}()
	method(o, e)
}

func logPanic(log *zap.Logger, observer, p any) {
	log.Error("observer panicked", zap.String("observer", fmt.Sprintf("%T", observer)),
		zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
}

// tellAside calls observers of rare events on a goroutine of its own and waits for them. If one
// ends its goroutine (runtime.Goexit), the connection or consumer goes on.
func tellAside[O, E any](log *zap.Logger, list []O, method func(O, E), e E) {
	for _, o := range list {
		done := make(chan struct{})
		go func() {
			defer close(done)
			tellOne(log, o, method, e)
		}()
		<-done
	}
}

func (o *observers) connected(e ConnectEvent) {
	tellAside(o.log, o.connect, ConnectObserver.OnConnect, e)
}

func (o *observers) disconnected(e DisconnectEvent) {
	tellAside(o.log, o.disconnect, DisconnectObserver.OnDisconnect, e)
}

func (o *observers) blocked(e BlockEvent) {
	tellAside(o.log, o.block, BlockObserver.OnBlock, e)
}

func (o *observers) subscribed(e SubscribeEvent) {
	tellAside(o.log, o.subscribe, SubscribeObserver.OnSubscribe, e)
}

func (o *observers) cancelled(e CancelEvent) {
	tellAside(o.log, o.cancel, CancelObserver.OnCancel, e)
}

func (o *observers) isAway(e AwayEvent) {
	tellAside(o.log, o.away, AwayObserver.OnAway, e)
}

func (o *observers) isOverdue(e OverdueEvent) {
	tellAside(o.log, o.overdue, OverdueObserver.OnOverdue, e)
}

// publishing gives the message as it is sent, with the headers that observers have added, and a
// function to call with the outcome. The message is passed by value, so that without an
// observer it is not allocated.
func (o *observers) publishing(ctx context.Context, route Route, m Message, call bool) (Message, func(ConfirmEvent)) {
	headers := make(map[string]any, len(m.Headers)+2)
	maps.Copy(headers, m.Headers)
	m.Headers = headers
	var done []func(ConfirmEvent)
	for _, observer := range o.publish {
		if f := o.publishingOne(ctx, observer, PublishEvent{Route: route, Message: &m, Call: call}); f != nil {
			done = append(done, f)
		}
	}
	if len(done) == 0 {
		return m, nil
	}
	return m, func(e ConfirmEvent) { tell(o.log, done, callDone, e) }
}

func callDone(f func(ConfirmEvent), e ConfirmEvent) { f(e) }

func (o *observers) publishingOne(ctx context.Context, observer PublishObserver, e PublishEvent) (done func(ConfirmEvent)) {
	defer func() {
		if p := recover(); p != nil {
			logPanic(o.log, observer, p)
		}
	}()
	return observer.OnPublish(ctx, e)
}

// confirmed reports the outcome of a publish or a call. done, which may be nil, is the function
// that publishing gave.
func (o *observers) confirmed(done func(ConfirmEvent), e ConfirmEvent) {
	tell(o.log, o.confirm, ConfirmObserver.OnConfirm, e)
	if done != nil {
		done(e)
	}
}

// settled reports the verdict on a job.
func (o *observers) settled(delivery *Delivery, verdict Verdict, out outcome, began time.Time) {
	if len(o.settle) == 0 {
		return
	}
	e := SettleEvent{Delivery: delivery, Verdict: verdict, Took: time.Since(began)}
	if out.failed {
		e.Err = errors.New(out.text)
	}
	if out.permanent {
		e.Err = Permanent(e.Err)
	}
	tell(o.log, o.settle, SettleObserver.OnSettle, e)
}

// logObserver is the observer that logs to Config.Logger.
type logObserver struct{ log *zap.Logger }

// OnConnect logs a success. Failures are logged once for each reason, see trouble.
func (o logObserver) OnConnect(e ConnectEvent) {
	if e.Err == nil {
		o.log.Info("connected", zap.String("connection", e.Connection), zap.String("node", e.Node), zap.String("broker_version", e.BrokerVersion))
	}
}

// OnDisconnect logs the loss of a connection.
func (o logObserver) OnDisconnect(e DisconnectEvent) {
	if !errors.Is(e.Err, ErrClosed) {
		o.log.Warn("connection lost", zap.String("connection", e.Connection), zap.Error(e.Err))
	}
}

// OnBlock logs the beginning and the end of a block.
func (o logObserver) OnBlock(e BlockEvent) {
	if e.Blocked {
		o.log.Warn("the broker blocks the connection", zap.String("connection", e.Connection), zap.String("reason", e.Reason))
	} else {
		o.log.Info("the broker does not block the connection any more", zap.String("connection", e.Connection))
	}
}

// OnSettle logs messages that were not handled. It does not log each message that goes back
// because something is away: that is logged once, when it begins.
func (o logObserver) OnSettle(e SettleEvent) {
	if e.Verdict == Acked || e.Verdict == Away {
		return
	}
	text := ""
	if e.Err != nil {
		text = e.Err.Error()
	}
	o.log.Warn("message "+string(e.Verdict),
		zap.String("queue", e.Delivery.Queue),
		zap.String("message_id", e.Delivery.ID),
		zap.String("type", e.Delivery.Type),
		zap.String("correlation_id", e.Delivery.CorrelationID),
		zap.Int("attempt", e.Delivery.Attempt),
		zap.Bool("permanent", IsPermanent(e.Err)),
		zap.String("error", text))
}

// OnOverdue logs a handler that ignores its context.
func (o logObserver) OnOverdue(e OverdueEvent) {
	o.log.Warn("handler has not returned although its deadline has passed",
		zap.String("queue", e.Queue), zap.String("message_id", e.MessageID), zap.String("type", e.Type),
		zap.String("correlation_id", e.CorrelationID), zap.Int("attempt", e.Attempt),
		zap.Duration("timeout", e.Timeout), zap.Duration("running", e.Running))
}
