package messaging

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ackBook is a broker's view of one channel: which deliveries are unsettled.
type ackBook struct {
	mu        sync.Mutex
	unsettled map[uint64]bool
	frames    int
	mistake   string
	err       error
}

func newAckBook() *ackBook { return &ackBook{unsettled: map[uint64]bool{}} }

func (b *ackBook) deliver(tag uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsettled[tag] = true
}

func (b *ackBook) reject(tag uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unsettled, tag)
}

func (b *ackBook) has(tag uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unsettled[tag]
}

func (b *ackBook) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Ack settles as a broker does: a tag that is unknown costs the channel.
func (b *ackBook) Ack(tag uint64, multiple bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.frames++
	if !b.unsettled[tag] {
		b.mistake = "unknown delivery tag"
	}
	delete(b.unsettled, tag)
	if multiple {
		for other := range b.unsettled {
			if other < tag {
				delete(b.unsettled, other)
			}
		}
	}
	return nil
}

// In whatever order and way up to 30 workers settle: each handled message is acknowledged once,
// and no other one.
func TestAcksInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		book, now := newAckBook(), time.Unix(0, 0)
		a := newAcks(book, 200)
		var inHand []uint64
		acked, others := map[uint64]bool{}, map[uint64]bool{}
		next := uint64(1)
		for range 3000 {
			if len(inHand) < 30 && random.IntN(2) == 0 {
				book.deliver(next)
				inHand = append(inHand, next)
				next++
				continue
			}
			if len(inHand) == 0 {
				continue
			}
			i := random.IntN(len(inHand))
			tag := inHand[i]
			inHand = append(inHand[:i], inHand[i+1:]...)
			if random.IntN(10) == 0 { // rejected
				book.reject(tag)
				others[tag] = true
				a.settle(tag)
				continue
			}
			acked[tag] = true
			require.NoError(t, a.ack(now, tag))
			for _, mine := range inHand {
				require.True(t, book.has(mine), "seed %d: %d was taken along", seed, mine)
			}
			require.LessOrEqual(t, len(a.open.byTag), len(inHand))
		}
		a.flush()
		a.stop()
		require.Empty(t, book.mistake)
		require.Len(t, book.unsettled, len(inHand))
		require.Len(t, acked, int(next)-1-len(inHand)-len(others))
		require.Less(t, book.frames, len(acked), "many in one frame")
	}
}

// While one message stays unsettled, each later acknowledgement takes a frame of its own and no
// memory.
func TestAcksAboveOneThatIsNotSettled(t *testing.T) {
	t.Parallel()
	const messages = 40_000
	book, now := newAckBook(), time.Unix(0, 0)
	a := newAcks(book, 200)
	for tag := uint64(1); tag <= messages; tag++ {
		book.deliver(tag)
		if tag > 1 {
			require.NoError(t, a.ack(now, tag))
		}
	}
	require.Len(t, a.open.byTag, 1)
	require.LessOrEqual(t, len(a.held), 50)
	require.NoError(t, a.ack(now, 1))
	a.flush()
	a.stop()
	require.Empty(t, book.unsettled)
	require.Empty(t, book.mistake)
	require.Empty(t, a.open.byTag)
}

func TestAcksRememberTheirError(t *testing.T) {
	t.Parallel()
	book := newAckBook()
	a := newAcks(book, 200)
	defer a.stop()
	a.sent = time.Unix(0, 0) // so the first one is held
	book.deliver(1)
	closed := errors.New("closed")
	book.fail(closed)
	require.NoError(t, a.ack(time.Unix(0, 0), 1))
	a.flush()
	book.deliver(2)
	require.ErrorIs(t, a.ack(time.Unix(0, 0), 2), closed)
}

// ignoreAcks accepts acknowledgements and does nothing.
type ignoreAcks struct{}

func (ignoreAcks) Ack(uint64, bool) error { return nil }

// 40,000 messages with and without an earlier unsettled one: the time for each is the same.
func BenchmarkAcks(b *testing.B) {
	for name, from := range map[string]uint64{"in order": 1, "above one": 2} {
		b.Run(name, func(b *testing.B) {
			now := time.Unix(0, 0)
			for b.Loop() {
				a := newAcks(ignoreAcks{}, 200)
				for tag := from; tag <= 40_000; tag++ {
					if err := a.ack(now, tag); err != nil {
						b.Fatal(err)
					}
				}
				a.stop()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/40_000, "ns/ack")
		})
	}
}

// A run of deliveries that are done together is acknowledged in one frame, which never covers
// an unsettled one.
func TestARunOfAcksIsOneFrame(t *testing.T) {
	t.Parallel()
	book := newAckBook()
	a := newAcks(book, 100)
	defer a.stop()
	for tag := range uint64(40) {
		book.deliver(tag + 1)
	}
	now := time.Unix(100, 0)
	require.NoError(t, a.ack(now, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
	require.Equal(t, 1, book.frames)
	require.False(t, book.has(10))
	require.True(t, book.has(11))

	later := now.Add(2 * maxAckDelay)
	require.NoError(t, a.ack(later, 11, 12, 14, 15)) // 13 is not settled
	require.Equal(t, 4, book.frames)
	require.True(t, book.has(13))
	require.False(t, book.has(15))
	require.Empty(t, book.mistake)
}
