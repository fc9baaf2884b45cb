package pricing_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/services/orders/internal/pricing"
)

// server answers fetches one at a time, when the test allows it.
type server struct {
	fetches int
	answers chan []string
}

func (s *server) fetch(context.Context) ([]string, error) {
	s.fetches++
	return <-s.answers, nil
}

// ask calls Knows for "mug", and returns a channel with the answer.
func ask(t *testing.T, c *pricing.Catalogue) <-chan bool {
	t.Helper()
	answer := make(chan bool, 1)
	go func() {
		knows, err := c.Knows(t.Context())
		answer <- err == nil && knows("mug")
	}()
	synctest.Wait()
	return answer
}

func TestCallersShareOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answers: make(chan []string)}
		c := pricing.NewCatalogue(s.fetch)
		var answers []<-chan bool
		for range 8 {
			answers = append(answers, ask(t, c))
		}
		s.answers <- []string{"mug"}
		for _, answer := range answers {
			require.True(t, <-answer)
		}
		require.True(t, <-ask(t, c), "from the cache")
		require.Equal(t, 1, s.fetches)

		knows, err := c.Knows(t.Context())
		require.NoError(t, err)
		require.False(t, knows("unicorn"))
	})
}

func TestDropForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answers: make(chan []string, 1)}
		c := pricing.NewCatalogue(s.fetch)
		s.answers <- []string{"mug"}
		require.True(t, <-ask(t, c))
		c.Drop()
		s.answers <- nil // mug is no longer sold
		require.False(t, <-ask(t, c))
		require.Equal(t, 2, s.fetches)
	})
}

func TestDropDuringAFetchIsNotOverwritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answers: make(chan []string)}
		c := pricing.NewCatalogue(s.fetch)
		early := ask(t, c)
		c.Drop()
		late := ask(t, c) // must not get what was fetched before the drop
		require.Equal(t, 2, s.fetches)

		s.answers <- []string{"mug"}
		require.True(t, <-early)
		select {
		case <-late:
			require.Fail(t, "answered with what was fetched before the drop")
		default:
		}
		s.answers <- nil
		require.False(t, <-late)
		require.False(t, <-ask(t, c), "the later fetch is cached")
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	err := away
	c := pricing.NewCatalogue(func(context.Context) ([]string, error) { return []string{"mug"}, err })
	_, got := c.Knows(t.Context())
	require.ErrorIs(t, got, away)

	err = nil
	knows, got := c.Knows(t.Context())
	require.NoError(t, got)
	require.True(t, knows("mug"))
}

func TestAFetchOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := pricing.NewCatalogue(func(ctx context.Context) ([]string, error) { return nil, ctx.Err() })
	_, err := c.Knows(ctx)
	require.NoError(t, err)
}
