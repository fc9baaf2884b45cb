// Package watermill has only tests. With an adapter, they run Watermill's tests for Pub/Sub
// implementations (https://watermill.io) against package messaging. The module is outside
// go.work: inside, it would raise the versions of other modules to those that Watermill
// requires.
package watermill
