package messaging

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire notes what is written to it, and whether a deadline was set for it.
type wire struct {
	net.Conn
	timed   bool
	untimed int
	sizes   []int
	got     bytes.Buffer
}

func (w *wire) SetWriteDeadline(time.Time) error { w.timed = true; return nil }

func (w *wire) Write(b []byte) (int, error) {
	if !w.timed {
		w.untimed++
	}
	w.timed = false
	w.sizes = append(w.sizes, len(b))
	return w.got.Write(b)
}

// A slow network gets its time for each part of a backlog, not once for all of it;
// what is small goes out at once.
func TestABacklogIsWrittenInParts(t *testing.T) {
	t.Parallel()
	for size, want := range map[int][]int{
		1:             {1},
		chunk:         {chunk},
		2*chunk + 100: {chunk, chunk, 100},
	} {
		w := &wire{}
		backlog := bytes.Repeat([]byte("order"), size/5+1)[:size]
		require.NoError(t, (&socket{Conn: w, timeout: time.Second}).write(backlog))
		require.Equal(t, want, w.sizes)
		require.Zero(t, w.untimed)
		require.Equal(t, backlog, w.got.Bytes())
	}
}
