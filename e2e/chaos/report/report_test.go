package report

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/e2e/chaos/load"
	"example.com/orderflow/tools/orderctl/ledger"
)

func TestSlow(t *testing.T) {
	t.Parallel()
	o := Outcome{Fault: "broker killed", Alone: true, BrokerAway: true, Effect: load.Effect{Recovery: time.Second}}
	require.False(t, o.slow())
	o.Recovery, o.BrokerAway = 10*time.Second, false
	require.False(t, o.slow(), "it took no broker away")
	o.BrokerAway = true
	require.True(t, o.slow())
	o.Trouble = "it did not work"
	require.False(t, o.slow())
}

func TestTheLastLine(t *testing.T) {
	t.Parallel()
	r := Report{Seed: 7, Faults: 26, Accepted: 20000, Dead: map[string]int{"a.dead: b": 11}, Outcomes: []Outcome{
		{Fault: "a", Alone: true, Trouble: "it did not work"}, {Fault: "a", Alone: true}, {Fault: "b", Alone: true, Trouble: "no"}, {Fault: "a + b"},
	}}
	require.True(t, r.Passed())
	require.Equal(t, "PASSED: seed 7, 1 of 26 faults alone and 1 pairs, 20000 orders accepted: 0 lost, 0 doubled, 0 stuck; 11 dead letters, all of them the poison that was injected", r.LastLine())
	r.Findings = []ledger.Finding{
		{Kind: "doubled", What: "order x was captured 2 times"}, {Kind: "lost", What: "order y is gone"}, {Kind: "lost", What: "order z is gone"},
		{Kind: "slow", What: "s"}, {Kind: "drill", What: "d"},
	}
	require.False(t, r.Passed())
	require.Equal(t, "FAILED: seed 7, 1 of 26 faults alone and 1 pairs, 20000 orders accepted: 2 lost (order y is gone), 1 doubled (order x was captured 2 times), 0 stuck, 0 wrong, "+
		"0 dead that should live, 0 poison missing, 1 slow to recover (s), 1 troubles of the drill (d)", r.LastLine())
}

// A report of two faults is written, and measured in between.
func TestAReportIsWritten(t *testing.T) {
	t.Parallel()
	started := time.Now()
	at := func(second int) time.Duration { return time.Duration(second) * time.Second }
	r := New(Run{
		Seed: 7, Duration: time.Minute, Rate: 15, Faults: 26, Cluster: true, Started: started, LoadEnded: at(40),
		Outcomes: []Outcome{
			{Fault: "a", Alone: true, BrokerAway: true, At: at(5), Took: at(5), Repaired: at(10)},
			{Fault: "b", Alone: true, At: at(20), Took: at(2), Repaired: at(22), Trouble: "it did not work"},
		},
		Samples:  []load.Sample{{At: at(4), Accepted: 1, Ended: 1}, {At: at(15), Accepted: 2, Ended: 2}, {At: at(21), Accepted: 3, Ended: 3}},
		NotReady: []string{"billing: why"},
		Books:    ledger.Books{Known: ledger.Known{Accepted: []string{"x", "y", "z"}}},
		BooksErr: errors.New("no database"),
		Absorbed: []time.Time{started.Add(at(6)), started.Add(at(30))},
		Retries:  map[string]int{"503": 2}, Unexpected: []string{"500"},
	})
	require.Equal(t, load.Effect{First: 1, Accepted: 1, Ended: 1, Pause: at(10), Recovery: at(5)}, r.Outcomes[0].Effect)
	require.Equal(t, []int{1, 1}, []int{r.Outcomes[0].Absorbed, r.Outcomes[1].Absorbed})
	var kinds []string
	for _, f := range r.Findings {
		kinds = append(kinds, f.Kind)
	}
	require.Equal(t, []string{ledger.Drill, ledger.Wrong, ledger.Slow}, kinds)

	folder := t.TempDir()
	page, err := r.Write(folder)
	require.NoError(t, err)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "- a: 10.0 s\n")
	require.Contains(t, string(text), "b (did not work, and was repaired)")
	require.Contains(t, string(text), "- billing: why")
	require.NotRegexp(t, `\{[a-zA-Z]+\}`, string(text), "everything is filled in")
	require.FileExists(t, filepath.Join(folder, "chaos-cluster.json"))
	require.FileExists(t, filepath.Join(folder, "chaos-cluster.png"))
}
