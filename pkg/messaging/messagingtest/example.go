package messagingtest

import (
	"context"
	"log"
	"net/http"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// ForExample gives an example, which has no testing.T, a virtual host with a
// topology in it and a connection, with observers. An error ends the process. done closes the
// connection and removes the virtual host.
func ForExample(topology messaging.Topology, observers ...messaging.Observer) (ctx context.Context, conn *messaging.Conn, done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t := &exampleT{}
	b := newVHost(t)
	if err := messaging.Apply(ctx, b.Admin(), topology); err != nil {
		log.Fatal(err)
	}
	config := b.Config()
	config.Observers = observers
	conn, err := messaging.Connect(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	return ctx, conn, func() {
		if err := conn.Close(ctx); err != nil {
			log.Fatal(err)
		}
		b.Management(t, http.MethodDelete, "/api/vhosts/"+b.VHost, nil, nil)
		cancel()
	}
}

// ExampleURL gives an example the URL of an empty virtual host, with a user who has all rights
// in it and may not manage the broker. An error ends the process.
func ExampleURL() string {
	b := newVHost(&exampleT{})
	return b.withUser(&exampleT{}, messaging.User{Name: b.VHost, Configure: ".*", Write: ".*", Read: ".*"}).URL
}

// exampleT has the methods of testing.TB that the helpers need.
type exampleT struct{}

func (*exampleT) Helper()                  {}
func (*exampleT) Context() context.Context { return context.Background() }
func (*exampleT) Fatal(args ...any)        { log.Fatal(args...) }
func (*exampleT) Fatalf(format string, args ...any) {
	log.Fatalf(format, args...)
}
