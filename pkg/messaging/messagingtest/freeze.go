package messagingtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Freeze suspends the leader of a quorum queue, as when a node hangs: messages to the queue
// are neither confirmed nor refused, while the connection and all other queues go on. It ends
// with thaw, or with the test.
//
// This holds for channels that have published to the queue before. The first publish of a
// channel to the queue waits in the broker for the leader, and with it the whole channel.
func (b *BrokerInfo) Freeze(t testing.TB, queue string) (thaw func()) {
	t.Helper()
	// A suspended process goes on when the process that has suspended it has ended.
	const freeze = `
		{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"%s">>, queue, <<"%s">>)),
		{Leader, _} = amqqueue:get_pid(Q),
		Self = self(),
		Freezer = spawn(fun() -> true = erlang:suspend_process(whereis(Leader)), Self ! frozen, receive thaw -> ok end end),
		receive frozen -> io:format("~s", [pid_to_list(Freezer)]) end.`
	freezer := strings.TrimSpace(b.Exec(t, "rabbitmqctl", "-q", "eval", fmt.Sprintf(freeze, b.VHost, queue)))
	freezer, _, _ = strings.Cut(freezer, ">")
	thaw = sync.OnceFunc(func() {
		b.Exec(t, "rabbitmqctl", "-q", "eval", fmt.Sprintf(`list_to_pid("%s>") ! thaw.`, freezer))
	})
	t.Cleanup(thaw)
	return thaw
}
