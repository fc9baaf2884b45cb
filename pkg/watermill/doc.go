// Package watermill has no code for programs: its tests run the Pub/Sub tests of Watermill
// (https://watermill.io), which every Pub/Sub implementation should pass, against package
// messaging, by an adapter. The module is outside go.work, which would raise the versions
// of other modules to those that Watermill asks for.
package watermill
